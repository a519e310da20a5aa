"""Document embeddings from transformers, exported by :mod:`flair.embeddings.document`."""

from __future__ import annotations

from typing import Any

from flair.embeddings.base import DocumentEmbeddings, register_embeddings
from flair.embeddings.transformer import TransformerEmbeddings, TransformerOnnxDocumentEmbeddings


@register_embeddings
class TransformerDocumentEmbeddings(DocumentEmbeddings, TransformerEmbeddings):
    """One vector a sentence."""

    onnx_cls = TransformerOnnxDocumentEmbeddings

    def __init__(
        self,
        model: str = "bert-base-uncased",
        layers: str = "-1",
        layer_mean: bool = False,
        is_token_embedding: bool = False,
        **kwargs: Any,
    ) -> None:
        """Load a transformer; the arguments are those of :class:`flair.embeddings.TransformerEmbeddings`."""
        TransformerEmbeddings.__init__(
            self,
            model=model,
            layers=layers,
            layer_mean=layer_mean,
            is_token_embedding=is_token_embedding,
            is_document_embedding=True,
            **kwargs,
        )

    @classmethod
    def create_from_state(cls, **state: Any) -> TransformerDocumentEmbeddings:
        """Rebuild from saved arguments; this class always gives document embeddings."""
        state.pop("is_document_embedding", None)
        return cls(**state)


TransformerDocumentEmbeddings.__module__ = "flair.embeddings.document"
