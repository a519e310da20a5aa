"""Word vectors of many languages in one space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from flair import _runtime
from flair.data.sentence import Sentence
from flair.embeddings._token.pretrained import MUSE_LANGUAGES, MUSE_URL
from flair.embeddings._token.rows import RowEmbeddings
from flair.embeddings._token.vectors import as_vocabulary, lookup_forms, read_vectors
from flair.embeddings.base import register_embeddings
from flair.file_utils import cached_path, instance_lru_cache

LENGTH = 300
FALLBACK = "en"


@register_embeddings
class MuseCrosslingualEmbeddings(RowEmbeddings):
    """Aligned word vectors (Conneau et al. 2018). Each sentence uses the table of its own language.

    A table is downloaded when a sentence of its language is first embedded; languages without one use English.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = "muse-crosslingual"
        self.static_embeddings = True
        self.language_embeddings: dict[str, tuple[dict[str, int], np.ndarray]] = {}
        self._remember_dtype()
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return LENGTH

    @instance_lru_cache(maxsize=10000, typed=False)
    def get_cached_vec(self, language_code: str, word: str) -> torch.Tensor:
        """The vector of a word in a language, zeros for an unknown one: ``[300]``."""
        vocabulary, matrix = self._table(language_code)
        row = next((vocabulary[form] for form in lookup_forms(word) if form in vocabulary), None)
        vector = np.zeros(LENGTH, dtype=np.float32) if row is None else matrix[row]
        return torch.tensor(vector, dtype=torch.float32, device=_runtime.device)

    def _table(self, language: str) -> tuple[dict[str, int], np.ndarray]:
        if language not in self.language_embeddings:
            cache = Path("embeddings") / "MUSE"
            file = f"muse.{language}.vec.gensim"
            cached_path(f"{MUSE_URL}/{file}.vectors.npy", cache_dir=cache)
            path = cached_path(f"{MUSE_URL}/{file}", cache_dir=cache)
            words, matrix = read_vectors(path)
            self.language_embeddings[language] = (as_vocabulary(words, path), matrix)
        return self.language_embeddings[language]

    def rows(self, sentences: list[Sentence]) -> torch.Tensor:
        vectors: list[torch.Tensor] = []
        for sentence in sentences:
            code = sentence.get_language_code()
            language = code if code in MUSE_LANGUAGES else FALLBACK
            vectors.extend(self.get_cached_vec(language, token.text) for token in sentence)
        if not vectors:
            return torch.zeros(0, LENGTH, dtype=self.dtype, device=_runtime.device)
        return torch.stack(vectors).to(self.dtype)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled instance, also of released versions, which keep tables as objects of gensim."""
        super().__setstate__(state)
        self.language_embeddings = {
            language: table if isinstance(table, tuple) else (dict(table.key_to_index), np.asarray(table.vectors))
            for language, table in self.language_embeddings.items()
        }

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> MuseCrosslingualEmbeddings:
        return cls()

    def to_params(self) -> dict[str, Any]:
        return {}
