"""Training."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    "LanguageModelTrainer": "flair.trainers.language_model_trainer",
    "ModelTrainer": "flair.trainers.trainer",
    "TextCorpus": "flair.trainers.language_model_trainer",
}

__getattr__, __dir__ = lazy_exports(
    __name__,
    _EXPORTS,
    (
        "language_model_trainer",
        "plugins",
        "trainer",
    ),
)

__all__ = list(_EXPORTS)
