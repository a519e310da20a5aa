"""What a training is asked to do, as one immutable value."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Optional, Union

import torch
from torch.optim import Optimizer

from flair import _runtime
from flair.data.dictionary import Dictionary
from flair.nn.precision import DTypeLike, resolve_dtype
from flair.samplers import FlairSampler
from flair.trainers.plugins.base import BasePlugin
from flair.training_utils import EmbeddingStorageMode


@dataclass(frozen=True)
class TrainingPlan:
    """The parameters of :meth:`flair.trainers.trainer.ModelTrainer.train_custom`, checked and normalised.

    Hooks of ``after_setup`` receive these fields as keyword arguments, and the model card records them.
    """

    base_path: Path
    learning_rate: float
    decoder_learning_rate: Optional[float]
    mini_batch_size: int
    eval_batch_size: int
    mini_batch_chunk_size: Optional[int]
    max_epochs: int
    optimizer: type[Optimizer]
    train_with_dev: bool
    train_with_test: bool
    max_grad_norm: Optional[float]
    reduce_transformer_vocab: bool
    main_evaluation_metric: tuple[str, str]
    monitor_test: bool
    monitor_train_sample: float
    use_final_model_for_eval: bool
    gold_label_dictionary_for_eval: Optional[Dictionary]
    exclude_labels: list[str]
    sampler: Optional[Union[FlairSampler, type[FlairSampler]]]
    shuffle: bool
    shuffle_first_epoch: bool
    embeddings_storage_mode: EmbeddingStorageMode
    epoch: int
    save_final_model: bool
    save_optimizer_state: bool
    save_model_each_k_epochs: int
    create_file_logs: bool
    create_loss_file: bool
    write_weights: bool
    use_amp: bool
    multi_gpu: bool
    plugins: list[BasePlugin]
    amp_dtype: DTypeLike
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the optimizer, its ``lr`` among them."""

    @classmethod
    def of(cls, base_path: Union[str, Path], **parameters: Any) -> TrainingPlan:
        """Normalise the arguments of a call.

        Raises:
            ValueError: for sizes and precisions that make no sense.
        """
        parameters["exclude_labels"] = list(parameters["exclude_labels"] or [])
        plugins = parameters["plugins"] or []
        parameters["plugins"] = [plugin() if isinstance(plugin, type) else plugin for plugin in plugins]
        parameters["kwargs"] = {"lr": parameters["learning_rate"], **parameters["kwargs"]}
        if parameters["sampler"] is not None:
            parameters["shuffle"] = False
        plan = cls(base_path=Path(base_path), **parameters)
        plan._check_sizes()
        plan.autocast_dtype()
        return plan

    def _check_sizes(self) -> None:
        for name in ("mini_batch_size", "eval_batch_size", "mini_batch_chunk_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: a batch needs at least one data point.")
        if self.max_epochs < 0 or self.epoch < 0:
            raise ValueError(f"max_epochs={self.max_epochs} and epoch={self.epoch} must not be negative.")
        if self.embeddings_storage_mode not in ("none", "cpu", "gpu"):
            raise ValueError(
                f"embeddings_storage_mode={self.embeddings_storage_mode!r} is unknown. Use 'none', 'cpu' or 'gpu'."
            )

    def autocast_dtype(self) -> Optional[torch.dtype]:
        """The type for automatic mixed precision on the current device; None when it is switched off."""
        if not self.use_amp:
            return None
        requested = resolve_dtype(self.amp_dtype)
        if requested is None:
            return torch.float16 if _runtime.device.type == "cuda" else torch.bfloat16
        if requested not in (torch.float16, torch.bfloat16):
            raise ValueError(f"amp_dtype={self.amp_dtype!r}: mixed precision computes in 'bfloat16' or 'float16'.")
        return requested

    def writes_model(self) -> bool:
        """Whether this training will save a model anywhere."""
        return self.save_final_model or self.save_model_each_k_epochs > 0 or self.keeps_best_model()

    def keeps_best_model(self) -> bool:
        """Whether the model of the best epoch is saved, and used for the final evaluation."""
        return not self.train_with_dev and not self.use_final_model_for_eval

    def as_arguments(self) -> dict[str, Any]:
        """The plan as the keyword arguments of ``after_setup``."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def as_plain_data(self) -> dict[str, Any]:
        """The plan as what the model card records: paths and classes as strings, plugins as their states."""
        return {name: _plain(value) for name, value in self.as_arguments().items()}


def _plain(value: Any) -> Any:
    """Something that any file format can hold."""
    if isinstance(value, (Path, torch.dtype)):
        return str(value)
    if isinstance(value, type):
        return f"{value.__module__}.{value.__name__}"
    if isinstance(value, BasePlugin):
        return _plain(value.get_state())
    if isinstance(value, FlairSampler):
        return f"{type(value).__module__}.{type(value).__name__}"
    if isinstance(value, (list, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, dict):
        return {_plain_key(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, Dictionary)):
        return value
    return str(value)


def _plain_key(key: Any) -> Any:
    """Names of metrics may be tuples."""
    return "/".join(map(str, key)) if isinstance(key, tuple) else key
