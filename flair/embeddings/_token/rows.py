"""The common base of token embeddings that compute all vectors of a batch as one matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from flair.data.sentence import Sentence
from flair.embeddings.base import TokenEmbeddings


class RowEmbeddings(TokenEmbeddings):
    """Token embeddings whose subclasses define :meth:`rows`; both public roads follow from it."""

    keeps_vectors = False
    """Whether recomputing a static vector costs so much more than reading it that training should store it."""

    def rows(self, sentences: list[Sentence]) -> torch.Tensor:
        """The vectors of all tokens, sentence after sentence: ``[tokens of the batch, embedding_length]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define rows.")

    def encode_tokens(self, sentences: list[Sentence]) -> tuple[torch.Tensor, torch.Tensor]:
        """One vector a token: ``[batch, tokens, embedding_length]`` padded with zeros, and lengths ``[batch]``."""
        if self._wants_objects(sentences):
            return super().encode_tokens(sentences)
        return pad_rows(self.rows(sentences), [len(sentence) for sentence in sentences])

    def _wants_objects(self, sentences: list[Sentence]) -> bool:
        """Whether vectors lie on the tokens already, or a subclass insists on writing them there itself."""
        if type(self)._add_embeddings_internal is not RowEmbeddings._add_embeddings_internal:
            return True
        return self.keeps_vectors and self.static_embeddings and self._everything_embedded(sentences)

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        tokens = [token for sentence in sentences for token in sentence]
        if tokens:
            for token, row in zip(tokens, self.rows(sentences).unbind(), strict=True):
                token.set_embedding(self.name, row)
        return sentences

    def __str__(self) -> str:
        return self.name


def words_of(sentences: Sequence[Sentence], field: str | None = None) -> list[str]:
    """The texts of all tokens, or their label values of type ``field``."""
    if field is None:
        return [token.text for sentence in sentences for token in sentence]
    return [token.get_label(field).value for sentence in sentences for token in sentence]


def pad_rows(rows: torch.Tensor, lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Deal a matrix ``[sum of lengths, width]`` out to sentences.

    Returns:
        ``[batch, longest, width]`` padded with zeros, and the lengths as a tensor on the same device.
    """
    sizes = torch.tensor(lengths, dtype=torch.long)
    longest = max(lengths, default=0)
    if all(length == longest for length in lengths):
        return rows.view(len(lengths), longest, rows.size(-1)), sizes.to(rows.device)
    starts = np.arange(len(lengths)) * longest
    counts = np.asarray(lengths)
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    places = np.arange(len(rows)) + np.repeat(starts - before, counts)
    padded = rows.new_zeros(len(lengths) * longest, rows.size(-1))
    padded = padded.index_copy(0, torch.from_numpy(places).to(rows.device), rows)
    return padded.view(len(lengths), longest, rows.size(-1)), sizes.to(rows.device)
