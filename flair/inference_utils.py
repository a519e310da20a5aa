"""Word vectors on disk: for prediction, a table of words need not be in memory."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch

from flair import _runtime
from flair.class_utils import lazy_import
from flair.data.sentence import Sentence
from flair.embeddings._token.rows import RowEmbeddings, words_of
from flair.embeddings._token.stacked import StackedEmbeddings
from flair.embeddings._token.vectors import lookup_forms
from flair.embeddings._token.word import WordEmbeddings
from flair.file_utils import Tqdm

DEFAULT_MAP_SIZE = 100 * 1024 * 1024 * 1024
"""Bytes that an LMDB store may grow to. The file takes only what it needs."""

_REMEMBERED_WORDS = 10_000
_WORDS_PER_QUERY = 200
_ROWS_AT_ONCE = 10_000


class WordEmbeddingsStore(RowEmbeddings):
    """Stands in for :class:`~flair.embeddings.WordEmbeddings` and reads each vector from a file when it is needed.

    A store is made once from the embeddings, beside the downloaded ones in ``<flair.cache_root>/embeddings``::

        tagger = SequenceTagger.load("my-tagger.pt")
        WordEmbeddingsStore.create_stores(tagger)
        WordEmbeddingsStore.load_stores(tagger)  # from here on the vectors are read from the store

    Predictions are equal. Vectors in a store are not trained, and a model that uses one is not saved.
    """

    def __init__(self, embedding: WordEmbeddings, backend: str = "sqlite", verbose: bool = True) -> None:
        """Open the store of an embedding, and make it first if there is none that fits.

        Args:
            embedding: the embedding to replace.
            backend: "sqlite" or "lmdb".
            verbose: log what is done.

        Raises:
            ValueError: another backend.
            FileNotFoundError: there is no store, and the embedding has no vectors to make one from.
        """
        super().__init__()
        self.items = ""
        self.name = embedding.name
        self.field = embedding.field
        self.static_embeddings = True
        self.__embedding_length = embedding.embedding_length
        self.layer_norm: Optional[torch.nn.LayerNorm] = embedding.layer_norm
        self.store_path = _store_path(embedding, backend)
        if verbose:
            _runtime.logger.info(f"store filename: {self.store_path}")
        if backend not in _BACKENDS:
            raise ValueError(f'The given backend "{backend}" is not available. Use {" or ".join(_BACKENDS)}.')
        self.backend: WordEmbeddingsStoreBackend = _BACKENDS[backend](embedding, verbose)
        # No numbers, only a type: it follows the model to other types, and tells the model its own, as the table did.
        self._type = torch.nn.Parameter(torch.zeros(0, dtype=embedding.embedding.weight.dtype), requires_grad=False)
        self._known: dict[str, np.ndarray] = {}
        self.eval()

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def rows(self, sentences: list[Sentence]) -> torch.Tensor:
        words = words_of(sentences, self.field)
        distinct = list(dict.fromkeys(words))
        if len(self._known) + len(distinct) > _REMEMBERED_WORDS:
            self._known = {}
        unseen = [word for word in distinct if word not in self._known]
        self._known.update(zip(unseen, self.backend.vectors(unseen), strict=True))
        matrix = np.stack([self._known[word] for word in words]) if words else np.zeros((0, self.embedding_length))
        vectors = torch.from_numpy(matrix).to(device=_runtime.device, dtype=self._type.dtype)
        return vectors if self.layer_norm is None else self.layer_norm(vectors)

    def embed(self, sentences: Union[Sentence, list[Sentence]]) -> list[Sentence]:  # type: ignore[override]
        """Write the vectors onto the tokens."""
        if isinstance(sentences, Sentence):
            sentences = [sentences]
        return self._add_embeddings_internal(list(sentences))

    def get_names(self) -> list[str]:
        """The name under which vectors are stored on tokens: that of the replaced embedding."""
        return [self.name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": {}}

    @staticmethod
    def create_stores(model: Any, backend: str = "sqlite") -> None:
        """Make a store for each of a model's word embeddings. The model stays as it is."""
        for _, embedding in _word_embeddings(model):
            if isinstance(embedding, WordEmbeddings):
                WordEmbeddingsStore(embedding, backend)

    @staticmethod
    def load_stores(model: Any, backend: str = "sqlite") -> None:
        """Replace a model's word embeddings by their stores, which frees the memory of the tables."""
        for parent, embedding in list(_word_embeddings(model)):
            if isinstance(embedding, WordEmbeddings):
                _replace(parent, embedding, WordEmbeddingsStore(embedding, backend))

    @staticmethod
    def delete_stores(model: Any, backend: str = "sqlite") -> None:
        """Delete the stores of a model's word embeddings; what reads from one of them can no longer be used."""
        for _, embedding in _word_embeddings(model):
            path = (
                embedding.store_path if isinstance(embedding, WordEmbeddingsStore) else _store_path(embedding, backend)
            )
            if isinstance(embedding, WordEmbeddingsStore):
                embedding.backend.close()
            if path.exists():
                _runtime.logger.info(f"delete store: {path}")
                _remove(path)


