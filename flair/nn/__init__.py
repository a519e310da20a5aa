"""Neural building blocks and the model base classes."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    "Classifier": "flair.nn.model",
    "DeepNCMDecoder": "flair.nn.decoder",
    "DefaultClassifier": "flair.nn.model",
    "LabelVerbalizerDecoder": "flair.nn.decoder",
    "LockedDropout": "flair.nn.dropout",
    "Model": "flair.nn.model",
    "PrototypicalDecoder": "flair.nn.decoder",
    "WordDropout": "flair.nn.dropout",
}

__getattr__, __dir__ = lazy_exports(
    __name__,
    _EXPORTS,
    (
        "decoder",
        "distance",
        "dropout",
        "model",
        "recurrent",
    ),
)

__all__ = list(_EXPORTS)
