"""Note some weights during training, to plot how they move."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from flair.trainers.plugins.base import TrainerPlugin
from flair.training_utils import WeightExtractor


class WeightExtractorPlugin(TrainerPlugin):
    """Writes a few values of every weight to ``weights.txt``, ten times an epoch."""

    def __init__(self, base_path: Union[str, Path]) -> None:
        super().__init__()
        self.base_path = base_path
        self.weight_extractor = WeightExtractor(base_path)

    @TrainerPlugin.hook
    def after_training_batch(self, batch_no: int, epoch: int, total_number_of_batches: int, **kw: Any) -> None:
        """Note the weights if a tenth of the epoch has passed since the last time."""
        every = max(1, total_number_of_batches // 10)
        if (batch_no + 1) % every == 0:
            self.weight_extractor.extract_weights(self.model.state_dict(), epoch * total_number_of_batches + batch_no)

    @property
    def attach_to_all_processes(self) -> bool:
        return False

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "base_path": str(self.base_path)}
