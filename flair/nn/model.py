"""The base of every model: forward_loss, predict, evaluate, save and load."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Optional, Union, cast

import torch
from torch.nn import functional
from torch.utils.data import Dataset
from tqdm import tqdm

from flair import _runtime
from flair.checkpoint import CheckpointError, save_state
from flair.data.corpus import Corpus
from flair.data.dictionary import Dictionary
from flair.data.loading import DataLoader, FlairDatapointDataset
from flair.data.pair import DataPair, DataTriple
from flair.data.sentence import Sentence
from flair.data.units import DT, DT2, DataPoint
from flair.embeddings._transformer.base_weights import add_base, split_base, without_packed_bases
from flair.embeddings.base import Embeddings, load_embeddings
from flair.embeddings.transformer import TransformerEmbeddings
from flair.nn._loading import announce, class_of, file_is_to_blame, read_state
from flair.nn._parameters import cast_floating, fill_parameters, with_transformer_options
from flair.nn.decoder import DeepNCMDecoder
from flair.nn.dropout import LockedDropout, WordDropout
from flair.nn.evaluation import LabelTable, classification_result
from flair.nn.precision import (
    DTypeLike,
    check_device_supports,
    common_dtype,
    compute_dtype,
    dtype_name,
    resolve_dtype,
)
from flair.tokenization import Tokenizer, tokenizer_from_dict
from flair.training_utils import EmbeddingStorageMode, Result, store_embeddings

PREDICTED = "predicted"
"""The label type under which evaluation writes its predictions."""

_mode_lock = threading.Lock()


class Model(torch.nn.Module, Generic[DT], ABC):
    """Base of all trainable models.

    A model is a torch module that knows its loss (:meth:`forward_loss`), scores itself (:meth:`evaluate`) and describes
    itself as data (:meth:`_get_state_dict`) such that :meth:`load` rebuilds it.
    """

    model_card: Optional[dict[str, Any]] = None
    optimizer_state_dict: Optional[dict[str, Any]] = None
    scheduler_state_dict: Optional[dict[str, Any]] = None
    _tokenizer: Optional[Tokenizer] = None
    _readers = 0  # predictions under way, and the modules to put back into training mode after the last of them
    _paused: tuple[torch.nn.Module, ...] = ()

    def __init__(self) -> None:
        super().__init__()

    # --- what a model must define ---

    @property
    @abstractmethod
    def label_type(self) -> str:
        """The label type this model is trained on and writes when it predicts."""
        raise NotImplementedError

    @abstractmethod
    def forward_loss(self, data_points: list[DT]) -> tuple[torch.Tensor, int]:
        """The summed loss over a batch and the number of data points it was summed over."""
        raise NotImplementedError

    @abstractmethod
    def evaluate(
        self,
        data_points: Union[list[DT], Dataset],
        gold_label_type: str,
        out_path: Optional[Union[str, Path]] = None,
        embedding_storage_mode: EmbeddingStorageMode = "none",
        mini_batch_size: int = 32,
        main_evaluation_metric: tuple[str, str] = ("micro avg", "f1-score"),
        exclude_labels: Optional[list[str]] = None,
        gold_label_dictionary: Optional[Dictionary] = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> Result:
        """Predict, compare with the gold labels, and return the scores."""
        raise NotImplementedError

    # --- properties ---

    @property
    def tokenizer(self) -> Optional[Tokenizer]:
        """The tokenizer of the corpus this model was trained on, if it is known."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Optional[Tokenizer]) -> None:
        self._tokenizer = value

    @property
    def license_info(self) -> str:
        """The licence noted in the model card."""
        return (self.model_card or {}).get("license_info", "No license information available")

    @license_info.setter
    def license_info(self, value: Optional[str]) -> None:
        self.model_card = {**(self.model_card or {}), "license_info": value}

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the model: that of its embeddings, or of its first weights without any."""
        embeddings = self._modules.get("embeddings")
        if isinstance(embeddings, Embeddings):
            return embeddings.dtype
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)

    def _follow_embeddings(self) -> None:
        """Move to the current device and give everything outside the embeddings their dtype.

        Constructors call this last, so that no float32 head stands on a bfloat16 transformer.
        """
        dtype = self.dtype
        for name, module in self.named_children():
            if name not in ("embeddings", "loss_function"):  # losses are computed in float32
                module.to(dtype=dtype)
        for owned in (self._parameters, self._buffers):
            for tensor in owned.values():
                if tensor is not None and tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)
        self.to(_runtime.device)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Run without dropout, then restore the mode. Several threads may be inside at once."""
        with _mode_lock:
            if self._readers == 0 and self.training:
                self._paused = tuple(module for module in self.modules() if module.training)
                self.eval()
            self._readers += 1
        try:
            yield
        finally:
            with _mode_lock:
                self._readers -= 1
                if self._readers == 0:
                    for module in self._paused:
                        module.training = True
                    self._paused = ()

    # --- model files ---

    def _get_state_dict(self) -> dict[str, Any]:
        """Everything the model is rebuilt from: its weights under ``state_dict``, beside them its configuration."""
        return {
            "state_dict": self.state_dict(),
            "__cls__": type(self).__name__,
            "tokenizer_info": None if self._tokenizer is None else self._tokenizer.to_dict(),
            "dtype": dtype_name(self.dtype),
        }

    @classmethod
    def _init_model_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> Model:
        """Build the model from a decoded state; keyword arguments go to the constructor.

        This is where the dtype policy is applied. ``state["dtype_policy"]`` (what :meth:`load` was asked for) casts
        every weight. Without one, a file that records its dtype is taken as it is, and a file that does not (a released
        version's) is brought to the type that most of its weights have.
        """
        tensors = state["state_dict"]
        dtype = resolve_dtype(state.get("dtype_policy"))
        if dtype is None and "dtype" not in state:
            dtype = common_dtype(tensors.values())
            if any(tensor.is_floating_point() and tensor.dtype != dtype for tensor in tensors.values()):
                _runtime.logger.info(f"The file mixes floating-point types. The whole model is now {dtype}.")
        if isinstance(kwargs.get("embeddings"), dict):
            base = state.get("base_model") if "base_models" in state else None
            params = with_transformer_options(
                kwargs["embeddings"],
                dtype=dtype,
                peft_config=state.get("peft_config"),
                quantised_base=None if base is None or isinstance(base, torch.nn.Module) else str(base),
            )
            kwargs["embeddings"] = load_embeddings(params)
        model = cls(**kwargs)
        shared: set[str] = set()
        if "base_models" in state or isinstance(state.get("base_model"), torch.nn.Module):
            tensors, shared = add_base(tensors, state.get("base_models", {}), state.get("base_model"))
        tensors = cast_floating(tensors, dtype)
        fill_parameters(model, tensors, origin=str(state.get("origin", "")), shared_with_others=shared)
        tokenizer_info = state.get("tokenizer_info")
        if tokenizer_info:
            try:
                model.tokenizer = tokenizer_from_dict(tokenizer_info)
            except (ImportError, KeyError, NotImplementedError, ValueError) as error:
                _runtime.logger.warning(f"The model's tokenizer could not be rebuilt and is left unset: {error}")
        return model

    @staticmethod
    def _fetch_model(model_identifier: str) -> str:
        """Turn a pretrained name into a local path; anything else is returned unchanged."""
        return model_identifier

    def save(self, model_file: Union[str, Path], checkpoint: bool = False, *, adapters_only: bool = False) -> None:
        """Write the model to disk, atomically.

        Args:
            model_file: a path with a suffix gives one file, one without gives a folder (safetensors and JSON).
            checkpoint: accepted for compatibility; optimizer and scheduler states are written when they are set.
            adapters_only: leave out the frozen weights of the base transformer, and record which transformer it was.

        Raises:
            CheckpointError: when some part of the model cannot be written as data, or ``adapters_only`` is asked of a
                model without adapters.
        """
        save_state(self._complete_state(adapters_only=adapters_only), model_file, add_files=self._write_adapters)

    def _write_adapters(self, folder: Path) -> None:
        """Beside a model saved as a folder: each adapter once more in peft's own format, for others to read."""
        embeddings = {
            prefix: module
            for prefix, module in self.named_modules()
            if isinstance(module, TransformerEmbeddings) and module.peft_config is not None
        }
        for prefix, module in embeddings.items():
            module._write_adapters(folder / "adapters" / (prefix if len(embeddings) > 1 else ""))

    def _complete_state(self, adapters_only: bool = False) -> dict[str, Any]:
        state = self._get_state_dict()
        optional = ("model_card", "optimizer_state_dict", "scheduler_state_dict")
        for key in optional:
            value = getattr(self, key)
            if value is not None:
                state.setdefault(key, value)
        return self._without_base_weights(state) if adapters_only else state

    def _without_base_weights(self, state: dict[str, Any]) -> dict[str, Any]:
        """Drop what a frozen, published transformer can provide, noting its name and fingerprint."""
        tensors = dict(state["state_dict"])
        bases: dict[str, Any] = {}
        for prefix, module in self.named_modules():
            if isinstance(module, TransformerEmbeddings) and module.peft_config is not None:
                names = [key for key in tensors if key.startswith(f"{prefix}.")]
                own = {key.removeprefix(f"{prefix}."): tensors.pop(key) for key in names}
                bases[prefix], kept = split_base(module, own)
                tensors.update({f"{prefix}.{key}": value for key, value in kept.items()})
        if not bases:
            raise CheckpointError(
                "adapters_only=True needs embeddings with PEFT adapters, and this model has none. "
                "Build them with TransformerEmbeddings(..., peft_config=...), or save the full model."
            )
        return {**without_packed_bases(state), "state_dict": tensors, "base_models": bases}

    @classmethod
    def load(
        cls,
        model_path: Union[str, Path, dict[str, Any]],
        *,
        dtype: DTypeLike = "auto",
        peft_config: Any = None,
        base_model: Optional[Union[str, Path, torch.nn.Module]] = None,
        merge_adapters: bool = False,
        device: Optional[Union[str, torch.device]] = None,
        allow_pickle: bool = False,
    ) -> Model:
        """Rebuild a model from a file, a folder, a pretrained name or an already decoded state.

        Args:
            model_path: what to load. On an abstract class the file says which class it holds.
            dtype: the floating-point type of the whole model; "auto" keeps what the file records.
            peft_config: adapter configuration for files that hold adapter weights without one, or to put new adapters
                on a plain model.
            base_model: where to find the transformer of a file saved with ``adapters_only``, if not under its name. Or
                a model in memory (or its embeddings, or a transformer): what the two have in common is held once, and
                must not be trained any further.
            merge_adapters: fold the adapters into the base weights after loading.
            device: where to put the model; default ``flair.device``.
            allow_pickle: read files that contain arbitrary Python objects. Only for files you trust: reading such a
                file can run any code.

        Raises:
            FileNotFoundError: no such file and no pretrained model of that name.
            ValueError: the same, on an abstract class; or a dtype that the device does not support.
            ImportError: the model needs a package that is not installed.
            CheckpointError: the file is damaged, of another class, or does not fit the model.
            UnsafeCheckpointError: the file contains more than data.
        """
        device = torch.device(device) if device is not None else _runtime.device
        requested = resolve_dtype(dtype)
        state = read_state(cls, model_path, allow_pickle=allow_pickle)
        model_class = class_of(cls, state)
        state.pop("__cls__", None)
        with file_is_to_blame(state):
            own_dtype = resolve_dtype(state.get("dtype")) or common_dtype(state.get("state_dict", {}).values())
        check_device_supports(requested or own_dtype, device)
        if requested is not None:
            state["dtype_policy"] = dtype_name(requested)
        if peft_config is not None:
            state["peft_config"] = peft_config
        if base_model is not None:
            state["base_model"] = base_model
        with file_is_to_blame(state, arguments_given=peft_config is not None or base_model is not None):
            announce(model_class, state)
            model = model_class._init_model_with_state_dict(state)
        if merge_adapters:
            for module in model.modules():
                if hasattr(module, "merge_adapters") and getattr(module, "peft_config", None) is not None:
                    module.merge_adapters()
        model.model_card = state.get("model_card")
        for key in ("optimizer_state_dict", "scheduler_state_dict"):
            if key in state:
                setattr(model, key, state[key])
        model.to(device)
        model.eval()
        return model

    def print_model_card(self) -> None:
        """Log how the model was trained: library versions and training parameters."""
        log = _runtime.logger
        if self.model_card is None:
            log.info("This model has no model card (only available for trained models).")
            return
        card = self.model_card
        log.info("-" * 50)
        log.info("--------- Flair Model Card ---------")
        for title, key in (("Flair", "flair_version"), ("PyTorch", "pytorch_version")):
            log.info(f"- this {title} version: {card.get(key, 'unknown')}")
        if "transformers_version" in card:
            log.info(f"- this Transformers version: {card['transformers_version']}")
        log.info("------- Training Parameters -------")
        for name, value in card.get("training_parameters", {}).items():
            log.info(f"- {name} = {value}")
        log.info("-" * 50)


