"""Classic word vectors: one row of a matrix for every known word."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch.nn import functional

from flair import _runtime
from flair.data.sentence import Sentence
from flair.embeddings._token.pretrained import NILC_URL, WORD_EMBEDDINGS, WORD_EMBEDDINGS_URL
from flair.embeddings._token.rows import RowEmbeddings, words_of
from flair.embeddings._token.vectors import as_vocabulary, lookup_forms, read_vectors
from flair.embeddings.base import register_embeddings
from flair.file_utils import cached_path, extract_single_zip_file

_REMEMBERED_WORDS = 100_000


@register_embeddings
class WordEmbeddings(RowEmbeddings):
    """Looks words up in a table of vectors.

    A word is looked for as it is, then lower-cased, then with its digits as ``#``, then with its digits as ``0``; a
    word without any of these forms gets zeros (the last row of the table).
    """

    def __init__(
        self,
        embeddings: Optional[str],
        field: Optional[str] = None,
        fine_tune: bool = False,
        force_cpu: bool = True,
        stable: bool = False,
        no_header: bool = False,
        vocab: Optional[dict[str, int]] = None,
        embedding_length: Optional[int] = None,
        name: Optional[str] = None,
    ) -> None:
        """Load word vectors.

        Args:
            embeddings: a published name ("glove", "turian", "de", "de-crawl", …) or a file: word2vec text (.txt),
                word2vec binary (.bin), or what gensim's ``KeyedVectors.save`` wrote. None builds an empty table for
                ``vocab``.
            field: embed the label of this type instead of the token's text.
            fine_tune: train the vectors.
            force_cpu: keep the table in main memory whatever device is in use.
            stable: normalise the vectors with a layer norm.
            no_header: the word2vec text file does not start with its size.
            vocab: word -> row, only with ``embeddings=None``.
            embedding_length: dimensions, only with ``embeddings=None``.
            name: under which the vectors are stored on tokens; by default the file's path.

        Raises:
            ValueError: no such name or file; fine-tuning on a GPU with ``force_cpu``; a vocabulary without a length.
        """
        self.embeddings = embeddings if embeddings is not None else name
        path = self.resolve_precomputed_path(embeddings)
        self.name = name if name is not None else str(path)
        super().__init__()
        if fine_tune and force_cpu and _runtime.device.type != "cpu":
            raise ValueError("Cannot train WordEmbeddings on a GPU while force_cpu is set. Pass force_cpu=False.")
        self.static_embeddings = not fine_tune
        self.fine_tune = fine_tune
        self.force_cpu = force_cpu
        self.field = field
        self.stable = stable
        if path is not None:
            words, matrix = read_vectors(path, no_header=no_header)
            vocab, embedding_length = as_vocabulary(words, path), matrix.shape[1]
        elif vocab is None or embedding_length is None:
            raise ValueError("WordEmbeddings(None) needs vocab={word: row} and embedding_length.")
        else:
            matrix = np.zeros((len(vocab), embedding_length), dtype=np.float32)
        self.vocab = vocab
        self.__embedding_length = embedding_length
        table = torch.from_numpy(np.concatenate([matrix, np.zeros((1, embedding_length), dtype=np.float32)]))
        self.embedding = torch.nn.Embedding.from_pretrained(table, freeze=not fine_tune)
        self.layer_norm: Optional[torch.nn.LayerNorm] = None
        if stable:
            self.layer_norm = torch.nn.LayerNorm(embedding_length, elementwise_affine=fine_tune)
        self.device = torch.device("cpu") if force_cpu else _runtime.device
        self._known: dict[str, int] = {}
        self.to(_runtime.device)
        self.eval()

    # --- names and files ---

    def resolve_precomputed_path(self, embeddings: Optional[str]) -> Optional[Path]:
        """The file behind a published name (downloaded where it is not cached) or a path.

        Raises:
            ValueError: neither a name nor an existing file.
        """
        if embeddings is None:
            return None
        name = str(embeddings).lower()
        file = WORD_EMBEDDINGS.get(name)
        if file is None and not Path(embeddings).exists():
            if re.fullmatch(r"[a-z]{2}(-wiki)?", name):
                file = f"{name[:2]}-wiki-fasttext-300d-1M"
            elif re.fullmatch(r"[a-z]{2}-crawl", name):
                file = f"{name[:2]}-crawl-fasttext-300d-1M"
        if file is not None:
            cache = Path("embeddings")
            cached_path(f"{WORD_EMBEDDINGS_URL}/{file}.vectors.npy", cache_dir=cache)
            return cached_path(f"{WORD_EMBEDDINGS_URL}/{file}", cache_dir=cache)
        if not Path(embeddings).exists():
            raise ValueError(f'The given embeddings "{embeddings}" is not available or is not a valid path.')
        return Path(embeddings)

    # --- lookup ---

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def get_cached_token_index(self, word: str) -> int:
        """The row of a word; ``len(vocab)``, the row of zeros, when no form of it is known."""
        index = self._known.get(word)
        if index is None:
            index = self._find(word)
            if len(self._known) >= _REMEMBERED_WORDS:
                self._known.clear()
            self._known[word] = index
        return index

    def _find(self, word: str) -> int:
        return next((self.vocab[form] for form in lookup_forms(word) if form in self.vocab), len(self.vocab))

    def rows(self, sentences: list[Sentence]) -> torch.Tensor:
        words = words_of(sentences, self.field)
        known, look_up = self._known, self.get_cached_token_index
        indices = [known[word] if word in known else look_up(word) for word in words]
        index = torch.tensor(indices, dtype=torch.long, device=self.embedding.weight.device)
        vectors = functional.embedding(index, self.embedding.weight).to(_runtime.device)
        return vectors if self.layer_norm is None else self.layer_norm(vectors)

    # --- torch ---

    def train(self, mode: bool = True) -> WordEmbeddings:
        """Only embeddings that are fine-tuned have a training mode."""
        super().train(mode and self.fine_tune)
        return self

    def to(self, *args: Any, **kwargs: Any) -> WordEmbeddings:  # type: ignore[override]
        """As any module, except that with ``force_cpu`` the table changes its type and not its place."""
        super().to(*args, **kwargs)
        return self

    def _apply(self, fn: Callable, *args: Any, **kwargs: Any) -> WordEmbeddings:
        if not self.force_cpu or self.fine_tune:
            super()._apply(fn, *args, **kwargs)
            self.device = self.embedding.weight.device
            return self
        table = self.embedding.weight.data
        dtype = fn(torch.empty(1, dtype=table.dtype)).dtype  # what the function would do, without moving the table
        if dtype != table.dtype:
            self.embedding.weight.data = table.to(dtype)
        if self.layer_norm is not None:
            self.layer_norm._apply(fn)
        return self

    def __str__(self) -> str:
        return self.name

    def extra_repr(self) -> str:
        return f"'{self.embeddings}'"

    # --- files ---

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled instance, also of versions that kept gensim vectors or lacked some settings."""
        state = dict(state)
        state.pop("get_cached_vec", None)
        state.setdefault("embeddings", state.get("name"))
        state.setdefault("force_cpu", True)
        state.setdefault("fine_tune", False)
        state.setdefault("field", None)
        state.setdefault("device", torch.device("cpu"))
        state["_known"] = {}
        modules = dict(state.get("_modules", {}))
        if "stable" not in state:
            state["stable"] = False
            modules["layer_norm"] = None
        vectors = state.pop("precomputed_word_embeddings", None)
        if vectors is not None:
            keys = getattr(vectors, "key_to_index", None)
            state["vocab"] = (
                dict(keys) if keys is not None else {word: row.index for word, row in vectors.vocab.items()}
            )
            matrix = np.asarray(vectors.vectors, dtype=np.float32)
            table = torch.from_numpy(np.concatenate([matrix, np.zeros((1, matrix.shape[1]), dtype=np.float32)]))
            modules["embedding"] = torch.nn.Embedding.from_pretrained(table, freeze=not state["fine_tune"])
            state.setdefault("_WordEmbeddings__embedding_length", matrix.shape[1])
        state["_modules"] = modules
        super().__setstate__(state)

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> WordEmbeddings:
        return cls(embeddings=None, **params)

    def to_params(self) -> dict[str, Any]:
        return {
            "vocab": self.vocab,
            "stable": self.stable,
            "fine_tune": self.fine_tune,
            "force_cpu": self.force_cpu,
            "field": self.field,
            "name": self.name,
            "embedding_length": self.__embedding_length,
        }

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The table (``embedding.weight``) and, if stable, the layer norm."""
        return super().state_dict(*args, **kwargs)


@register_embeddings
class NILCEmbeddings(WordEmbeddings):
    """Portuguese word vectors of the NILC (Hartmann et al. 2017)."""

    def __init__(self, embeddings: str, model: str = "skip", size: int = 100) -> None:
        """Download (once) and load one table.

        Args:
            embeddings: "fasttext", "glove", "wang2vec" or "word2vec".
            model: "skip" or "cbow"; without meaning for "glove".
            size: dimensions: 50, 100, 300, 600 or 1000.

        Raises:
            ValueError: for another name.
        """
        kind = embeddings.lower()
        if kind not in ("fasttext", "glove", "wang2vec", "word2vec"):
            raise ValueError(
                f'The given embeddings "{embeddings}" is not available. Use fasttext, glove, wang2vec, word2vec.'
            )
        cache = Path("embeddings") / f"nilc-{kind}"
        archive = f"{NILC_URL}{kind}/{kind if kind == 'glove' else model}_s{size}.zip"
        path = extract_single_zip_file(archive, cache_dir=cache)
        super().__init__(embeddings=str(path), name=f"NILC-{kind}")

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> WordEmbeddings:
        return WordEmbeddings(embeddings=None, **params)
