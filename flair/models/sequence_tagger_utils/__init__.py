"""The sequence tagger's output layer under the names of the released package; numerics are in :mod:`flair.nn.crf`."""

from __future__ import annotations

from flair.models.sequence_tagger_utils import crf, viterbi

__all__ = ["crf", "viterbi"]