class ReduceTransformerVocabMixin(ABC):
    """For models that can say which tokens a corpus uses, so that training can do with a smaller vocabulary."""

    @abstractmethod
    def get_used_tokens(
        self, corpus: Corpus, context_lenth: int = 0, respect_document_boundaries: bool = True
    ) -> Iterable[list[str]]:
        """The token texts of each data point of the corpus, context included."""


class Classifier(Model[DT], Generic[DT], ReduceTransformerVocabMixin, ABC):
    """Base of all models that predict labels."""

    def evaluate(
        self,
        data_points: Union[list[DT], Dataset],
        gold_label_type: str,
        out_path: Optional[Union[str, Path]] = None,
        embedding_storage_mode: EmbeddingStorageMode = "none",
        mini_batch_size: int = 32,
        main_evaluation_metric: tuple[str, str] = ("micro avg", "f1-score"),
        exclude_labels: Optional[list[str]] = None,
        gold_label_dictionary: Optional[Dictionary] = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> Result:
        """Predict labels for the data points and score them against ``gold_label_type``.

        Predictions are written under the label type "predicted" and stay there.

        Args:
            data_points: a data set, or a list.
            gold_label_type: the label type to compare with.
            out_path: where to write gold and predicted labels of each data point, as text.
            embedding_storage_mode: what to do with computed embeddings: "none", "cpu", "gpu".
            mini_batch_size: data points per prediction batch.
            main_evaluation_metric: (average, metric) that becomes ``Result.main_score``.
            exclude_labels: gold values that are not scored.
            gold_label_dictionary: gold values outside it count as ``<unk>``.
            return_loss: whether to compute the mean loss per data point as well; otherwise it is 0.
        """
        if not isinstance(data_points, Dataset):
            data_points = FlairDatapointDataset(data_points)
        table = LabelTable()
        lines: list[str] = []
        loss_sum, loss_count = 0.0, 0
        with torch.no_grad():
            for batch in tqdm(DataLoader(data_points, batch_size=mini_batch_size), desc="Evaluating", leave=False):
                for data_point in batch:
                    data_point.remove_labels(PREDICTED)
                outcome = self.predict(
                    batch,
                    embedding_storage_mode=embedding_storage_mode,
                    mini_batch_size=mini_batch_size,
                    label_name=PREDICTED,
                    return_loss=return_loss,
                )
                if return_loss and isinstance(outcome, tuple):
                    loss_sum += float(outcome[0])
                    loss_count += outcome[1]
                table.add(batch, gold_label_type, PREDICTED, exclude_labels or (), gold_label_dictionary)
                store_embeddings(batch, embedding_storage_mode)
                if out_path is not None:
                    lines.extend(self._print_predictions(batch, gold_label_type))
        if out_path is not None:
            Path(out_path).write_text("".join(lines), encoding="utf-8")
        mean_loss = loss_sum / loss_count if loss_count else 0.0
        return classification_result(table, main_evaluation_metric, loss=mean_loss)

    @abstractmethod
    def predict(
        self,
        sentences: Union[list[DT], DT],
        mini_batch_size: int = 32,
        return_probabilities_for_all_classes: bool = False,
        verbose: bool = False,
        label_name: Optional[str] = None,
        return_loss: bool = False,
        embedding_storage_mode: EmbeddingStorageMode = "none",
    ) -> Any:
        """Add predicted labels to the data points."""
        raise NotImplementedError

    def _print_predictions(self, batch: list[DT], gold_label_type: str) -> list[str]:
        """The lines of a prediction file for one batch."""
        lines = []
        for data_point in batch:
            gold = [label.value for label in data_point.get_labels(gold_label_type)]
            predicted = [label.value for label in data_point.get_labels(PREDICTED)]
            mismatch = "" if set(gold) == set(predicted) else " -> MISMATCH!\n"
            lines.append(
                f"{data_point.text}\n - Gold: {', '.join(gold)}\n - Pred: {', '.join(predicted)}\n{mismatch}\n"
            )
        return lines

    def get_used_tokens(
        self, corpus: Corpus, context_length: int = 0, respect_document_boundaries: bool = True
    ) -> Iterable[list[str]]:
        """The token texts of every data point of the corpus, with their context where one is used."""
        data = corpus.get_all_sentences()
        for index in range(len(data)):
            for sentence in _sentences_of(data[index]):
                yield [token.text for token in sentence]
                if context_length:
                    yield [t.text for t in sentence.left_context(context_length, respect_document_boundaries)]
                    yield [t.text for t in sentence.right_context(context_length, respect_document_boundaries)]

    @classmethod
    def load(cls, model_path: Union[str, Path, dict[str, Any]], **options: Any) -> Classifier:
        """Rebuild a classifier; see :meth:`Model.load` for the options."""
        return cast("Classifier", super().load(model_path=model_path, **options))


def _sentences_of(data_point: Any) -> list[Sentence]:
    if isinstance(data_point, Sentence):
        return [data_point]
    if isinstance(data_point, DataPair):
        return [*_sentences_of(data_point.first), *_sentences_of(data_point.second)]
    if isinstance(data_point, DataTriple):
        return [part for one in (data_point.first, data_point.second, data_point.third) for part in _sentences_of(one)]
    return []


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return -gradient


class GradientReversal(torch.nn.Module):
    """Identity whose gradient is negated (Ganin and Lempitsky 2015, arXiv:1409.7495)."""

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return _ReverseGradient.apply(tensor)


class DefaultClassifier(Classifier[DT], Generic[DT, DT2], ABC):
    """Base of classifiers that embed data points, decode the vectors into label scores and take the best.

    A subclass says which data points a sentence has (:meth:`_get_data_points_from_sentence`) and how to get the vector
    of one (:meth:`_get_embedding_for_data_point`). One that can get all vectors of a batch at once overrides
    :meth:`_encode_batch` as well.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        label_dictionary: Dictionary,
        final_embedding_size: int,
        dropout: float = 0.0,
        locked_dropout: float = 0.0,
        word_dropout: float = 0.0,
        multi_label: bool = False,
        multi_label_threshold: Union[float, dict[str, float]] = 0.5,
        loss_weights: Optional[dict[str, float]] = None,
        decoder: Optional[torch.nn.Module] = None,
        inverse_model: bool = False,
        train_on_gold_pairs_only: bool = False,
        should_embed_sentence: bool = True,
    ) -> None:
        """Build the head.

        Args:
            embeddings: turns text into vectors.
            label_dictionary: the labels to choose from.
            final_embedding_size: dimensions of a data point's vector.
            dropout: share of dimensions dropped from the vectors in training.
            locked_dropout: the same with one mask for the whole batch.
            word_dropout: share of whole vectors dropped.
            multi_label: whether a data point may have several labels (sigmoid instead of softmax).
            multi_label_threshold: score above which a label is predicted; one for all or per label with "default".
            loss_weights: label -> weight in the loss (1 for labels not named).
            decoder: a module from vectors to scores, instead of a linear layer.
            inverse_model: reverse the gradient below the decoder.
            train_on_gold_pairs_only: compute the loss only over data points that have a gold label.
            should_embed_sentence: whether the base class embeds the sentences of a batch.
        """
        super().__init__()
        if len(label_dictionary) == 0:
            raise ValueError(
                f"{type(self).__name__} got an empty label dictionary. "
                "Make one with corpus.make_label_dictionary(label_type)."
            )
        self.embeddings = embeddings
        self.label_dictionary = label_dictionary
        self.final_embedding_size = final_embedding_size
        self.multi_label = multi_label
        self.inverse_model = inverse_model
        self.train_on_gold_pairs_only = train_on_gold_pairs_only
        self.should_embed_sentence = should_embed_sentence
        self.multi_label_threshold = multi_label_threshold

        self._custom_decoder = decoder is not None
        if decoder is None:
            decoder = torch.nn.Linear(final_embedding_size, len(label_dictionary))
            torch.nn.init.xavier_uniform_(decoder.weight)
        self.decoder = decoder
        self.dropout = torch.nn.Dropout(dropout)
        self.locked_dropout = LockedDropout(locked_dropout)
        self.word_dropout = WordDropout(word_dropout)

        self.weight_dict = loss_weights
        self.loss_weights: Optional[torch.Tensor] = None
        if loss_weights is not None:
            _check_weights(loss_weights, label_dictionary)
            weights = [loss_weights.get(label, 1.0) for label in label_dictionary.get_items()]
            self.loss_weights = torch.tensor(weights, dtype=torch.float32).to(_runtime.device)
        loss_class = torch.nn.BCEWithLogitsLoss if multi_label else torch.nn.CrossEntropyLoss
        self.loss_function: torch.nn.Module = loss_class(weight=self.loss_weights, reduction="sum")
        if inverse_model:
            self.gradient_reversal = GradientReversal()
        self._follow_embeddings()

    # --- hooks of subclasses ---

    def _filter_data_point(self, data_point: DT) -> bool:
        """Whether a sentence takes part in training and prediction; empty ones do not."""
        return len(data_point) > 0

    @abstractmethod
    def _get_embedding_for_data_point(self, prediction_data_point: DT2) -> torch.Tensor:
        """The vector of one embedded data point: ``[final_embedding_size]``."""
        raise NotImplementedError

    @abstractmethod
    def _get_data_points_from_sentence(self, sentence: DT) -> list[DT2]:
        """The data points of a sentence that get labels."""
        raise NotImplementedError

    def _get_data_points_for_batch(self, sentences: list[DT]) -> list[DT2]:
        return [data_point for sentence in sentences for data_point in self._get_data_points_from_sentence(sentence)]

    def _get_label_of_datapoint(self, data_point: DT2) -> list[str]:
        """Gold label values: all of them for multi-label models, else the first (or "O")."""
        if self.multi_label:
            return [label.value for label in data_point.get_labels(self.label_type)]
        return [data_point.get_label(self.label_type).value]

    def _mask_scores(self, scores: torch.Tensor, data_points: list[DT2]) -> torch.Tensor:
        """A chance to rule out labels per data point; scores are ``[data points, labels]``."""
        return scores

    def _post_process_batch_after_prediction(self, batch: list[DT], label_name: str) -> None:
        """Called after the labels of a batch were written."""

    def _sort_data(self, data_points: list[DT]) -> list[DT]:
        """Longest first, so that a batch has little padding and memory trouble shows at once."""
        return sorted(data_points, key=len, reverse=True)

    # --- thresholds ---

    @property
    def multi_label_threshold(self) -> dict[str, float]:
        """Label -> score above which it is predicted; "default" for the labels not named."""
        return self._multi_label_threshold

    @multi_label_threshold.setter
    def multi_label_threshold(self, x: Union[float, dict[str, float]]) -> None:
        if isinstance(x, dict):
            if "default" not in x:
                raise ValueError(f"multi_label_threshold needs a 'default' key beside {sorted(x)}.")
            self._multi_label_threshold = dict(x)
        else:
            self._multi_label_threshold = {"default": x}

    def _get_label_threshold(self, label_value: str) -> float:
        return self._multi_label_threshold.get(label_value, self._multi_label_threshold["default"])

    # --- from data points to scores ---

    def _prepare_label_tensor(self, prediction_data_points: list[DT2]) -> torch.Tensor:
        """Gold labels: class indices ``[data points]``, or 0/1 ``[data points, labels]`` for multi-label models.

        Raises:
            IndexError: for a label that the dictionary does not have.
        """
        values = [self._get_label_of_datapoint(data_point) for data_point in prediction_data_points]
        device = _runtime.device
        if not self.multi_label:
            indices = [
                self._index_of(labels[0], data_point)
                for labels, data_point in zip(values, prediction_data_points, strict=True)
            ]
            return torch.tensor(indices, dtype=torch.long, device=device)
        target = torch.zeros(len(values), len(self.label_dictionary))
        for row, (labels, data_point) in enumerate(zip(values, prediction_data_points, strict=True)):
            for label in labels:
                target[row, self._index_of(label, data_point)] = 1.0
        return target.to(device)

    def _index_of(self, label: str, data_point: DT2) -> int:
        known = self.label_dictionary
        if not known.add_unk and not known.has_item(label):
            what = f"label {label!r} of type {self.label_type!r}" if label != "O" else f"no {self.label_type!r} label"
            raise IndexError(
                f"{data_point.unlabeled_identifier} has {what}, and the label dictionary of this model knows only: "
                f"{', '.join(known.get_items()[:50])}. Make the dictionary from the same corpus "
                f"(corpus.make_label_dictionary({self.label_type!r})), or with add_unk=True."
            )
        return known.get_idx_for_item(label)

    def _encode_data_points(self, sentences: list[DT], data_points: list[DT2]) -> torch.Tensor:
        """Embed the sentences and collect the data points' vectors: ``[data points, final_embedding_size]``."""
        if self.should_embed_sentence:
            self.embeddings.embed(sentences)
        return torch.stack([self._get_embedding_for_data_point(data_point) for data_point in data_points])

    def _encode_batch(self, sentences: list[DT], data_points: list[DT2]) -> Optional[torch.Tensor]:
        """The same as one tensor without touching the data points, or None where a subclass has no such way."""
        return None

    def _vectors(self, sentences: list[DT], data_points: list[DT2], keep_embeddings: bool) -> torch.Tensor:
        """Vectors after dropout, in the model's dtype."""
        vectors = None if keep_embeddings else self._encode_batch(sentences, data_points)
        if vectors is None:
            vectors = self._encode_data_points(sentences, data_points)
        vectors = vectors.to(self.dtype)
        if not self.training:
            return vectors
        # The recurrent-style dropouts expect a time axis.
        vectors = self.dropout(vectors).unsqueeze(1)
        return self.word_dropout(self.locked_dropout(vectors)).squeeze(1)

    def _decode(
        self, vectors: torch.Tensor, data_points: list[DT2], labels: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """Scores (logits) in float32: ``[data points, labels]``."""
        if self.inverse_model:
            vectors = self.gradient_reversal(vectors)
        if isinstance(self.decoder, DeepNCMDecoder):
            scores = self.decoder(vectors, labels if self.training else None)
        else:
            scores = self.decoder(vectors)
        return self._mask_scores(compute_dtype(scores), data_points)

    def forward_loss(self, sentences: list[DT]) -> tuple[torch.Tensor, int]:
        sentences = [sentence for sentence in sentences if self._filter_data_point(sentence)]
        data_points = self._get_data_points_for_batch(sentences)
        if self.train_on_gold_pairs_only:
            data_points = [point for point in data_points if any(v != "O" for v in self._get_label_of_datapoint(point))]
        if not data_points:
            return torch.tensor(0.0, requires_grad=True, device=_runtime.device), 1
        labels = self._prepare_label_tensor(data_points)
        # Embeddings that training does not change are worth keeping on the data points: the trainer stores them.
        vectors = self._vectors(sentences, data_points, keep_embeddings=self.embeddings.static_embeddings)
        return self._calculate_loss(self._decode(vectors, data_points, labels), labels)

    def _calculate_loss(self, scores: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, int]:
        """The summed loss and the number of data points."""
        scores = compute_dtype(scores)
        weight = getattr(self.loss_function, "weight", None)
        weight = None if weight is None else compute_dtype(weight)
        if type(self.loss_function) is torch.nn.CrossEntropyLoss:
            return functional.cross_entropy(scores, labels, weight=weight, reduction="sum"), labels.size(0)
        if type(self.loss_function) is torch.nn.BCEWithLogitsLoss:
            loss = functional.binary_cross_entropy_with_logits(scores, labels, weight=weight, reduction="sum")
            return loss, labels.size(0)
        return self.loss_function(scores, labels), labels.size(0)

    # --- prediction ---

    def predict(
        self,
        sentences: Union[list[DT], DT],
        mini_batch_size: int = 32,
        return_probabilities_for_all_classes: bool = False,
        verbose: bool = False,
        label_name: Optional[str] = None,
        return_loss: bool = False,
        embedding_storage_mode: EmbeddingStorageMode = "none",
    ) -> Any:
        """Add the predicted labels to the data points. Dropout is off; several threads may predict at once.

        Args:
            sentences: one data point or a list of them.
            mini_batch_size: sentences per batch.
            return_probabilities_for_all_classes: add every label with its score, not only the predicted ones.
            verbose: show a progress bar.
            label_name: the label type to write; default is the model's own. Labels of that type are replaced.
            return_loss: also compute the loss against the gold labels.
            embedding_storage_mode: "none" drops the computed embeddings, "cpu" and "gpu" keep them.

        Returns:
            None; with ``return_loss`` the summed loss and the number of data points it covers; and the input itself if
            nothing in it could be predicted.
        """
        label_name = label_name or self.label_type or "label"
        sentences = listed(sentences)
        make_neighbours(sentences)
        usable = [sentence for sentence in sentences if self._filter_data_point(sentence)]
        if not usable:
            return sentences

        ordered = self._sort_data(usable)
        starts = range(0, len(ordered), mini_batch_size)
        loss_sum, loss_count = torch.zeros(1), 0
        with torch.no_grad(), self._evaluating():
            for start in tqdm(starts, desc="Batch inference", disable=not verbose):
                batch = ordered[start : start + mini_batch_size]
                data_points = self._get_data_points_for_batch(batch)
                if data_points:
                    loss = self._predict_batch(
                        batch,
                        data_points,
                        label_name,
                        return_probabilities_for_all_classes,
                        return_loss,
                        keep_embeddings=embedding_storage_mode != "none",
                    )
                    if loss is not None:
                        loss_sum += loss[0].cpu()
                        loss_count += loss[1]
                self._post_process_batch_after_prediction(batch, label_name)
                store_embeddings(batch, embedding_storage_mode)
        return (loss_sum, loss_count) if return_loss else None

    def _predict_batch(
        self,
        batch: list[DT],
        data_points: list[DT2],
        label_name: str,
        all_classes: bool,
        return_loss: bool,
        keep_embeddings: bool,
    ) -> Optional[tuple[torch.Tensor, int]]:
        if self.embeddings.static_embeddings and self.embeddings._everything_embedded(batch):
            keep_embeddings = True  # they are there already: use them
        scores = self._decode(self._vectors(batch, data_points, keep_embeddings), data_points)
        loss = self._loss_of_known_labels(scores, data_points) if return_loss else None
        for sentence in batch:
            sentence.remove_labels(label_name)
        for data_point in data_points:
            data_point.remove_labels(label_name)
        with _runtime.collector_paused():
            self._add_labels(data_points, scores, label_name, all_classes)
        return loss

    def _loss_of_known_labels(self, scores: torch.Tensor, data_points: list[DT2]) -> tuple[torch.Tensor, int]:
        """The loss over the data points whose gold labels are in the dictionary: ``<unk>`` is no answer to score."""
        known = self.label_dictionary
        rows = [
            row
            for row, data_point in enumerate(data_points)
            if all(known.has_item(value) for value in self._get_label_of_datapoint(data_point))
        ]
        if len(rows) < len(data_points):
            _runtime.logger.debug(
                f"{len(data_points) - len(rows)} data points have labels outside the label dictionary: "
                "the evaluation loss is computed without them."
            )
        if not rows:
            return torch.zeros(1, device=scores.device), 0
        labels = self._prepare_label_tensor([data_points[i] for i in rows])
        return self._calculate_loss(scores[rows] if len(rows) < len(data_points) else scores, labels)

    def _add_labels(self, data_points: list[DT2], scores: torch.Tensor, label_name: str, all_classes: bool) -> None:
        """Turn logits ``[data points, labels]`` into labels. "O" is never written."""
        names = self.label_dictionary.get_items()
        if self.multi_label or all_classes:
            probabilities = torch.sigmoid(scores) if self.multi_label else torch.softmax(scores, dim=-1)
            limits = [-1.0 if all_classes else self._get_label_threshold(name) for name in names]
            for data_point, row in zip(data_points, probabilities.tolist(), strict=True):
                for name, score, limit in zip(names, row, limits, strict=True):
                    if score > limit and name != "O":
                        data_point.add_label(label_name, name, score)
            return
        best = torch.softmax(scores, dim=-1).max(dim=-1)
        for data_point, score, index in zip(data_points, best.values.tolist(), best.indices.tolist(), strict=True):
            if names[index] != "O":
                data_point.add_label(label_name, names[index], score)

    # --- model files ---

    def __str__(self) -> str:
        return (
            f"{super().__str__().rstrip(')')}  (weights): {self.weight_dict}\n  (weight_tensor) {self.loss_weights}\n)"
        )

    def _get_state_dict(self) -> dict[str, Any]:
        state = {
            **super()._get_state_dict(),
            "dropout": self.dropout.p,
            "word_dropout": self.word_dropout.dropout_rate,
            "locked_dropout": self.locked_dropout.dropout_rate,
            "multi_label": self.multi_label,
            "multi_label_threshold": self.multi_label_threshold,
            "loss_weights": self.weight_dict,
            "train_on_gold_pairs_only": self.train_on_gold_pairs_only,
            "inverse_model": self.inverse_model,
        }
        if self._custom_decoder:
            state["decoder"] = self.decoder
        return state

    @classmethod
    def _init_model_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> DefaultClassifier:
        for name in (
            "decoder",
            "dropout",
            "word_dropout",
            "locked_dropout",
            "multi_label",
            "multi_label_threshold",
            "loss_weights",
            "train_on_gold_pairs_only",
            "inverse_model",
        ):
            if name in state:
                kwargs.setdefault(name, state[name])
        return cast("DefaultClassifier", super()._init_model_with_state_dict(state, **kwargs))

    @classmethod
    def load(cls, model_path: Union[str, Path, dict[str, Any]], **options: Any) -> DefaultClassifier:
        """Rebuild a classifier; see :meth:`Model.load` for the options."""
        return cast("DefaultClassifier", super().load(model_path=model_path, **options))


def _check_weights(loss_weights: dict[str, float], label_dictionary: Dictionary) -> None:
    unknown = [label for label in loss_weights if not label_dictionary.has_item(label)]
    if unknown:
        _runtime.logger.warning(
            f"loss_weights names labels that are not in the label dictionary and have no effect: {', '.join(unknown)}."
        )


def make_neighbours(data_points: Sequence[Any]) -> None:
    """Let the sentences of one call be each other's context; those that have neighbours already keep them.

    Embeddings that look at the context see the same, then, however the call is cut into batches.
    """
    if all(isinstance(data_point, Sentence) for data_point in data_points):
        Sentence.set_context_for_sentences(cast(list[Sentence], data_points))


def listed(given: Any) -> list[Any]:
    """The data points that ``predict`` is given: one, a list, or another collection such as a dataset.

    Raises:
        AttributeError: for texts and whatever else is no data point.
    """
    if isinstance(given, DataPoint):
        return [given]
    if isinstance(given, str):
        raise AttributeError("predict takes Sentence objects, got a str. Wrap the text: Sentence('...').")
    if not isinstance(given, list):
        if not hasattr(given, "__len__") or not hasattr(given, "__getitem__"):
            raise AttributeError(f"predict takes Sentence objects, got {type(given).__name__}.")
        given = [given[position] for position in range(len(given))]
    for position, data_point in enumerate(given):
        if isinstance(data_point, str):
            raise AttributeError(
                f"predict takes Sentence objects, got a str at position {position}: {data_point[:40]!r}. "
                "Wrap the texts: [Sentence(text) for text in texts]."
            )
    return given
