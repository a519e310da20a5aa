"""Model files: the only place that knows about formats.

A file is data: reading one executes nothing from it. :func:`save_state` writes what a model's ``_get_state_dict()``
returned, :func:`load_state` gives the same dict back, whatever version wrote the file.
"""

from __future__ import annotations

from flair.checkpoint.codec import register_codec
from flair.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from flair.checkpoint.files import load_state, save_state
from flair.checkpoint.inspect import inspect_file

__all__ = [
    "CheckpointError",
    "UnsafeCheckpointError",
    "inspect_file",
    "load_state",
    "register_codec",
    "save_state",
]
