"""Keep the model of every k-th epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Union

from flair import _runtime
from flair.trainers.plugins.base import TrainerPlugin


class CheckpointPlugin(TrainerPlugin):
    """Writes ``model_epoch_<n>.pt`` after the training of every k-th epoch.

    With the state of the training it waits for the end of the epoch: schedules and the best score are then up to date,
    and the training can be resumed from the file (:meth:`flair.trainers.trainer.ModelTrainer.resume`).
    """

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
        self._due: Optional[int] = None

    @TrainerPlugin.hook
    def after_training_epoch(self, epoch: int, **kw: Any) -> None:
        """Save the model if it is this epoch's turn, or note that it is to be saved at the end of the epoch."""
        if self.save_model_each_k_epochs > 0 and epoch % self.save_model_each_k_epochs == 0:
            self._due = epoch
            if not self.save_optimizer_state:
                self.save_if_due()

    @TrainerPlugin.hook("training_interrupt")
    def save_if_due(self) -> None:
        """Save the model of an epoch whose turn it was; called by the trainer when all else of the epoch is done."""
        if self._due is None:
            return
        epoch, self._due = self._due, None
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
