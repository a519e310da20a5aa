"""Text (or images) in, tensors out."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    "BytePairEmbeddings": "flair.embeddings.token",
    "CharLMEmbeddings": "flair.embeddings.legacy",
    "CharacterEmbeddings": "flair.embeddings.token",
    "ConvTransformNetworkImageEmbeddings": "flair.embeddings.image",
    "DocumentCNNEmbeddings": "flair.embeddings.document",
    "DocumentLMEmbeddings": "flair.embeddings.document",
    "DocumentLSTMEmbeddings": "flair.embeddings.legacy",
    "DocumentMeanEmbeddings": "flair.embeddings.legacy",
    "DocumentPoolEmbeddings": "flair.embeddings.document",
    "DocumentRNNEmbeddings": "flair.embeddings.document",
    "DocumentTFIDFEmbeddings": "flair.embeddings.document",
    "DocumentEmbeddings": "flair.embeddings.base",
    "ELMoEmbeddings": "flair.embeddings.legacy",
    "Embeddings": "flair.embeddings.base",
    "FastTextEmbeddings": "flair.embeddings.token",
    "FlairEmbeddings": "flair.embeddings.token",
    "HashEmbeddings": "flair.embeddings.token",
    "IdentityImageEmbeddings": "flair.embeddings.image",
    "ImageEmbeddings": "flair.embeddings.image",
    "MuseCrosslingualEmbeddings": "flair.embeddings.token",
    "NILCEmbeddings": "flair.embeddings.token",
    "NetworkImageEmbeddings": "flair.embeddings.image",
    "OneHotEmbeddings": "flair.embeddings.token",
    "PooledFlairEmbeddings": "flair.embeddings.token",
    "PrecomputedImageEmbeddings": "flair.embeddings.image",
    "ScalarMix": "flair.embeddings.base",
    "SentenceTransformerDocumentEmbeddings": "flair.embeddings.document",
    "StackedEmbeddings": "flair.embeddings.token",
    "TokenEmbeddings": "flair.embeddings.base",
    "TransformerDocumentEmbeddings": "flair.embeddings.document",
    "TransformerEmbeddings": "flair.embeddings.transformer",
    "TransformerJitDocumentEmbeddings": "flair.embeddings.transformer",
    "TransformerJitEmbeddings": "flair.embeddings.transformer",
    "TransformerJitWordEmbeddings": "flair.embeddings.transformer",
    "TransformerOnnxDocumentEmbeddings": "flair.embeddings.transformer",
    "TransformerOnnxEmbeddings": "flair.embeddings.transformer",
    "TransformerOnnxWordEmbeddings": "flair.embeddings.transformer",
    "TransformerWordEmbeddings": "flair.embeddings.token",
    "WordEmbeddings": "flair.embeddings.token",
}

__getattr__, __dir__ = lazy_exports(
    __name__,
    _EXPORTS,
    (
        "base",
        "document",
        "image",
        "legacy",
        "token",
        "transformer",
    ),
)

__all__ = list(_EXPORTS)
