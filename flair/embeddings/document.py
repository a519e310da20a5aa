"""Embeddings that give one vector a sentence."""

from __future__ import annotations

from flair.embeddings._document.cnn import DocumentCNNEmbeddings
from flair.embeddings._document.lm import DocumentLMEmbeddings
from flair.embeddings._document.pool import DocumentPoolEmbeddings
from flair.embeddings._document.rnn import DocumentRNNEmbeddings
from flair.embeddings._document.sentence_transformer import SentenceTransformerDocumentEmbeddings
from flair.embeddings._document.tfidf import DocumentTFIDFEmbeddings
from flair.embeddings._transformer.document import TransformerDocumentEmbeddings

__all__ = [
    "DocumentCNNEmbeddings",
    "DocumentLMEmbeddings",
    "DocumentPoolEmbeddings",
    "DocumentRNNEmbeddings",
    "DocumentTFIDFEmbeddings",
    "SentenceTransformerDocumentEmbeddings",
    "TransformerDocumentEmbeddings",
]

for _name in __all__:  # pickles of released versions, and the documentation, name them here
    globals()[_name].__module__ = __name__
del _name
