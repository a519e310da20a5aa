"""Note some weights during training, to plot how they move."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from flair.trainers.plugins.base import TrainerPlugin
from flair.trainers.state import keep_lines
from flair.training_utils import WeightExtractor


class WeightExtractorPlugin(TrainerPlugin):
    """Writes a few values of every weight to ``weights.txt``, ten times an epoch."""

    def __init__(self, base_path: Union[str, Path], keep_rows: bool = False) -> None:
        """Start the file.

        Args:
            base_path: the training folder.
            keep_rows: go on after the rows of an existing file.
        """
        super().__init__()
        self.base_path = base_path
        file = Path(base_path) / "weights.txt"
        rows = file.read_text(encoding="utf-8") if keep_rows and file.exists() else ""
        self.weight_extractor = WeightExtractor(base_path)
        self.last_iteration = 0
        if rows:
            file.write_text(rows, encoding="utf-8")

    @TrainerPlugin.hook
    def after_training_batch(self, batch_no: int, epoch: int, total_number_of_batches: int, **kw: Any) -> None:
        """Note the weights if a tenth of the epoch has passed since the last time."""
        every = max(1, total_number_of_batches // 10)
        if (batch_no + 1) % every == 0:
            self.last_iteration = epoch * total_number_of_batches + batch_no
            self.weight_extractor.extract_weights(self.model.state_dict(), self.last_iteration)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": dict(self.weight_extractor.weights_dict), "last_iteration": self.last_iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Follow the same weights, and drop the rows of what is going to be trained again."""
        self.weight_extractor.weights_dict.update(state["weights"])
        self.last_iteration = state["last_iteration"]
        file = Path(self.weight_extractor.weights_file)
        keep_lines(file, lambda line: int(line.split("\t", 1)[0]) <= self.last_iteration)

    @property
    def attach_to_all_processes(self) -> bool:
        return False

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "base_path": str(self.base_path)}