class WordEmbeddingsStoreBackend:
    """A file of words and vectors. Subclasses know its format."""

    suffix = ""

    def __init__(self, embedding: WordEmbeddings, backend: str, verbose: bool = True) -> None:
        """Open the store, after making it if there is none that fits the embedding."""
        self.name = embedding.name
        self.store_path = _store_path(embedding, backend)
        self.k = embedding.embedding_length
        self._lock = threading.Lock()
        if self._fits(embedding):
            return
        table = embedding.embedding.weight
        if not embedding.vocab or len(table) <= len(embedding.vocab):
            raise FileNotFoundError(
                f"There is no store of {embedding.name} at {self.store_path}, and the embedding has no vectors to make "
                "one from. Make it with WordEmbeddingsStore.create_stores(model) where the vectors are."
            )
        if verbose:
            _runtime.logger.info("load vectors to store")
        self.close()
        self.store_path.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first: a process that is stopped must not leave half a store.
        partial = self.store_path.with_name(f".{self.store_path.name}.{os.getpid()}.tmp")
        _remove(partial)
        try:
            self._write(partial, _rows_of(embedding, verbose))
            _remove(self.store_path)
            os.replace(partial, self.store_path)
        finally:
            _remove(partial)
        if not self._fits(embedding):
            raise OSError(f"The store that was written to {self.store_path} cannot be read.")

    def _fits(self, embedding: WordEmbeddings) -> bool:
        """Whether the store can be opened, has vectors of the right length, and those of the embedding's words."""
        if not self.is_ok:
            return False
        words = list(embedding.vocab)
        table = embedding.embedding.weight
        if len(table) <= len(words) or not words:
            return True  # without vectors there is nothing to compare with
        sample = dict.fromkeys([words[0], words[len(words) // 2], words[-1]])
        return all(
            (found := self._find([word]).get(word)) is not None
            and np.array_equal(found, table[embedding.vocab[word]].detach().float().cpu().numpy())
            for word in sample
        )

    @property
    def is_ok(self) -> bool:
        """Whether the store can be read."""
        return False

    def _get_vector(self, word: str = "house") -> np.ndarray:
        """The vector of a word, looked up as :class:`~flair.embeddings.WordEmbeddings` does; zeros if unknown."""
        return self.vectors([word])[0]

    def vectors(self, words: Sequence[str]) -> list[np.ndarray]:
        """The vectors of words, float32 ``[embedding_length]`` each; zeros for those without a known form."""
        found: dict[str, np.ndarray] = {}
        with self._lock:
            for start in range(0, len(words), _WORDS_PER_QUERY):
                forms = [form for word in words[start : start + _WORDS_PER_QUERY] for form in lookup_forms(word)]
                found.update(self._find(list(dict.fromkeys(forms))))
        zeros = np.zeros(self.k, dtype=np.float32)
        return [next((found[form] for form in lookup_forms(word) if form in found), zeros) for word in words]

    def _find(self, words: list[str]) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _write(self, path: Path, rows: Iterator[tuple[str, np.ndarray]]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file."""

    def __getstate__(self) -> dict[str, Any]:
        """Open files are opened anew by copies."""
        return {name: value for name, value in self.__dict__.items() if name not in ("db", "env", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
        if not self.is_ok:
            raise FileNotFoundError(f"There is no readable store at {self.store_path}.")


class SqliteWordEmbeddingsStoreBackend(WordEmbeddingsStoreBackend):
    """A table ``embedding`` of SQLite with the columns ``word``, ``v0``, ``v1``, … and an index on the words."""

    db: Optional[sqlite3.Connection] = None

    def __init__(self, embedding: WordEmbeddings, verbose: bool) -> None:
        super().__init__(embedding, "sqlite", verbose)

    @property
    def is_ok(self) -> bool:
        """Whether there is a table with vectors of the right length."""
        if self.db is None:
            if not self.store_path.exists():
                return False
            uri = f"{self.store_path.resolve().as_uri()}?mode=ro"
            self.db = sqlite3.connect(uri, uri=True, check_same_thread=False)
        try:
            row = self.db.execute("SELECT * FROM embedding LIMIT 1").fetchone()
        except sqlite3.DatabaseError:
            row = None
        if row is not None and len(row) == self.k + 1:
            return True
        self.close()
        return False

    def _find(self, words: list[str]) -> dict[str, np.ndarray]:
        if self.db is None and not self.is_ok:
            raise FileNotFoundError(f"There is no readable store at {self.store_path}.")
        assert self.db is not None
        query = f"SELECT * FROM embedding WHERE word IN ({','.join('?' * len(words))})"
        return {word: np.array(vector, dtype=np.float32) for word, *vector in self.db.execute(query, words)}

    def _write(self, path: Path, rows: Iterator[tuple[str, np.ndarray]]) -> None:
        db = sqlite3.connect(path)
        try:
            columns = ",".join(f"v{i} float" for i in range(self.k))
            db.execute(f"CREATE TABLE embedding(word text,{columns})")
            insert = f"INSERT INTO embedding VALUES ({','.join('?' * (self.k + 1))})"
            db.executemany(insert, ((word, *vector.tolist()) for word, vector in rows))
            db.execute("CREATE INDEX embedding_index ON embedding(word)")
            db.commit()
        finally:
            db.close()

    def close(self) -> None:
        """Close the connection; the next reading opens it again."""
        if self.db is not None:
            self.db.close()
            self.db = None


class LmdbWordEmbeddingsStoreBackend(WordEmbeddingsStoreBackend):
    """An LMDB folder: words in UTF-8 and vectors as little-endian float32.

    Released versions stored pickles, which are not read: such stores are made anew.
    """

    env: Any = None

    def __init__(self, embedding: WordEmbeddings, verbose: bool) -> None:
        super().__init__(embedding, "lmdb", verbose)

    @property
    def is_ok(self) -> bool:
        """Whether there are vectors of the right length."""
        lmdb = lazy_import("word-embeddings", "lmdb", None)
        if self.env is None:
            if not (self.store_path / "data.mdb").exists():
                return False
            try:
                self.env = lmdb.open(str(self.store_path), readonly=True, lock=False, map_size=DEFAULT_MAP_SIZE)
            except lmdb.Error:
                return False
        with self.env.begin() as transaction, transaction.cursor() as cursor:
            if cursor.first() and len(cursor.value()) == 4 * self.k:
                return True
        self.close()
        return False

    def _find(self, words: list[str]) -> dict[str, np.ndarray]:
        if self.env is None and not self.is_ok:
            raise FileNotFoundError(f"There is no readable store at {self.store_path}.")
        with self.env.begin() as transaction:
            stored = {word: transaction.get(key) for word in words if (key := _key(word, self.env))}
        return {w: np.frombuffer(v, dtype="<f4").astype(np.float32) for w, v in stored.items() if v is not None}

    def _write(self, path: Path, rows: Iterator[tuple[str, np.ndarray]]) -> None:
        lmdb = lazy_import("word-embeddings", "lmdb", None)
        env = lmdb.open(str(path), map_size=DEFAULT_MAP_SIZE)
        try:
            with env.begin(write=True) as transaction:
                for word, vector in rows:
                    if key := _key(word, env):
                        transaction.put(key, vector.astype("<f4").tobytes())
        finally:
            env.close()

    def close(self) -> None:
        """Close the environment; the next reading opens it again."""
        if self.env is not None:
            self.env.close()
            self.env = None


_BACKENDS: dict[str, Any] = {"sqlite": SqliteWordEmbeddingsStoreBackend, "lmdb": LmdbWordEmbeddingsStoreBackend}


def _key(word: str, env: Any) -> bytes:
    """The key of a word; empty for what cannot be one (LMDB limits the length of keys)."""
    key = word.encode("utf-8", errors="surrogatepass")
    return key if len(key) <= env.max_key_size() else b""


def _store_path(embedding: Any, backend: str) -> Path:
    """``<cache_root>/embeddings/<file>.<backend>``, as released versions name it, for files in a folder "embeddings".

    Other files get their folder's hash into the name, since equal names there mean nothing.
    """
    known = re.search(r"/(embeddings/.*)", str(embedding.name))
    if known:
        return _runtime.cache_root / f"{known[1]}.{backend}"
    name = re.sub(r"^\d+-", "", str(embedding.name))  # the position in a stack
    digest = hashlib.sha256(os.path.abspath(name).encode()).hexdigest()[:8]
    return _runtime.cache_root / "embeddings" / f"{Path(name).name}-{digest}.{backend}"


def _rows_of(embedding: WordEmbeddings, verbose: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Every word with its vector (float32), in portions, so that no second table is made."""
    items = list(embedding.vocab.items())
    table = embedding.embedding.weight.detach()
    with Tqdm.tqdm(total=len(items), desc="Storing", unit="word", disable=not verbose) as bar:
        for start in range(0, len(items), _ROWS_AT_ONCE):
            portion = items[start : start + _ROWS_AT_ONCE]
            index = torch.tensor([row for _, row in portion], device=table.device)
            matrix = table[index].float().cpu().numpy()
            yield from zip((word for word, _ in portion), matrix, strict=True)
            bar.update(len(portion))


def _word_embeddings(model: Any) -> Iterator[tuple[torch.nn.Module, Any]]:
    """The word embeddings and stores in a model, each with the module that it is a part of."""
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"Stores are for models and embeddings, got {type(model).__name__}.")
    for parent in list(model.modules()):
        for child in list(parent.children()):
            if isinstance(child, (WordEmbeddings, WordEmbeddingsStore)):
                yield parent, child


def _replace(parent: torch.nn.Module, old: torch.nn.Module, new: torch.nn.Module) -> None:
    for name, child in list(parent.named_children()):
        if child is old:
            setattr(parent, name, new)
    if isinstance(parent, StackedEmbeddings):
        parent.embeddings = [new if member is old else member for member in parent.embeddings]  # type: ignore[misc]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
