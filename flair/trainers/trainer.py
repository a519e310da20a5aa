"""Train any Flair model."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Optional, Union

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer

from flair import _runtime
from flair.data.corpus import Corpus
from flair.data.dictionary import Dictionary
from flair.nn.model import Model
from flair.nn.precision import DTypeLike
from flair.samplers import FlairSampler
from flair.trainers.loop import chunks
from flair.trainers.plan import TrainingPlan
from flair.trainers.plugins.base import BasePlugin, Pluggable, TrainerPlugin
from flair.trainers.plugins.functional.anneal_on_plateau import AnnealingPlugin
from flair.trainers.plugins.functional.linear_scheduler import LinearSchedulerPlugin
from flair.trainers.plugins.metric_records import MetricRecord
from flair.trainers.resume import ResumePoint, training_state
from flair.trainers.run import TrainingRun
from flair.trainers.state import to_cpu
from flair.training_utils import EmbeddingStorageMode


class ModelTrainer(Pluggable):
    """Trains a model on a corpus.

    :meth:`train` is for training a model on fixed embeddings with SGD, :meth:`fine_tune` for fine-tuning a transformer
    with AdamW, and :meth:`train_custom` for everything else. Plugins listen to the events below; the default
    schedulers, the log files and the checkpoints are plugins themselves.
    """

    valid_events = {
        "after_setup",
        "before_training_epoch",
        "before_training_batch",
        "before_training_optimizer_step",
        "after_training_batch",
        "after_training_epoch",
        "after_evaluation",
        "after_training_loop",
        "training_interrupt",
        "_training_finally",
        "_training_exception",
        "after_training",
        "metric_recorded",
    }

    def __init__(self, model: Model, corpus: Corpus) -> None:
        """Prepare a training.

        Args:
            model: the model to train, in place.
            corpus: the data to train and evaluate on.
        """
        super().__init__()
        self.model = model
        self.corpus = corpus
        self.context_stack: Optional[ExitStack] = None
        self._plugins_of_run: list[BasePlugin] = []
        self.reset_training_attributes()

    def reset_training_attributes(self) -> None:
        """Forget what belongs to a single training: optimizer, batch size, return values."""
        self.optimizer: Any = None
        self._optimization: Any = None
        self._run: Optional[TrainingRun] = None
        self.mini_batch_size: Any = None
        self.ddp_model: Optional[DistributedDataParallel] = None
        self.return_values: dict[str, Any] = {}

    @staticmethod
    def check_for_and_delete_previous_best_models(base_path: Union[str, Path]) -> None:
        """Delete files named ``best-model*`` of an earlier training, so that none is taken for this one's."""
        for file in sorted(Path(base_path).glob("best-model*")):
            if file.is_file():
                _runtime.logger.warning(
                    f"The best model of an earlier training is deleted, because a new one begins here: {file}"
                )
                file.unlink()

    @staticmethod
    def get_batch_steps(batch: list[Any], mini_batch_chunk_size: Optional[int]) -> list[list[Any]]:
        """Cut a batch into the parts that are computed one after the other."""
        return chunks(batch, mini_batch_chunk_size)

    def train(
        self,
        base_path: Union[str, Path],
        anneal_factor: float = 0.5,
        patience: int = 3,
        min_learning_rate: Union[float, list[float]] = 0.0001,
        initial_extra_patience: int = 0,
        anneal_with_restarts: bool = False,
        learning_rate: float = 0.1,
        decoder_learning_rate: Optional[float] = None,
        mini_batch_size: int = 32,
        eval_batch_size: int = 64,
        mini_batch_chunk_size: Optional[int] = None,
        max_epochs: int = 100,
        optimizer: type[Optimizer] = torch.optim.SGD,
        train_with_dev: bool = False,
        train_with_test: bool = False,
        reduce_transformer_vocab: bool = False,
        main_evaluation_metric: tuple[str, str] = ("micro avg", "f1-score"),
        monitor_test: bool = False,
        monitor_train_sample: float = 0.0,
        use_final_model_for_eval: bool = False,
        gold_label_dictionary_for_eval: Optional[Dictionary] = None,
        exclude_labels: Optional[list[str]] = None,
        sampler: Optional[Union[FlairSampler, type[FlairSampler]]] = None,
        shuffle: bool = True,
        shuffle_first_epoch: bool = True,
        embeddings_storage_mode: EmbeddingStorageMode = "cpu",
        epoch: int = 0,
        save_final_model: bool = True,
        save_optimizer_state: bool = False,
        save_model_each_k_epochs: int = 0,
        create_file_logs: bool = True,
        create_loss_file: bool = True,
        write_weights: bool = False,
        multi_gpu: bool = False,
        plugins: Optional[list[TrainerPlugin]] = None,
        attach_default_scheduler: bool = True,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Train with SGD; the learning rate falls when the score stops improving.

        Args:
            base_path: the folder for models, logs and predictions.
            anneal_factor: what the learning rate is multiplied with, below 1.
            patience: epochs without improvement before that.
            min_learning_rate: training ends when a learning rate falls below this; a list has one value a group.
            initial_extra_patience: further epochs of patience before the first annealing.
            anneal_with_restarts: go on from the best model's weights after annealing.
            attach_default_scheduler: False leaves the learning rate to the given plugins.
            **kwargs: further arguments of :meth:`train_custom` and of the optimizer.

        All other arguments are those of :meth:`train_custom`.

        Returns:
            A dict with "test_score", and what plugins add.
        """
        plugins = [] if plugins is None else plugins
        if attach_default_scheduler:
            if anneal_factor >= 1.0:
                raise ValueError(f"Factor should be < 1.0. Found anneal_factor={anneal_factor}.")
            plugins.append(
                AnnealingPlugin(
                    base_path=base_path,
                    min_learning_rate=min_learning_rate,
                    anneal_factor=anneal_factor,
                    patience=patience,
                    initial_extra_patience=initial_extra_patience,
                    anneal_with_restarts=anneal_with_restarts,
                )
            )
        return self.train_custom(
            base_path=base_path,
            learning_rate=learning_rate,
            decoder_learning_rate=decoder_learning_rate,
            mini_batch_size=mini_batch_size,
            eval_batch_size=eval_batch_size,
            mini_batch_chunk_size=mini_batch_chunk_size,
            max_epochs=max_epochs,
            optimizer=optimizer,
            train_with_dev=train_with_dev,
            train_with_test=train_with_test,
            reduce_transformer_vocab=reduce_transformer_vocab,
            main_evaluation_metric=main_evaluation_metric,
            monitor_test=monitor_test,
            monitor_train_sample=monitor_train_sample,
            use_final_model_for_eval=use_final_model_for_eval,
            gold_label_dictionary_for_eval=gold_label_dictionary_for_eval,
            exclude_labels=exclude_labels,
            sampler=sampler,
            shuffle=shuffle,
            shuffle_first_epoch=shuffle_first_epoch,
            embeddings_storage_mode=embeddings_storage_mode,
            epoch=epoch,
            save_final_model=save_final_model,
            save_optimizer_state=save_optimizer_state,
            save_model_each_k_epochs=save_model_each_k_epochs,
            create_file_logs=create_file_logs,
            create_loss_file=create_loss_file,
            write_weights=write_weights,
            multi_gpu=multi_gpu,
            plugins=plugins,
            **kwargs,
        )

    def fine_tune(
        self,
        base_path: Union[str, Path],
        warmup_fraction: float = 0.1,
        learning_rate: float = 5e-5,
        decoder_learning_rate: Optional[float] = None,
        mini_batch_size: int = 4,
        eval_batch_size: int = 16,
        mini_batch_chunk_size: Optional[int] = None,
        max_epochs: int = 10,
        optimizer: type[Optimizer] = AdamW,
        train_with_dev: bool = False,
        train_with_test: bool = False,
        reduce_transformer_vocab: bool = False,
        main_evaluation_metric: tuple[str, str] = ("micro avg", "f1-score"),
        monitor_test: bool = False,
        monitor_train_sample: float = 0.0,
        use_final_model_for_eval: bool = True,
        gold_label_dictionary_for_eval: Optional[Dictionary] = None,
        exclude_labels: Optional[list[str]] = None,
        sampler: Optional[Union[FlairSampler, type[FlairSampler]]] = None,
        shuffle: bool = True,
        shuffle_first_epoch: bool = True,
        embeddings_storage_mode: EmbeddingStorageMode = "none",
        epoch: int = 0,
        save_final_model: bool = True,
        save_optimizer_state: bool = False,
        save_model_each_k_epochs: int = 0,
        create_file_logs: bool = True,
        create_loss_file: bool = True,
        write_weights: bool = False,
        use_amp: bool = False,
        multi_gpu: bool = False,
        plugins: Optional[list[TrainerPlugin]] = None,
        attach_default_scheduler: bool = True,
        *,
        amp_dtype: DTypeLike = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Fine-tune with AdamW; the learning rate rises during a warm-up, then falls linearly to zero.

        Args:
            base_path: the folder for models, logs and predictions.
            warmup_fraction: the part of all steps during which the learning rate rises, 0 to 1.
            attach_default_scheduler: False leaves the learning rate to the given plugins.
            **kwargs: further arguments of :meth:`train_custom` and of the optimizer.

        All other arguments are those of :meth:`train_custom`.

        Returns:
            A dict with "test_score", and what plugins add.
        """
        plugins = [] if plugins is None else plugins
        if attach_default_scheduler:
            plugins.append(LinearSchedulerPlugin(warmup_fraction=warmup_fraction))
        return self.train_custom(
            base_path=base_path,
            learning_rate=learning_rate,
            decoder_learning_rate=decoder_learning_rate,
            mini_batch_size=mini_batch_size,
            eval_batch_size=eval_batch_size,
            mini_batch_chunk_size=mini_batch_chunk_size,
            max_epochs=max_epochs,
            optimizer=optimizer,
            train_with_dev=train_with_dev,
            train_with_test=train_with_test,
            reduce_transformer_vocab=reduce_transformer_vocab,
            main_evaluation_metric=main_evaluation_metric,
            monitor_test=monitor_test,
            monitor_train_sample=monitor_train_sample,
            use_final_model_for_eval=use_final_model_for_eval,
            gold_label_dictionary_for_eval=gold_label_dictionary_for_eval,
            exclude_labels=exclude_labels,
            sampler=sampler,
            shuffle=shuffle,
            shuffle_first_epoch=shuffle_first_epoch,
            embeddings_storage_mode=embeddings_storage_mode,
            epoch=epoch,
            save_final_model=save_final_model,
            save_optimizer_state=save_optimizer_state,
            save_model_each_k_epochs=save_model_each_k_epochs,
            create_file_logs=create_file_logs,
            create_loss_file=create_loss_file,
            write_weights=write_weights,
            use_amp=use_amp,
            multi_gpu=multi_gpu,
            plugins=plugins,
            amp_dtype=amp_dtype,
            **kwargs,
        )

    def train_custom(
        self,
        base_path: Union[str, Path],
        learning_rate: float = 0.1,
        decoder_learning_rate: Optional[float] = None,
        mini_batch_size: int = 32,
        eval_batch_size: int = 64,
        mini_batch_chunk_size: Optional[int] = None,
        max_epochs: int = 100,
        optimizer: type[Optimizer] = SGD,
        train_with_dev: bool = False,
        train_with_test: bool = False,
        max_grad_norm: Optional[float] = 5.0,
        reduce_transformer_vocab: bool = False,
        main_evaluation_metric: tuple[str, str] = ("micro avg", "f1-score"),
        monitor_test: bool = False,
        monitor_train_sample: float = 0.0,
        use_final_model_for_eval: bool = False,
        gold_label_dictionary_for_eval: Optional[Dictionary] = None,
        exclude_labels: Optional[list[str]] = None,
        sampler: Optional[Union[FlairSampler, type[FlairSampler]]] = None,
        shuffle: bool = True,
        shuffle_first_epoch: bool = True,
        embeddings_storage_mode: EmbeddingStorageMode = "cpu",
        epoch: int = 0,
        save_final_model: bool = True,
        save_optimizer_state: bool = False,
        save_model_each_k_epochs: int = 0,
        create_file_logs: bool = True,
        create_loss_file: bool = True,
        write_weights: bool = False,
        use_amp: bool = False,
        multi_gpu: bool = False,
        plugins: Optional[list[TrainerPlugin]] = None,
        *,
        amp_dtype: DTypeLike = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Train without a learning-rate schedule, unless plugins bring one.

        The gradient of a batch is that of the summed loss of its data points.

        Args:
            base_path: the folder for models, logs and predictions; created if missing.
            learning_rate: the optimizer's learning rate.
            decoder_learning_rate: another one for all parameters outside the embeddings, which then form the first of
                two parameter groups.
            mini_batch_size: data points per optimizer step (per process in distributed training).
            eval_batch_size: data points per prediction batch during evaluation.
            mini_batch_chunk_size: compute a batch in parts of this size, adding up gradients; saves memory.
            max_epochs: how often to go through the training data.
            optimizer: an optimizer class of ``torch.optim`` or of the same kind.
            train_with_dev: train on the dev split as well, which leaves no data to choose the best model with.
            train_with_test: train on the test split as well.
            max_grad_norm: gradients are scaled down to this norm; None leaves them as they are.
            reduce_transformer_vocab: train only those rows of transformers' embedding matrices that the corpus uses.
            main_evaluation_metric: (average, metric) to choose the best model by.
            monitor_test: evaluate on the test split after each epoch.
            monitor_train_sample: evaluate on a part of the training data after each epoch: a share (float) or a number
                of data points (int).
            use_final_model_for_eval: evaluate and keep the model of the last epoch, not of the best.
            gold_label_dictionary_for_eval: labels outside this dictionary count as unknown in evaluations.
            exclude_labels: labels that are not evaluated.
            sampler: a sampler or a class of one, to draw training data points with; it replaces shuffling.
            shuffle: draw training data points in random order.
            shuffle_first_epoch: also in the first epoch.
            embeddings_storage_mode: where to keep embeddings between epochs: "none", "cpu" or "gpu". Embeddings that
                are trained are never kept.
            epoch: the number of epochs that are done already.
            save_final_model: write ``final-model.pt``.
            save_optimizer_state: write the state of optimizer, scheduler and random generators with each model.
            save_model_each_k_epochs: write ``model_epoch_<n>.pt`` every so many epochs; 0 never.
            create_file_logs: write ``training.log``.
            create_loss_file: write ``loss.tsv``.
            write_weights: write ``weights.txt``.
            use_amp: compute losses in automatic mixed precision.
            multi_gpu: train in several processes, see :func:`flair.distributed_utils.launch_distributed`.
            plugins: further plugins.
            amp_dtype: the type for mixed precision, "bfloat16" or "float16"; default float16 on CUDA, else bfloat16.
            **kwargs: further arguments of the optimizer.

        Returns:
            A dict with "test_score" (0 without test data), and what plugins add.

        Raises:
            ValueError: no training data, no trainable parameters, or an argument out of range.
            CheckpointError: the model could not be saved after training.
            NonFiniteLossError: the loss became infinite or undefined.
            RuntimeError: ``multi_gpu`` outside of a distributed run.
        """
        plan = TrainingPlan.of(
            base_path=base_path,
            learning_rate=learning_rate,
            decoder_learning_rate=decoder_learning_rate,
            mini_batch_size=mini_batch_size,
            eval_batch_size=eval_batch_size,
            mini_batch_chunk_size=mini_batch_chunk_size,
            max_epochs=max_epochs,
            optimizer=optimizer,
            train_with_dev=train_with_dev,
            train_with_test=train_with_test,
            max_grad_norm=max_grad_norm,
            reduce_transformer_vocab=reduce_transformer_vocab,
            main_evaluation_metric=main_evaluation_metric,
            monitor_test=monitor_test,
            monitor_train_sample=monitor_train_sample,
            use_final_model_for_eval=use_final_model_for_eval,
            gold_label_dictionary_for_eval=gold_label_dictionary_for_eval,
            exclude_labels=exclude_labels,
            sampler=sampler,
            shuffle=shuffle,
            shuffle_first_epoch=shuffle_first_epoch,
            embeddings_storage_mode=embeddings_storage_mode,
            epoch=epoch,
            save_final_model=save_final_model,
            save_optimizer_state=save_optimizer_state,
            save_model_each_k_epochs=save_model_each_k_epochs,
            create_file_logs=create_file_logs,
            create_loss_file=create_loss_file,
            write_weights=write_weights,
            use_amp=use_amp,
            multi_gpu=multi_gpu,
            plugins=plugins,
            amp_dtype=amp_dtype,
            kwargs=kwargs,
        )
        return TrainingRun(self, plan).execute()

    def resume(
        self, model: Union[Model, str, Path], additional_epochs: Optional[int] = None, **trainer_args: Any
    ) -> dict[str, Any]:
        """Go on with a training from a checkpoint, as if it had never been interrupted.

        A checkpoint is a model that was saved with ``save_optimizer_state=True`` at the end of an epoch: any
        ``model_epoch_<n>.pt``, and the ``best-model.pt`` and the ``final-model.pt`` of a training that was not
        interrupted. On a CPU the result is the same to the bit as that of a training without the interruption. For that
        the corpus must be the same, in the same order.

        The weights that are trained are those of the checkpoint; this trainer's ``model`` is replaced.

        Args:
            model: a model loaded from a checkpoint, or the path of one.
            additional_epochs: train so many more epochs; by default, to the training's ``max_epochs``.
            **trainer_args: arguments of the training that shall be others than before, settings of its schedule among
                them. What a file cannot hold must be passed again: ``plugins`` and a ``sampler`` of one's own classes.
                A plugin passed takes the place of the training's plugin of that class.

        Returns:
            What :meth:`train_custom` returns.

        Raises:
            FileNotFoundError: no such file.
            CheckpointError: the model was saved without the state of its training or in the middle of an epoch, or the
                state does not fit.
            ValueError: an argument must be passed again; the message names it.
        """
        point = ResumePoint.of(model, type(self.model) if isinstance(self.model, Model) else Model)
        plan = point.plan(additional_epochs, trainer_args)
        before, self.model = self.model, point.model
        try:
            run = TrainingRun(self, plan, point)
        except BaseException:
            self.model = before
            raise
        return run.execute()

    # --- for plugins and the run ---

    def _attach_for_run(self, plugins: list[Any]) -> None:
        """Attach the plugins of a new training, in the order given."""
        for plugin in plugins:
            plugin.attach_to(self)
            self._plugins_of_run.append(plugin)

    def _detach_plugins_of_run(self) -> None:
        """Detach what the last training attached; plugins that the user attached to the trainer itself stay."""
        for plugin in self._plugins_of_run:
            if plugin.pluggable is self:
                plugin.detach()
        self._plugins_of_run = []

    def _record(self, metric: MetricRecord) -> None:
        """Tell the plugins about a metric."""
        self.dispatch("metric_recorded", metric)

    def _load_model(self, model_file: Union[str, Path]) -> None:
        """Take over the weights of a saved model."""
        device = next(self.model.parameters()).device
        state = type(self.model).load(model_file).state_dict()
        self.model.load_state_dict(state)
        self.model.to(device)
        if self._optimization is not None:
            self._optimization.masters.refresh()

    def _save_model(self, model_file: Union[str, Path], save_optimizer_state: bool = False) -> None:
        """Write the model, and on demand the state of the training with it."""
        model = self.model
        if not save_optimizer_state or self._run is None:
            model.save(model_file, checkpoint=save_optimizer_state)
            return
        # torch's load_state_dict leaves the entry "training" alone.
        model.optimizer_state_dict = {**to_cpu(self.optimizer.state_dict()), "training": training_state(self._run)}
        model.scheduler_state_dict = self._scheduler_state()
        try:
            model.save(model_file, checkpoint=True)
        finally:
            model.optimizer_state_dict = None
            model.scheduler_state_dict = None

    def _scheduler_state(self) -> Optional[dict[str, Any]]:
        """The state of the first plugin's scheduler."""
        for plugin in self.plugins:
            scheduler = getattr(plugin, "scheduler", None)
            if scheduler is not None:
                return to_cpu(scheduler.state_dict())
        return None
