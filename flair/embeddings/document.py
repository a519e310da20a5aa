"""Embeddings that give one vector a sentence."""

from __future__ import annotations

from flair.embeddings._document.cnn import DocumentCNNEmbeddings
from flair.embeddings._document.pool import DocumentPoolEmbeddings
from flair.embeddings._document.rnn import DocumentRNNEmbeddings
from flair.embeddings._transformer.document import TransformerDocumentEmbeddings

__all__ = [
    "DocumentCNNEmbeddings",
    "DocumentPoolEmbeddings",
    "DocumentRNNEmbeddings",
    "TransformerDocumentEmbeddings",
]

for _public in (DocumentCNNEmbeddings, DocumentPoolEmbeddings, DocumentRNNEmbeddings):
    _public.__module__ = __name__
