"""Let the mini-batches grow during training, an alternative to lowering the learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from flair import _runtime
from flair.trainers.plugins.base import TrainerPlugin


class BatchGrowthPlugin(TrainerPlugin):
    """Grows the mini-batch size geometrically over the epochs (Smith et al., 2018, arXiv:1711.00489).

    Epoch 1 uses ``start`` data points a batch, epoch ``epochs`` and all later ones ``stop``.
    """

    def __init__(self, base_path: Union[str, Path], start: int, stop: int, epochs: int) -> None:
        """Set the schedule.

        Raises:
            ValueError: when a size or the number of epochs is below 1.
        """
        super().__init__()
        if min(start, stop, epochs) < 1:
            raise ValueError(
                f"BatchGrowthPlugin needs sizes and epochs of at least 1, got {start=}, {stop=}, {epochs=}."
            )
        self.base_path = base_path
        self.start = start
        self.stop = stop
        self.epochs = epochs

    def batch_size(self, epoch: int) -> int:
        """The mini-batch size of an epoch (counted from 1)."""
        share = 1.0 if self.epochs == 1 else min(1.0, max(0, epoch - 1) / (self.epochs - 1))
        return round(self.start * (self.stop / self.start) ** share)

    def store_learning_rate(self) -> None:
        """Remember the rates of all parameter groups; growth leaves them as they are."""
        groups = self.trainer.optimizer.param_groups
        self.current_learning_rate = [group["lr"] for group in groups]
        self.current_momentum = [group.get("momentum", 0) for group in groups]

    @TrainerPlugin.hook
    def after_setup(self, train_with_dev: bool, optimizer: Any, **kw: Any) -> None:
        """Set the size of the first epoch."""
        self.store_learning_rate()
        self._set_size(kw.get("epoch", 0) + 1)

    @TrainerPlugin.hook
    def after_evaluation(self, current_model_is_best: bool, validation_scores: tuple, **kw: Any) -> None:
        """Set the size of the epoch to come."""
        self.store_learning_rate()
        self._set_size(kw["epoch"] + 1)

    def _set_size(self, epoch: int) -> None:
        size = self.batch_size(epoch)
        if size != self.trainer.mini_batch_size:
            _runtime.logger.info(f" - mini_batch_size of epoch {epoch}: {size}")
        self.trainer.mini_batch_size = size

    def __str__(self) -> str:
        return f"BatchGrowth | start: '{self.start}', stop: '{self.stop}', epochs: '{self.epochs}'"

    def get_state(self) -> dict[str, Any]:
        return {
            **super().get_state(),
            "base_path": str(self.base_path),
            "start": self.start,
            "stop": self.stop,
            "epochs": self.epochs,
        }
