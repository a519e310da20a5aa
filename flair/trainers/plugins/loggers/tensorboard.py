"""Send metrics to TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional, Union

from flair.class_utils import lazy_import
from flair.trainers.plugins.base import TrainerPlugin
from flair.trainers.plugins.metric_records import MetricName, MetricRecord


class TensorboardLogger(TrainerPlugin):
    """Writes metrics as TensorBoard events."""

    def __init__(
        self,
        log_dir: Optional[Union[str, Path]] = None,
        comment: str = "",
        tracked_metrics: Iterable[Union[str, tuple[str, ...]]] = (),
    ) -> None:
        """Open the writer.

        Args:
            log_dir: where to write; TensorBoard's default is ``runs/<time>_<host><comment>``.
            comment: appended to the default folder name.
            tracked_metrics: which metrics to write; none given means all of them.

        Raises:
            ImportError: tensorboard is not installed.
        """
        super().__init__()
        self.log_dir = log_dir
        self.comment = comment
        self.tracked_metrics = tracked_metrics
        lazy_import("tensorboard", "tensorboard", None)
        (summary_writer,) = lazy_import("tensorboard", "torch.utils.tensorboard", "SummaryWriter")
        self.writer: Any = summary_writer(log_dir=None if log_dir is None else str(log_dir), comment=comment)

    @TrainerPlugin.hook
    def metric_recorded(self, record: MetricRecord) -> None:
        """Write a value."""
        tracked = {MetricName(name) for name in self.tracked_metrics}
        if tracked and record.name not in tracked:
            return
        name, step, walltime = str(record.name), record.global_step, record.walltime
        if record.is_scalar:
            self.writer.add_scalar(name, record.value, step, walltime=walltime)
        elif record.is_scalar_list:
            for index, value in enumerate(record.value):
                self.writer.add_scalar(f"{name}_{index}", value, step, walltime=walltime)
        elif record.is_string:
            self.writer.add_text(name, str(record.value), step, walltime=walltime)
        elif record.is_histogram:
            self.writer.add_histogram(name, record.value, step, walltime=walltime)

    @TrainerPlugin.hook("_training_exception", "after_training")
    def _flush(self, **kw: Any) -> None:
        self.writer.flush()

    @property
    def attach_to_all_processes(self) -> bool:
        return False

    def get_state(self) -> dict[str, Any]:
        return {
            **super().get_state(),
            "log_dir": None if self.log_dir is None else str(self.log_dir),
            "comment": self.comment,
            "tracked_metrics": self.tracked_metrics,
        }
