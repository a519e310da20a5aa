"""Document vectors by a recurrent network over token vectors."""

from __future__ import annotations

from typing import Any, Optional

import torch

from flair import _runtime
from flair.embeddings._document._base import TokenBasedDocumentEmbeddings, stack
from flair.embeddings.base import TokenEmbeddings, load_embeddings, register_embeddings
from flair.nn.dropout import LockedDropout, WordDropout, dropped
from flair.nn.recurrent import run_padded


@register_embeddings
class DocumentRNNEmbeddings(TokenBasedDocumentEmbeddings):
    """The last state of a recurrent network; for a bidirectional one the outputs at the first and the last token."""

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
        rnn_type: str = "GRU",
        fine_tune: bool = True,
    ) -> None:
        """Run a recurrent network over token vectors.

        Args:
            embeddings: the token embeddings.
            hidden_size: size of the hidden state.
            rnn_layers: number of layers.
            reproject_words: map token vectors linearly first.
            reproject_words_dimension: target size of that map; default is the size of the token vectors.
            bidirectional: read in both directions; the result has ``4 * hidden_size`` dimensions.
            dropout: share of dimensions dropped, both of the token vectors and of the outputs.
            word_dropout: share of token vectors dropped.
            locked_dropout: the same with one mask for all tokens.
            rnn_type: "GRU" or "LSTM".
            fine_tune: whether the result is trained (not cached between epochs).
        """
        super().__init__()
        self.embeddings = stack(embeddings)
        self.rnn_type = rnn_type if rnn_type == "LSTM" else "GRU"
        self.reproject_words = reproject_words
        self.bidirectional = bidirectional
        self.length_of_all_token_embeddings = self.embeddings.embedding_length
        self.embeddings_dimension = reproject_words_dimension or self.length_of_all_token_embeddings
        self.static_embeddings = not fine_tune
        self.fine_tune = fine_tune
        self.__embedding_length = hidden_size * 4 if bidirectional else hidden_size

        self.word_reprojection_map = torch.nn.Linear(self.length_of_all_token_embeddings, self.embeddings_dimension)
        rnn_class = torch.nn.LSTM if self.rnn_type == "LSTM" else torch.nn.GRU
        self.rnn = rnn_class(
            self.embeddings_dimension,
            hidden_size,
            num_layers=rnn_layers,
            bidirectional=bidirectional,
            batch_first=True,
        )
        self.name = f"document_{self.rnn_type}"
        self.dropout = torch.nn.Dropout(dropout) if dropout > 0.0 else None
        self.locked_dropout = LockedDropout(locked_dropout) if locked_dropout > 0.0 else None
        self.word_dropout = WordDropout(word_dropout) if word_dropout > 0.0 else None
        torch.nn.init.xavier_uniform_(self.word_reprojection_map.weight)
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def _pool_tokens(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        tokens = dropped(tokens, self.dropout, self.locked_dropout, self.word_dropout)
        if self.reproject_words:
            tokens = self.word_reprojection_map(tokens)
        outputs = dropped(run_padded(self.rnn, tokens, lengths.cpu()), self.dropout, self.locked_dropout)
        last = outputs[torch.arange(len(outputs), device=outputs.device), lengths.to(outputs.device) - 1]
        return torch.cat([outputs[:, 0], last], dim=-1) if self.bidirectional else last

    def to_params(self) -> dict[str, Any]:
        return {
            "embeddings": self.embeddings.save_embeddings(False),
            "hidden_size": self.rnn.hidden_size,
            "rnn_layers": self.rnn.num_layers,
            "reproject_words": self.reproject_words,
            "reproject_words_dimension": self.embeddings_dimension,
            "bidirectional": self.bidirectional,
            "dropout": 0.0 if self.dropout is None else self.dropout.p,
            "word_dropout": 0.0 if self.word_dropout is None else self.word_dropout.dropout_rate,
            "locked_dropout": 0.0 if self.locked_dropout is None else self.locked_dropout.dropout_rate,
            "rnn_type": self.rnn_type,
            "fine_tune": not self.static_embeddings,
        }

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> DocumentRNNEmbeddings:
        params = dict(params)
        return cls(embeddings=load_embeddings(params.pop("embeddings")), **params)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.to_params(), "state_dict": self.state_dict()}

    def __setstate__(self, d: dict[str, Any]) -> None:
        """Rebuild from a configuration (also that of released pickles), with weights where present."""
        if "rnn_layers" not in d or "_parameters" in d:  # a complete instance dictionary
            super().__setstate__(d)
            return
        params = dict(d)
        weights = params.pop("state_dict", None)
        embeddings = params.pop("embeddings")
        if isinstance(embeddings, dict):
            embeddings = load_embeddings(embeddings)
        self.__init__(embeddings=embeddings, **params)  # type: ignore[misc]
        if weights is not None:
            self.load_state_dict(weights)
