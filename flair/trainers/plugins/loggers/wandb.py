"""Send metrics and warnings to Weights & Biases."""

from __future__ import annotations

import logging
from typing import Any

from flair import _runtime
from flair.trainers.plugins.base import TrainerPlugin
from flair.trainers.plugins.metric_records import MetricRecord


class WandbLoggingHandler(logging.Handler):
    """Turns log records into W&B alerts."""

    def __init__(self, wandb: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wandb = wandb

    def emit(self, record: logging.LogRecord) -> None:
        """Send an alert of the record's level."""
        try:
            levels = self.wandb.AlertLevel
            level = levels.INFO
            if record.levelno >= logging.ERROR:
                level = levels.ERROR
            elif record.levelno >= logging.WARNING:
                level = levels.WARN
            self.wandb.alert(title=f"Alert from {record.module}:{record.lineno}", text=self.format(record), level=level)
        except Exception:  # a logging handler must not raise
            self.handleError(record)


class WandbLogger(TrainerPlugin):
    """Logs metrics to a W&B run and sends the log's warnings as alerts."""

    def __init__(self, wandb: Any, emit_alerts: bool = True, alert_level: int = logging.WARNING) -> None:
        """Set what to send.

        Args:
            wandb: the ``wandb`` module (after ``wandb.init``) or a run.
            emit_alerts: whether to send alerts.
            alert_level: the least level of log records that become alerts.
        """
        super().__init__()
        self.wandb = wandb
        self.emit_alerts = emit_alerts
        self.alert_level = alert_level
        self.log_handler: WandbLoggingHandler | None = None

    @TrainerPlugin.hook("after_setup")
    def after_training_setup(self, **kw: Any) -> None:
        """Begin to listen to the log."""
        if self.emit_alerts:
            self.log_handler = WandbLoggingHandler(self.wandb)
            self.log_handler.setLevel(self.alert_level)
            _runtime.logger.addHandler(self.log_handler)

    @TrainerPlugin.hook("_training_exception", "after_training")
    def close_file_handler(self, **kw: Any) -> None:
        """Stop listening to the log."""
        if self.log_handler is not None:
            _runtime.logger.removeHandler(self.log_handler)
            self.log_handler.close()
            self.log_handler = None

    @TrainerPlugin.hook
    def metric_recorded(self, record: MetricRecord) -> None:
        """Log a value; a list becomes one series for each position."""
        name = str(record.name)
        if record.is_scalar_list:
            self.wandb.log({f"{name}_{index}": value for index, value in enumerate(record.value)})
        elif record.is_scalar or record.is_string:
            self.wandb.log({name: record.value})
        elif record.is_histogram:
            self.wandb.log({name: self.wandb.Histogram(record.value)})

    @property
    def attach_to_all_processes(self) -> bool:
        return False

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "emit_alerts": self.emit_alerts, "alert_level": self.alert_level}
