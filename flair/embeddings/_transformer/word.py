"""Token embeddings from transformers, exported by :mod:`flair.embeddings.token`."""

from __future__ import annotations

from typing import Any

from flair.embeddings.base import TokenEmbeddings, register_embeddings
from flair.embeddings.transformer import TransformerEmbeddings, TransformerOnnxWordEmbeddings


@register_embeddings
class TransformerWordEmbeddings(TokenEmbeddings, TransformerEmbeddings):
    """One vector a token; sentences over the model's limit are read through overlapping windows."""

    onnx_cls = TransformerOnnxWordEmbeddings

    def __init__(
        self,
        model: str = "bert-base-uncased",
        is_document_embedding: bool = False,
        allow_long_sentences: bool = True,
        **kwargs: Any,
    ) -> None:
        """Load a transformer; the arguments are those of :class:`flair.embeddings.TransformerEmbeddings`."""
        TransformerEmbeddings.__init__(
            self,
            model=model,
            is_token_embedding=True,
            is_document_embedding=is_document_embedding,
            allow_long_sentences=allow_long_sentences,
            **kwargs,
        )

    @classmethod
    def create_from_state(cls, **state: Any) -> TransformerWordEmbeddings:
        """Rebuild from saved arguments; this class always gives token embeddings."""
        state.pop("is_token_embedding", None)
        return cls(**state)


TransformerWordEmbeddings.__module__ = "flair.embeddings.token"
