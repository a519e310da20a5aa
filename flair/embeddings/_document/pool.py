"""Document vectors by pooling token vectors."""

from __future__ import annotations

from typing import Any, Union

import torch

from flair import _runtime
from flair.data.sentence import Sentence
from flair.embeddings._document._base import TokenBasedDocumentEmbeddings, stack, valid_positions
from flair.embeddings.base import TokenEmbeddings, load_embeddings, register_embeddings

_FILL = {"max": float("-inf"), "min": float("inf")}


@register_embeddings
class DocumentPoolEmbeddings(TokenBasedDocumentEmbeddings):
    """The mean, maximum or minimum over all token vectors, which may be mapped by a trained layer first."""

    def __init__(
        self,
        embeddings: Union[TokenEmbeddings, list[TokenEmbeddings]],
        fine_tune_mode: str = "none",
        pooling: str = "mean",
    ) -> None:
        """Pool token vectors.

        Args:
            embeddings: one or several token embeddings.
            fine_tune_mode: the layer before pooling: "none", "linear" or "nonlinear" (linear, ReLU, linear).
            pooling: "mean", "max" or "min".
        """
        super().__init__()
        self.embeddings = stack(embeddings)
        length = self.embeddings.embedding_length
        self.__embedding_length = length
        if fine_tune_mode in ("linear", "nonlinear"):
            self.embedding_flex = torch.nn.Linear(length, length, bias=False)
            self.embedding_flex.weight.data.copy_(torch.eye(length))
        if fine_tune_mode == "nonlinear":
            self.embedding_flex_nonlinear = torch.nn.ReLU()
            self.embedding_flex_nonlinear_map = torch.nn.Linear(length, length)
        if pooling not in ("mean", "max", "min"):
            raise AttributeError(f"pooling={pooling!r} is unknown. Use 'mean', 'max' or 'min'.")
        if fine_tune_mode not in ("none", "linear", "nonlinear"):
            raise ValueError(f"fine_tune_mode={fine_tune_mode!r} is unknown. Use 'none', 'linear' or 'nonlinear'.")
        self.pooling = pooling
        self.fine_tune_mode = fine_tune_mode
        self.name = f"document_{pooling}"
        self.static_embeddings = False
        self.to(_runtime.device)

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def embed(self, sentences: Union[list[Sentence], Sentence]) -> list[Sentence]:
        sentences = self._as_list(sentences)
        self._add_embeddings_internal(sentences)  # the layer may have changed since: always embedded anew
        return sentences

    def _pool_tokens(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if self.fine_tune_mode != "none":
            tokens = self.embedding_flex(tokens)
        if self.fine_tune_mode == "nonlinear":
            tokens = self.embedding_flex_nonlinear_map(self.embedding_flex_nonlinear(tokens))
        padding = ~valid_positions(lengths, tokens.size(1)).unsqueeze(-1)
        if self.pooling == "mean":
            return tokens.masked_fill(padding, 0.0).sum(dim=1) / lengths.unsqueeze(-1).to(tokens.dtype)
        filled = tokens.masked_fill(padding, _FILL[self.pooling])
        return filled.amax(dim=1) if self.pooling == "max" else filled.amin(dim=1)

    def extra_repr(self) -> str:
        return f"fine_tune_mode={self.fine_tune_mode}, pooling={self.pooling}"

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> DocumentPoolEmbeddings:
        params = dict(params)
        return cls(embeddings=load_embeddings(params.pop("embeddings")), **params)  # type: ignore[arg-type]

    def to_params(self) -> dict[str, Any]:
        return {
            "pooling": self.pooling,
            "fine_tune_mode": self.fine_tune_mode,
            "embeddings": self.embeddings.save_embeddings(False),
        }
