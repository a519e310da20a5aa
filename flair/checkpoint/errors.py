"""What can be wrong with a model file."""

from __future__ import annotations


class CheckpointError(RuntimeError):
    """A model file is damaged, of another kind, or does not fit; or a state cannot be written as data."""


class UnsafeCheckpointError(CheckpointError):
    """A model file refers to code that is not on the list of what released versions write."""
