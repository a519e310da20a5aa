"""Pictures of data, models and training runs."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    "Highlighter": "flair.visual.activations",
    "Visualizer": "flair.visual.manifold",
}

__getattr__, __dir__ = lazy_exports(
    __name__,
    _EXPORTS,
    (
        "activations",
        "manifold",
        "ner_html",
        "training_curves",
        "tree_printer",
    ),
)

__all__ = list(_EXPORTS)
