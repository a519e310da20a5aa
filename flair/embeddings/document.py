"""Embeddings that give one vector a sentence."""

from __future__ import annotations

from flair.embeddings._transformer.document import TransformerDocumentEmbeddings

__all__ = ["TransformerDocumentEmbeddings"]
