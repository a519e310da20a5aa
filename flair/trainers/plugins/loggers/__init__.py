"""Plugins that write down what a training does."""

from __future__ import annotations

from flair._lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__, {}, ("clearml_logger", "log_file", "loss_file", "metric_history", "tensorboard", "wandb")
)
