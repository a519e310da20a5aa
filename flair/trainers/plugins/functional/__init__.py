"""Plugins that change what a training does."""

from __future__ import annotations

from flair._lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {},
    (
        "anneal_on_plateau",
        "batch_growth",
        "checkpoints",
        "deepncm_trainer_plugin",
        "linear_scheduler",
        "reduce_transformer_vocab",
        "weight_extractor",
    ),
)
