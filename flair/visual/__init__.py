"""Pictures of data, models and training runs."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS: dict[str, str] = {}

__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS, ())

__all__ = list(_EXPORTS)
