"""From sentences to sub-token ids: tokenisation, windows over long sentences, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

OUTSIDE = -100
"""The word id of positions that belong to no token of the sentence."""


@dataclass
class SubTokens:
    """One sentence as the model sees it: one row of ids, or several overlapping windows."""

    rows: list[list[int]]
    word_ids: list[np.ndarray] = field(default_factory=list)
    token_count: int = 0
    sub_token_count: int = 0
    """Positions of the stitched sentence, special tokens included."""
    language: int = 0
    places: list[np.ndarray] = field(default_factory=list)
    """With boxes: the word behind each position, context included; -1 for special tokens."""
    boxes: np.ndarray | None = None
    """Where these words are on the page, ``[words, 4]``."""

    @property
    def longest(self) -> int:
        """Positions of the longest row."""
        return max(len(row) for row in self.rows)


class SubTokenizer:
    """Runs a tokenizer over lists of words without ever changing the tokenizer.

    Fast tokenizers keep truncation and padding as shared state, so asking for either in a call is unsafe when several
    threads predict; here both are done outside the tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.is_fast = bool(getattr(tokenizer, "is_fast", False))
        self.prefix, self.suffix = self._special_tokens()

    def _backend(self) -> Any:
        backend = self.tokenizer.backend_tokenizer
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        return backend

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts before and after a text."""
        if self.is_fast:
            bare = self._backend().encode(["a"], is_pretokenized=True, add_special_tokens=False).ids
            full = self._backend().encode(["a"], is_pretokenized=True).ids
        else:
            bare = self._slow_words(["a"])[0]
            full = list(self.tokenizer.build_inputs_with_special_tokens(bare))
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
        raise ValueError(
            f"{type(self.tokenizer).__name__} changes the sub-tokens of a word when it adds special tokens "
            f"({bare} became {full}); such tokenizers cannot be aligned with words."
        )

    def _slow_words(self, words: Sequence[str]) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        word_ids: list[int] = []
        for index, word in enumerate(words):
            pieces = self.tokenizer.tokenize(word, is_split_into_words=True)
            piece_ids = self.tokenizer.convert_tokens_to_ids(pieces)
            ids.extend(piece_ids)
            word_ids.extend([index] * len(piece_ids))
        return ids, word_ids

    def __call__(self, texts: list[list[str]], with_words: bool) -> list[tuple[list[int], np.ndarray | None]]:
        """Sub-token ids with special tokens and, if asked for, the index of the word behind each (-1 for none)."""
        encoded: list[tuple[list[int], np.ndarray | None]] = []
        if self.is_fast:
            for encoding in self._backend().encode_batch(texts, is_pretokenized=True):
                words = None
                if with_words:
                    words = np.array([-1 if w is None else w for w in encoding.word_ids], dtype=np.int64)
                encoded.append((encoding.ids, words))
            return encoded
        for text in texts:
            ids, word_ids = self._slow_words(text)
            padded = [-1] * len(self.prefix) + word_ids + [-1] * len(self.suffix)
            encoded.append(([*self.prefix, *ids, *self.suffix], np.array(padded, dtype=np.int64)))
        return encoded

    def windows(self, ids: list[int], words: np.ndarray | None, limit: int, stride: int) -> tuple[list, list]:
        """Cut a row to ``limit`` positions, or into windows that share ``stride`` sub-tokens if ``stride`` is not 0.

        Every window gets the special tokens again.
        """
        head, tail = len(self.prefix), len(self.suffix)
        content = ids[head : len(ids) - tail]
        content_words = None if words is None else words[head : len(words) - tail]
        size = limit - head - tail
        if stride >= size:
            raise ValueError(
                f"Windows of {limit} sub-tokens cannot overlap by {stride}: {size} are left beside special tokens."
            )
        if not stride:
            starts = [len(content) - size if self.tokenizer.truncation_side == "left" else 0]
        else:
            starts = list(range(0, max(len(content) - stride, 1), size - stride))
        rows = [[*self.prefix, *content[s : s + size], *self.suffix] for s in starts]
        if content_words is None:
            return rows, []
        ends = np.full(head, -1), np.full(tail, -1)
        return rows, [np.concatenate([ends[0], content_words[s : s + size], ends[1]]) for s in starts]


def own_words(words: np.ndarray, offset: int, count: int) -> np.ndarray:
    """The sentence's own numbers of the words in its text; :data:`OUTSIDE` for special tokens and context.

    Args:
        words: the word behind each position, -1 for none.
        offset: the sentence's first word.
        count: the number of its words.
    """
    own = words - offset
    own[(own < 0) | (own >= count)] = OUTSIDE
    return own


def pad_rows(rows: Sequence[Sequence[int] | np.ndarray], length: int, value: int) -> torch.Tensor:
    """Rows of different lengths as one int64 tensor ``[rows, length]``, filled up with ``value`` on the right."""
    padded = np.full((len(rows), length), value, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return torch.from_numpy(padded)
