"""Public home of the language model; the network itself is below the embeddings that use it."""

from __future__ import annotations

from flair.nn.language_model import LanguageModel

__all__ = ["LanguageModel"]
