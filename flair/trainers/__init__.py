"""Training."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    "ModelTrainer": "flair.trainers.trainer",
}

__getattr__, __dir__ = lazy_exports(
    __name__,
    _EXPORTS,
    (
        "plugins",
        "trainer",
    ),
)

__all__ = list(_EXPORTS)
