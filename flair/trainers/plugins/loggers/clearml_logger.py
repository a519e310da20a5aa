"""Send metrics to ClearML."""

from __future__ import annotations

from typing import Any

from flair.class_utils import lazy_import
from flair.trainers.plugins.base import TrainerPlugin
from flair.trainers.plugins.metric_records import MetricRecord


class ClearmlLoggerPlugin(TrainerPlugin):
    """Reports metrics to a ClearML task."""

    def __init__(self, task_id_or_task: Any) -> None:
        """Set the task.

        Args:
            task_id_or_task: a ``clearml.Task`` or the id of one.
        """
        super().__init__()
        self.task: Any = None if isinstance(task_id_or_task, str) else task_id_or_task
        self.task_id = task_id_or_task if self.task is None else self.task.task_id

    @property
    def logger(self) -> Any:
        """The logger of the task; an id is looked up on first use.

        Raises:
            ImportError: clearml is not installed.
        """
        if self.task is None:
            (task_class,) = lazy_import("clearml", "clearml", "Task")
            self.task = task_class.get_task(task_id=self.task_id)
        return self.task.get_logger()

    @TrainerPlugin.hook
    def metric_recorded(self, record: MetricRecord) -> None:
        """Report a value; the last part of its name is the series, the rest the title."""
        title = "/".join(record.name.parts[:-1]) or str(record.name)
        series = record.name.parts[-1]
        if record.is_scalar:
            self.logger.report_scalar(title=title, series=series, value=record.value, iteration=record.global_step)
        elif record.is_scalar_list:
            for index, value in enumerate(record.value):
                self.logger.report_scalar(
                    title=title, series=f"{series}_{index}", value=value, iteration=record.global_step
                )
        elif record.is_string:
            self.logger.report_text(f"{record.name} at step {record.global_step}:\n{record.value}", print_console=False)
        elif record.is_histogram:
            self.logger.report_histogram(title=title, series=series, values=record.value, iteration=record.global_step)

    @property
    def attach_to_all_processes(self) -> bool:
        return False

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "task_id_or_task": self.task_id}
