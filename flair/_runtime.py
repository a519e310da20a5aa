"""Process-wide state that every layer may read: device, cache folder, logger, seed.

``flair.device`` and ``flair.cache_root`` are documented as assignable. The package object forwards both to this
module, so that code below the package reads ``_runtime.device`` and always sees the user's choice without importing
the package that sits on top of it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import logging.config
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

__version__ = "0.16.0"

arrow = " → "

device_id: str | None = os.environ.get("FLAIR_DEVICE")


def _default_device(choice: str | None) -> torch.device:
    """The device named by ``FLAIR_DEVICE``: "cpu", a CUDA ordinal, or (unset) the first CUDA device if there is one."""
    if choice == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if choice is None or choice == "":
        return torch.device("cuda:0")
    return torch.device(f"cuda:{choice}" if choice.isdigit() else choice)


device: torch.device = _default_device(device_id)
cache_root: Path = Path(os.environ.get("FLAIR_CACHE_ROOT", Path.home() / ".flair"))

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"standard": {"format": "%(asctime)-15s %(message)s"}},
        "handlers": {
            "console": {
                "level": "INFO",
                "class": "logging.StreamHandler",
                "formatter": "standard",
                "stream": "ext://sys.stdout",
            }
        },
        "loggers": {"flair": {"handlers": ["console"], "level": "INFO", "propagate": False}},
    }
)
logger = logging.getLogger("flair")


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators (all CUDA devices included)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Hold back Python's cyclic garbage collector while many objects are made that stay.

    It looks at all objects of the process whenever their number has grown by a quarter. Hold it back for a batch at
    most: between batches it has its turn. Where it was off before, it stays off.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _no_models() -> list[type[Any]]:
    return []


def _no_model(name: str) -> type[Any] | None:
    return None


find_model_class: Callable[[str], type[Any] | None] = _no_model
"""Imports the module of a model class by the class's name. The package fills this in: base classes, which lie below
the models, use it to load "whatever model is in this file"."""

find_embedding_class: Callable[[str], type[Any] | None] = _no_model
"""The same for embeddings, by the name they are registered under."""

known_model_classes: Callable[[], list[type[Any]]] = _no_models
"""Imports and lists every model class of the package; filled in like :data:`find_model_class`."""
