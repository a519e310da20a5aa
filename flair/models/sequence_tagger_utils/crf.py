"""Public home of the CRF layer."""

from __future__ import annotations

from flair.nn.crf import CRF, START_TAG, STOP_TAG

__all__ = ["CRF", "START_TAG", "STOP_TAG"]
