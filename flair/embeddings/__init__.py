"""Text (or images) in, tensors out."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    "BytePairEmbeddings": "flair.embeddings.token",
    "CharacterEmbeddings": "flair.embeddings.token",
    "DocumentCNNEmbeddings": "flair.embeddings.document",
    "DocumentPoolEmbeddings": "flair.embeddings.document",
    "DocumentRNNEmbeddings": "flair.embeddings.document",
    "DocumentEmbeddings": "flair.embeddings.base",
    "Embeddings": "flair.embeddings.base",
    "FastTextEmbeddings": "flair.embeddings.token",
    "FlairEmbeddings": "flair.embeddings.token",
    "HashEmbeddings": "flair.embeddings.token",
    "MuseCrosslingualEmbeddings": "flair.embeddings.token",
    "NILCEmbeddings": "flair.embeddings.token",
    "OneHotEmbeddings": "flair.embeddings.token",
    "PooledFlairEmbeddings": "flair.embeddings.token",
    "ScalarMix": "flair.embeddings.base",
    "StackedEmbeddings": "flair.embeddings.token",
    "TokenEmbeddings": "flair.embeddings.base",
    "TransformerDocumentEmbeddings": "flair.embeddings.document",
    "TransformerEmbeddings": "flair.embeddings.transformer",
    "TransformerWordEmbeddings": "flair.embeddings.token",
    "WordEmbeddings": "flair.embeddings.token",
}

__getattr__, __dir__ = lazy_exports(
    __name__,
    _EXPORTS,
    (
        "base",
        "document",
        "token",
        "transformer",
    ),
)

__all__ = list(_EXPORTS)
