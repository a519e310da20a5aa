"""Everything the training loop does besides stepping."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    "AnnealingPlugin": "flair.trainers.plugins.functional.anneal_on_plateau",
    "BasePlugin": "flair.trainers.plugins.base",
    "CheckpointPlugin": "flair.trainers.plugins.functional.checkpoints",
    "ClearmlLoggerPlugin": "flair.trainers.plugins.loggers.clearml_logger",
    "DeepNCMPlugin": "flair.trainers.plugins.functional.deepncm_trainer_plugin",
    "LinearSchedulerPlugin": "flair.trainers.plugins.functional.linear_scheduler",
    "LogFilePlugin": "flair.trainers.plugins.loggers.log_file",
    "LossFilePlugin": "flair.trainers.plugins.loggers.loss_file",
    "MetricHistoryPlugin": "flair.trainers.plugins.loggers.metric_history",
    "MetricName": "flair.trainers.plugins.metric_records",
    "MetricRecord": "flair.trainers.plugins.metric_records",
    "Pluggable": "flair.trainers.plugins.base",
    "ReduceTransformerVocabPlugin": "flair.trainers.plugins.functional.reduce_transformer_vocab",
    "TensorboardLogger": "flair.trainers.plugins.loggers.tensorboard",
    "TrainerPlugin": "flair.trainers.plugins.base",
    "TrainingInterrupt": "flair.trainers.plugins.base",
    "WeightExtractorPlugin": "flair.trainers.plugins.functional.weight_extractor",
}

__getattr__, __dir__ = lazy_exports(
    __name__,
    _EXPORTS,
    (
        "base",
        "functional",
        "loggers",
        "metric_records",
    ),
)

__all__ = list(_EXPORTS)
