"""Training of character language models (Akbik, Blythe, Vollgraf 2018) on plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Union

import torch
from torch.optim import SGD, Optimizer

from flair import _runtime
from flair.checkpoint import load_state
from flair.nn.language_model import LanguageModel
from flair.trainers._language_model.run import LanguageModelPlan, LanguageModelRun, batchify, evaluate
from flair.trainers._language_model.text import TextCorpus, TextDataset

__all__ = ["LanguageModelTrainer", "TextCorpus", "TextDataset"]


class LanguageModelTrainer:
    """Trains a language model to predict the next character (the previous one, for backward models)."""

    def __init__(
        self,
        model: LanguageModel,
        corpus: TextCorpus,
        optimizer: type[Optimizer] = SGD,
        test_mode: bool = False,
        epoch: int = 0,
        split: int = 0,
        loss: float = 10000,
        optimizer_state: Optional[dict[str, Any]] = None,
        scaler_state: Optional[dict[str, Any]] = None,
    ) -> None:
        """Bring model and text together. To continue a training use :meth:`load_checkpoint`.

        Args:
            model: with a decoder, the dictionary of the corpus and its reading direction.
            corpus: the text.
            optimizer: a class of ``torch.optim`` or :mod:`flair.optim`.
            test_mode: without effect; accepted because released versions do.
            epoch: epochs that are done.
            split: splits of the current epoch that are done.
            loss: the best validation loss so far.
            optimizer_state: of an earlier training.
            scaler_state: of gradient scaling and 16-bit weights in an earlier training.

        Raises:
            ValueError: model and corpus do not fit together.
        """
        self.model = model
        self.optimizer = optimizer
        self.corpus = corpus
        self.test_mode = test_mode
        self.loss_function = torch.nn.CrossEntropyLoss()
        self.log_interval = 100
        self.epoch = epoch
        self.split = split
        self.loss = loss
        self.optimizer_state = optimizer_state
        self.scaler_state = scaler_state
        self.training_state: Optional[dict[str, Any]] = None
        """What else a checkpoint holds: schedule, order of the splits, random generators."""
        self._check_fit()

    def _check_fit(self) -> None:
        model, corpus = self.model, self.corpus
        if model.decoder is None:
            raise ValueError("The language model has no decoder and predicts nothing. Load it with has_decoder=True.")
        if model.is_forward_lm != corpus.forward:
            raise ValueError(
                f"The model has is_forward_lm={model.is_forward_lm} and the corpus forward={corpus.forward}. Give both "
                "the same direction."
            )
        if len(corpus.dictionary) > model.encoder.num_embeddings or corpus.dictionary != model.dictionary:
            raise ValueError(
                f"The dictionaries of the model ({len(model.dictionary)} items) and of the corpus "
                f"({len(corpus.dictionary)} items) differ. Make both with the same one."
            )
        if model.document_delimiter != corpus.document_delimiter:
            _runtime.logger.warning(
                f"The corpus separates documents by {corpus.document_delimiter!r}; embeddings of this model will begin "
                f"sentences with its document_delimiter {model.document_delimiter!r}."
            )

    def train(
        self,
        base_path: Union[Path, str],
        sequence_length: int,
        learning_rate: float = 20,
        mini_batch_size: int = 100,
        anneal_factor: float = 0.25,
        patience: int = 10,
        clip: float = 0.25,
        max_epochs: int = 1000,
        checkpoint: bool = False,
        grow_to_sequence_length: int = 0,
        num_workers: int = 2,
        use_amp: bool = False,
        **kwargs: Any,
    ) -> None:
        """Train, and test the best model, whose weights the model has afterwards.

        The training text is cut into ``mini_batch_size`` equal parts that are read side by side. After every split
        the model is validated; the best one is ``best-lm.pt``. The folder also gets ``training.log``, ``loss.txt``
        (one line a split, appended), ``epoch_<n>.pt`` after each epoch but the last, and with ``checkpoint=True``
        ``checkpoint.pt`` after each split; :meth:`load_checkpoint` continues from these. Ctrl-C ends the training
        early.

        Args:
            base_path: the output folder.
            sequence_length: characters per step, through which gradients flow.
            learning_rate: the optimizer's; a checkpoint brings its own.
            mini_batch_size: texts side by side.
            anneal_factor: what the learning rate is multiplied by when the validation loss stops falling.
            patience: splits without improvement that are tolerated.
            clip: the largest norm of the gradient.
            max_epochs: epochs in all, those of a checkpoint included.
            checkpoint: write ``checkpoint.pt`` after each split.
            grow_to_sequence_length: lengthen ``sequence_length`` by one each split, up to this.
            num_workers: 0 reads splits when they are needed, more read the next one meanwhile. Changes no result.
            use_amp: mixed precision (float16) on GPUs.
            **kwargs: further arguments of the optimizer.

        Raises:
            RuntimeError: a text is too short for the batch size.
            ValueError: an argument or a text makes no sense.
            flair.trainers.loop.NonFiniteLossError: the loss is no number any more.
        """
        plan = LanguageModelPlan(
            base_path=Path(base_path),
            sequence_length=sequence_length,
            learning_rate=learning_rate,
            mini_batch_size=mini_batch_size,
            anneal_factor=anneal_factor,
            patience=patience,
            max_grad_norm=clip,
            max_epochs=max_epochs,
            checkpoint=checkpoint,
            grow_to_sequence_length=grow_to_sequence_length,
            num_workers=num_workers,
            use_amp=use_amp,
            optimizer=self.optimizer,
            kwargs={"lr": learning_rate, **kwargs},
        )
        LanguageModelRun(self, plan).execute()

    def evaluate(self, data_source: torch.Tensor, eval_batch_size: int, sequence_length: int) -> float:
        """The loss on a text, per row.

        Args:
            data_source: indices ``[characters]``, or already arranged ``[rows, eval_batch_size]``.
            eval_batch_size: texts side by side.
            sequence_length: characters per step; bounds memory.

        Raises:
            RuntimeError: the text has less than two rows.
        """
        rows = batchify(data_source, eval_batch_size) if data_source.dim() == 1 else data_source
        if len(rows) < 2:
            raise RuntimeError(f"A text of {data_source.numel()} characters is too short for {eval_batch_size} parts.")
        return evaluate(self.model, rows, sequence_length)

    @staticmethod
    def load_checkpoint(
        checkpoint_file: Union[str, Path], corpus: TextCorpus, optimizer: type[Optimizer] = SGD
    ) -> LanguageModelTrainer:
        """A trainer that goes on where ``checkpoint.pt`` or ``epoch_<n>.pt`` was written, with equal results on CPUs.

        Checkpoints of released versions lack schedule and random generators; those start anew.

        Args:
            checkpoint_file: the file.
            corpus: the text of that training.
            optimizer: the optimizer of that training.

        Raises:
            FileNotFoundError: there is no such file.
            flair.checkpoint.CheckpointError: it is damaged, or no checkpoint of a language model.
        """
        state = load_state(checkpoint_file)
        trainer = LanguageModelTrainer(
            LanguageModel._from_state(state),
            corpus,
            optimizer,
            epoch=state.get("epoch") or 0,
            split=state.get("split") or 0,
            loss=10000 if state.get("loss") is None else state["loss"],
            optimizer_state=state.get("optimizer_state_dict"),
            scaler_state=state.get("scaler_state"),
        )
        trainer.training_state = state.get("training_state")
        return trainer


for _exported in (TextDataset, TextCorpus):
    _exported.__module__ = __name__
