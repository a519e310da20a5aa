"""Keep the model of every k-th epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from flair import _runtime
from flair.trainers.plugins.base import TrainerPlugin


class CheckpointPlugin(TrainerPlugin):
    """Writes ``model_epoch_<n>.pt`` after the training of every k-th epoch."""

    def __init__(self, save_model_each_k_epochs: int, save_optimizer_state: bool, base_path: Union[str, Path]) -> None:
        """Set what to keep.

        Args:
            save_model_each_k_epochs: k; 0 writes nothing.
            save_optimizer_state: write what is needed to go on training as well.
            base_path: the training folder.
        """
        super().__init__()
        self.save_model_each_k_epochs = save_model_each_k_epochs
        self.save_optimizer_state = save_optimizer_state
        self.base_path = base_path

    @TrainerPlugin.hook
    def after_training_epoch(self, epoch: int, **kw: Any) -> None:
        """Save the model if it is this epoch's turn."""
        if self.save_model_each_k_epochs > 0 and epoch % self.save_model_each_k_epochs == 0:
            setting = f"save_model_each_k_epochs={self.save_model_each_k_epochs}"
            _runtime.logger.info(f"Saving model at current epoch since '{setting}' was set")
            self.trainer._save_model(
                Path(self.base_path) / f"model_epoch_{epoch}.pt", save_optimizer_state=self.save_optimizer_state
            )

    @property
    def attach_to_all_processes(self) -> bool:
        return False

    def get_state(self) -> dict[str, Any]:
        return {
            **super().get_state(),
            "base_path": str(self.base_path),
            "save_model_each_k_epochs": self.save_model_each_k_epochs,
            "save_optimizer_state": self.save_optimizer_state,
        }
