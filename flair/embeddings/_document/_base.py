"""What document embeddings over token embeddings have in common."""

from __future__ import annotations

from typing import Any, Union

import torch

from flair.data.sentence import Sentence
from flair.embeddings.base import DocumentEmbeddings, TokenEmbeddings
from flair.embeddings.token import StackedEmbeddings


class TokenBasedDocumentEmbeddings(DocumentEmbeddings):
    """One vector a sentence, computed from the token vectors of a stack.

    Subclasses turn the padded token vectors into document vectors in :meth:`_pool_tokens`.
    """

    embeddings: StackedEmbeddings

    def _pool_tokens(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """From ``[batch, tokens, token length]`` and ``[batch]`` to ``[batch, embedding_length]``."""
        raise NotImplementedError

    def encode_documents(self, sentences: list[Any]) -> torch.Tensor:
        refuse_empty(self, sentences)
        tokens, lengths = self.embeddings.encode_tokens(sentences)
        weight = next(self.parameters(), None)
        return self._pool_tokens(tokens if weight is None else tokens.to(weight.dtype), lengths)

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> None:
        for sentence, vector in zip(sentences, self.encode_documents(sentences), strict=True):
            sentence.set_embedding(self.name, vector)


def refuse_empty(embedding: DocumentEmbeddings, sentences: list[Sentence]) -> None:
    """Raise the ValueError of embeddings that make a vector out of a sentence's tokens."""
    empty = sum(1 for sentence in sentences if len(sentence) == 0)
    if empty:
        raise ValueError(
            f"{type(embedding).__name__} cannot embed a sentence without tokens, and {empty} of "
            f"{len(sentences)} have none. Remove them first (corpus.filter_empty_sentences())."
        )


def stack(embeddings: Union[TokenEmbeddings, list[TokenEmbeddings]]) -> StackedEmbeddings:
    """A stack of one or several token embeddings; a stack is taken as it is."""
    if isinstance(embeddings, StackedEmbeddings):
        return embeddings
    return StackedEmbeddings(embeddings if isinstance(embeddings, list) else [embeddings])


def valid_positions(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """Boolean ``[batch, longest]``: which positions hold a token."""
    return torch.arange(longest, device=lengths.device).unsqueeze(0) < lengths.unsqueeze(1)
