"""Return the course of some metrics from a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flair.trainers.plugins.base import TrainerPlugin
from flair.trainers.plugins.metric_records import MetricRecord

default_metrics_to_collect = {
    ("train", "loss"): "train_loss_history",
    ("dev", "score"): "dev_score_history",
    ("dev", "loss"): "dev_loss_history",
}


class MetricHistoryPlugin(TrainerPlugin):
    """Adds a list with one value an epoch to the training's return value, for each metric it collects."""

    def __init__(self, metrics_to_collect: Mapping = default_metrics_to_collect) -> None:
        """Set what to collect.

        Args:
            metrics_to_collect: name of a metric (as a tuple or joined by slashes) -> key in the return value.
        """
        super().__init__()
        self.metric_history: dict[str, list] = {target: [] for target in metrics_to_collect.values()}
        self.metrics_to_collect: Mapping = metrics_to_collect
        self._targets = {
            tuple(name.split("/")) if isinstance(name, str) else tuple(name): target
            for name, target in metrics_to_collect.items()
        }

    @TrainerPlugin.hook
    def metric_recorded(self, record: MetricRecord) -> None:
        """Keep the value if its metric is collected."""
        target = self._targets.get(record.name.parts)
        if target is not None:
            self.metric_history[target].append(record.value)

    @TrainerPlugin.hook
    def after_training(self, **kw: Any) -> None:
        """Put the histories into the return value."""
        self.trainer.return_values.update(self.metric_history)

    @property
    def attach_to_all_processes(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"metric_history": {target: list(values) for target, values in self.metric_history.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for target, values in state["metric_history"].items():
            if target in self.metric_history:
                self.metric_history[target] = list(values)

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "metrics_to_collect": dict(self.metrics_to_collect)}
