"""Write the log of a training to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from flair import _runtime
from flair.trainers.plugins.base import TrainerPlugin
from flair.training_utils import add_file_handler


class LogFilePlugin(TrainerPlugin):
    """Copies everything logged from now to the end of the training into ``training.log``."""

    def __init__(self, base_path: Union[str, Path], append: bool = False) -> None:
        """Open the file.

        Args:
            base_path: the training folder.
            append: go on at the end of an existing file.
        """
        super().__init__()
        self.base_path = base_path
        file = Path(base_path) / "training.log"
        kept = file.read_bytes() if append and file.exists() else b""
        self.log_handler = add_file_handler(_runtime.logger, file)
        stream = self.log_handler.stream
        if kept and stream is not None:
            stream.write(kept.decode("utf-8", errors="replace"))
            stream.flush()

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
