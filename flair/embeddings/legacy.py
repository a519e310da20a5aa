"""Embeddings of early versions: those that still can work do, the others say what to use instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Union

import torch

from flair import _runtime
from flair.data.sentence import Sentence
from flair.embeddings._document._base import TokenBasedDocumentEmbeddings, stack, valid_positions
from flair.embeddings.base import TokenEmbeddings
from flair.nn.dropout import LockedDropout, WordDropout
from flair.nn.recurrent import run_padded


def _deprecated(name: str, replacement: str) -> None:
    _runtime.logger.warning(f"{name} is deprecated and cannot be saved. Use {replacement}.")


class ELMoEmbeddings(TokenEmbeddings):
    """Removed: its library, allennlp, is archived and does not run with present versions of torch."""

    def __init__(
        self,
        model: str = "original",
        options_file: Optional[str] = None,
        weight_file: Optional[str] = None,
        embedding_mode: str = "all",
    ) -> None:
        """Not available.

        Raises:
            ImportError: always.
        """
        raise ImportError(
            f"ELMoEmbeddings({model!r}) cannot work any more: allennlp, which computes them, was archived in 2022 and "
            "does not run with this version of torch. Use FlairEmbeddings('news-forward') or "
            "TransformerWordEmbeddings(...)."
        )

    @property
    def embedding_length(self) -> int:
        raise NotImplementedError("ELMoEmbeddings are not available.")

    def use_layers_all(self, x: list[torch.Tensor]) -> torch.Tensor:
        """All layers side by side."""
        return torch.cat(x, 0)

    def use_layers_top(self, x: list[torch.Tensor]) -> torch.Tensor:
        """The last layer."""
        return x[-1]

    def use_layers_average(self, x: list[torch.Tensor]) -> torch.Tensor:
        """The mean over the layers."""
        return torch.mean(torch.stack(x), 0)

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        raise NotImplementedError("ELMoEmbeddings are not available.")

    def extra_repr(self) -> str:
        return f"model={self.name}"

    def __str__(self) -> str:
        return self.name

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise ImportError("This file holds ELMoEmbeddings, which cannot work any more. Train with others instead.")


class CharLMEmbeddings(TokenEmbeddings):
    """Removed: the first form of :class:`flair.embeddings.FlairEmbeddings`."""

    def __init__(
        self, model: str, detach: bool = True, use_cache: bool = False, cache_directory: Optional[Path] = None
    ) -> None:
        """Not available.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"CharLMEmbeddings became FlairEmbeddings in version 0.4. Use FlairEmbeddings({model!r}"
            f"{'' if detach else ', fine_tune=True'})."
        )

    @property
    def embedding_length(self) -> int:
        raise NotImplementedError("CharLMEmbeddings are not available. Use FlairEmbeddings.")

    def train(self, mode: bool = True) -> CharLMEmbeddings:
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        raise NotImplementedError("CharLMEmbeddings are not available. Use FlairEmbeddings.")

    def __str__(self) -> str:
        return self.name


class DocumentMeanEmbeddings(TokenBasedDocumentEmbeddings):
    """The mean of all token vectors. Superseded by :class:`flair.embeddings.DocumentPoolEmbeddings`."""

    def __init__(self, token_embeddings: list[TokenEmbeddings]) -> None:
        """Average token vectors.

        Args:
            token_embeddings: the token embeddings, side by side.
        """
        super().__init__()
        _deprecated("DocumentMeanEmbeddings", "DocumentPoolEmbeddings(embeddings)")
        self.embeddings = stack(token_embeddings)
        self.name = "document_mean"
        self.__embedding_length = self.embeddings.embedding_length
        self.to(_runtime.device)

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def embed(self, sentences: Union[list[Sentence], Sentence]) -> list[Sentence]:
        return super().embed(sentences)

    def _pool_tokens(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        inside = valid_positions(lengths, tokens.size(1)).unsqueeze(-1)
        return tokens.masked_fill(~inside, 0.0).sum(dim=1) / lengths.unsqueeze(-1).to(tokens.dtype)


class DocumentLSTMEmbeddings(TokenBasedDocumentEmbeddings):
    """States of a GRU over token vectors. Superseded by :class:`flair.embeddings.DocumentRNNEmbeddings`."""

    def __init__(
        self,
        embeddings: list[TokenEmbeddings],
        hidden_size: int = 128,
        rnn_layers: int = 1,
        reproject_words: bool = True,
        reproject_words_dimension: Optional[int] = None,
        bidirectional: bool = False,
        dropout: float = 0.5,
        word_dropout: float = 0.0,
        locked_dropout: float = 0.0,
    ) -> None:
        """Run a GRU over token vectors; the arguments are those of :class:`DocumentRNNEmbeddings`."""
        super().__init__()
        _deprecated("DocumentLSTMEmbeddings", "DocumentRNNEmbeddings(embeddings)")
        self.embeddings = stack(embeddings)
        self.reproject_words = reproject_words
        self.bidirectional = bidirectional
        self.length_of_all_token_embeddings = self.embeddings.embedding_length
        self.embeddings_dimension = reproject_words_dimension or self.length_of_all_token_embeddings
        self.name = "document_lstm"
        self.static_embeddings = False
        self.__embedding_length = hidden_size * 4 if bidirectional else hidden_size
        self.word_reprojection_map = torch.nn.Linear(self.length_of_all_token_embeddings, self.embeddings_dimension)
        torch.nn.init.xavier_uniform_(self.word_reprojection_map.weight)
        self.rnn = torch.nn.GRU(
            self.embeddings_dimension,
            hidden_size,
            num_layers=rnn_layers,
            bidirectional=bidirectional,
            batch_first=True,
        )
        self.dropout: torch.nn.Module = (
            LockedDropout(locked_dropout) if locked_dropout > 0 else torch.nn.Dropout(dropout)
        )
        self.use_word_dropout = word_dropout > 0.0
        self.word_dropout = WordDropout(word_dropout) if self.use_word_dropout else None
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def embed(self, sentences: Union[list[Sentence], Sentence]) -> list[Sentence]:
        return super().embed(sentences)

    def _pool_tokens(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if self.word_dropout is not None:
            tokens = self.word_dropout(tokens)
        if self.reproject_words:
            tokens = self.word_reprojection_map(tokens)
        outputs = self.dropout(run_padded(self.rnn, self.dropout(tokens), lengths.cpu()))
        last = outputs[torch.arange(len(outputs), device=outputs.device), lengths.to(outputs.device) - 1]
        return torch.cat([outputs[:, 0], last], dim=-1) if self.bidirectional else last
