"""Document vectors by convolutions over token vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch.nn import functional

from flair import _runtime
from flair.embeddings._document._base import TokenBasedDocumentEmbeddings, stack
from flair.embeddings.base import TokenEmbeddings, load_embeddings, register_embeddings
from flair.nn.dropout import LockedDropout, WordDropout, dropped


@register_embeddings
class DocumentCNNEmbeddings(TokenBasedDocumentEmbeddings):
    """Maximum over time of several convolutions (Kim 2014, arXiv:1408.5882)."""

    def __init__(
        self,
        embeddings: list[TokenEmbeddings],
        kernels: Sequence[tuple[int, int]] = ((100, 3), (100, 4), (100, 5)),
        reproject_words: bool = True,
        reproject_words_dimension: Optional[int] = None,
        dropout: float = 0.5,
        word_dropout: float = 0.0,
        locked_dropout: float = 0.0,
        fine_tune: bool = True,
    ) -> None:
        """Convolve token vectors.

        Args:
            embeddings: the token embeddings.
            kernels: pairs (number of filters, tokens a filter spans).
            reproject_words: map token vectors linearly first.
            reproject_words_dimension: target size of that map; default is the size of the token vectors.
            dropout: share of dimensions dropped, both of the token vectors and of the result.
            word_dropout: share of token vectors dropped.
            locked_dropout: share of dimensions of the token vectors dropped, with one mask for all tokens.
            fine_tune: whether the result is trained (not cached between epochs).
        """
        super().__init__()
        self.embeddings = stack(embeddings)
        self.kernels = tuple(tuple(kernel) for kernel in kernels)
        self.reproject_words = reproject_words
        self.length_of_all_token_embeddings = self.embeddings.embedding_length
        self.embeddings_dimension = reproject_words_dimension or self.length_of_all_token_embeddings
        self.static_embeddings = not fine_tune
        self.min_sequence_length = max(span for _, span in self.kernels)
        self.__embedding_length = sum(filters for filters, _ in self.kernels)

        self.word_reprojection_map: Optional[torch.nn.Linear] = None
        if reproject_words:
            self.word_reprojection_map = torch.nn.Linear(self.length_of_all_token_embeddings, self.embeddings_dimension)
            torch.nn.init.xavier_uniform_(self.word_reprojection_map.weight)
        else:
            self.embeddings_dimension = self.length_of_all_token_embeddings
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv1d(self.embeddings_dimension, filters, span) for filters, span in self.kernels
        )
        self.pool = torch.nn.AdaptiveMaxPool1d(1)
        self.name = "document_cnn"
        self.dropout = torch.nn.Dropout(dropout) if dropout > 0.0 else None
        self.locked_dropout = LockedDropout(locked_dropout) if locked_dropout > 0.0 else None
        self.word_dropout = WordDropout(word_dropout) if word_dropout > 0.0 else None
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def _pool_tokens(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        tokens = dropped(tokens, self.dropout, self.locked_dropout, self.word_dropout)
        if self.word_reprojection_map is not None:
            # Padding stays what the map makes of a zero vector: convolutions see it at the end of short sentences.
            tokens = self.word_reprojection_map(tokens)
        missing = self.min_sequence_length - tokens.size(1)
        if missing > 0:
            tokens = functional.pad(tokens, (0, 0, 0, missing))
        channels = tokens.transpose(1, 2)
        pooled = [self.pool(torch.relu(conv(channels))).squeeze(-1) for conv in self.convs]
        return dropped(torch.cat(pooled, dim=-1), self.dropout)

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> DocumentCNNEmbeddings:
        params = dict(params)
        return cls(embeddings=load_embeddings(params.pop("embeddings")), **params)  # type: ignore[arg-type]

    def to_params(self) -> dict[str, Any]:
        return {
            "embeddings": self.embeddings.save_embeddings(False),
            "kernels": self.kernels,
            "reproject_words": self.reproject_words,
            "reproject_words_dimension": self.embeddings_dimension,
            "dropout": 0.0 if self.dropout is None else self.dropout.p,
            "word_dropout": 0.0 if self.word_dropout is None else self.word_dropout.dropout_rate,
            "locked_dropout": 0.0 if self.locked_dropout is None else self.locked_dropout.dropout_rate,
            "fine_tune": not self.static_embeddings,
        }
