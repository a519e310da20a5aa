"""Flair: sequence labelling, text classification and embeddings on top of torch and transformers.

Importing the package is cheap: submodules load on first access (``flair.models``, ``flair.data`` ...).
"""

from __future__ import annotations

import logging
import os
import sys
import types
from pathlib import Path
from typing import Any

import torch

from flair import _runtime
from flair._lazy import lazy_exports
from flair._runtime import __version__, device_id, logger, set_seed
from flair._runtime import arrow as _arrow

_SUBMODULES = (
    "class_utils",
    "data",
    "datasets",
    "distributed_utils",
    "embeddings",
    "file_utils",
    "models",
    "nn",
    "optim",
    "samplers",
    "splitter",
    "tokenization",
    "trainers",
    "training_utils",
    "visual",
)

__getattr__, __dir__ = lazy_exports(__name__, {"set_proxies": "flair.file_utils"}, _SUBMODULES)

hf_set_seed = set_seed


class _FlairModule(types.ModuleType):
    """The package object: ``flair.device`` and ``flair.cache_root`` read and write the run-time state."""

    @property
    def device(self) -> torch.device:
        return _runtime.device

    @device.setter
    def device(self, value: Any) -> None:
        _runtime.device = value if isinstance(value, torch.device) else torch.device(value)

    @property
    def cache_root(self) -> Path:
        return _runtime.cache_root

    @cache_root.setter
    def cache_root(self, value: Any) -> None:
        _runtime.cache_root = Path(value)


sys.modules[__name__].__class__ = _FlairModule


def _find_model_class(name: str) -> type[Any] | None:
    from flair import models

    return getattr(models, name) if name in models.__all__ else None


def _find_embedding_class(name: str) -> type[Any] | None:
    from flair import embeddings

    return getattr(embeddings, name) if name in embeddings.__all__ else None


def _known_model_classes() -> list[type[Any]]:
    from flair import models

    return [getattr(models, name) for name in models.__all__]


_runtime.find_model_class = _find_model_class
_runtime.find_embedding_class = _find_embedding_class
_runtime.known_model_classes = _known_model_classes

__all__ = [
    "Path",
    "__version__",
    "_arrow",
    "cache_root",
    "data",
    "datasets",
    "device",
    "device_id",
    "hf_set_seed",
    "logger",
    "logging",
    "models",
    "nn",
    "os",
    "set_proxies",
    "set_seed",
    "torch",
    "trainers",
    "visual",
]
