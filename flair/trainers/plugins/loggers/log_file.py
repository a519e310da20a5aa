"""Write the log of a training to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from flair import _runtime
from flair.trainers.plugins.base import TrainerPlugin
from flair.training_utils import add_file_handler


class LogFilePlugin(TrainerPlugin):
    """Copies everything logged from now to the end of the training into ``training.log``."""

    def __init__(self, base_path: Union[str, Path]) -> None:
        super().__init__()
        self.base_path = base_path
        self.log_handler = add_file_handler(_runtime.logger, Path(base_path) / "training.log")

    @TrainerPlugin.hook("_training_exception", "after_training")
    def close_file_handler(self, **kw: Any) -> None:
        """Close the file."""
        self.log_handler.close()
        _runtime.logger.removeHandler(self.log_handler)

    @property
    def attach_to_all_processes(self) -> bool:
        return False

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "base_path": str(self.base_path)}
