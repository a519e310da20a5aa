"""Word vectors composed of subwords: byte pairs and fastText."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch.nn import functional

from flair import _runtime
from flair.class_utils import lazy_import
from flair.data.sentence import Sentence
from flair.embeddings._token.gensim_file import refuse_unsafe
from flair.embeddings._token.rows import RowEmbeddings, words_of
from flair.embeddings._token.vectors import read_vectors
from flair.embeddings.base import register_embeddings
from flair.file_utils import cached_path, instance_lru_cache

_DIGIT = re.compile(r"\d")


def _load_units(processor: Any, path: Path) -> None:
    """Fill a ``SentencePieceProcessor``; its own errors name no file."""
    if not path.is_file():
        raise FileNotFoundError(f"The SentencePiece model {path} is not there, or is a folder.")
    try:
        processor.Load(str(path))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} holds no SentencePiece model, or only a part of one: {error}") from error


@register_embeddings
class BytePairEmbeddings(RowEmbeddings):
    """The vectors of a word's first and last byte-pair unit (Heinzerling and Strube 2018), side by side."""

    def __init__(
        self,
        language: Optional[str] = None,
        dim: int = 50,
        syllables: int = 100000,
        cache_dir: Any = None,
        model_file_path: Optional[Path] = None,
        embedding_file_path: Optional[Path] = None,
        name: Optional[str] = None,
        force_cpu: bool = True,
        field: Optional[str] = None,
        preprocess: bool = True,
        **kwargs: Any,
    ) -> None:
        """Load published units and vectors by language, or both from files.

        Args:
            language: language code of published byte pairs ("en", "multi", …).
            dim: dimensions of a unit's vector; without vectors the size of the empty table.
            syllables: size of the published vocabulary.
            cache_dir: where downloads go; default ``<cache_root>/embeddings``.
            model_file_path: a SentencePiece model, instead of a language.
            embedding_file_path: vectors for it, in word2vec format.
            name: under which the vectors are stored on tokens.
            force_cpu: keep the table in main memory whatever device is in use.
            field: embed the label of this type instead of the token's text.
            preprocess: lower-case words and turn digits into 0, as the published units were trained.
            kwargs: further arguments of ``bpemb.BPEmb``.

        Raises:
            ValueError: neither a language nor a model file, or a file that is none.
            FileNotFoundError: no such model file.
            ImportError: sentencepiece or bpemb is needed and not installed.
        """
        super().__init__()
        if model_file_path is not None:
            (processor,) = lazy_import("word-embeddings", "sentencepiece", "SentencePieceProcessor")
            self.spm = processor()
            _load_units(self.spm, Path(model_file_path))
            units = self.spm.vocab_size()
            matrix = np.zeros((units, dim), dtype=np.float32)
            if embedding_file_path is not None:
                words, matrix = read_vectors(Path(embedding_file_path))
                if len(words) != units:
                    raise ValueError(
                        f"{embedding_file_path} has vectors for {len(words)} units, "
                        f"the model {model_file_path} has {units}."
                    )
            default_name = f"bpe-{language or 'custom'}-{units}-{matrix.shape[1]}"
        elif language is not None:
            (bpemb,) = lazy_import("word-embeddings", "bpemb", "BPEmb")
            folder = Path(cache_dir) if cache_dir else _runtime.cache_root / "embeddings"
            published = bpemb(lang=language, vs=syllables, dim=dim, cache_dir=folder, **kwargs)
            self.spm = published.spm
            matrix = np.asarray(published.emb.vectors, dtype=np.float32)
            default_name = f"bpe-{language}-{syllables}-{dim}"
        else:
            raise ValueError("Need to specify model_file_path if no language is given in BytePairEmbeddings.")
        self.name = name if name is not None else default_name
        self.static_embeddings = True
        self.field = field
        self.force_cpu = force_cpu
        self.do_preproc = preprocess
        self.embedding = torch.nn.Embedding.from_pretrained(_with_zero_row(matrix), freeze=True)
        self.__embedding_length = matrix.shape[1] * 2
        self.device = torch.device("cpu") if force_cpu else _runtime.device
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def rows(self, sentences: list[Sentence]) -> torch.Tensor:
        words = words_of(sentences, self.field)
        units = {word: self._first_and_last(word) for word in set(words)}
        pairs = torch.tensor([units[word] for word in words], dtype=torch.long, device=self.embedding.weight.device)
        vectors = functional.embedding(pairs.view(-1, 2), self.embedding.weight)
        return vectors.flatten(1).to(_runtime.device)

    def _first_and_last(self, word: str) -> tuple[int, int]:
        unknown = self.embedding.num_embeddings - 1  # the row of zeros
        if self.do_preproc:
            word = _DIGIT.sub("0", word).lower()
        ids = self.spm.EncodeAsIds(word) if word.strip() else []
        return (ids[0], ids[-1]) if ids else (unknown, unknown)

    def to(self, *args: Any, **kwargs: Any) -> BytePairEmbeddings:  # type: ignore[override]
        """As any module, except that with ``force_cpu`` the table changes its type and not its place."""
        super().to(*args, **kwargs)
        return self

    def _apply(self, fn: Callable, *args: Any, **kwargs: Any) -> BytePairEmbeddings:
        if not self.force_cpu:
            super()._apply(fn, *args, **kwargs)
            self.device = self.embedding.weight.device
            return self
        table = self.embedding.weight.data
        dtype = fn(torch.empty(1, dtype=table.dtype)).dtype
        if dtype != table.dtype:
            self.embedding.weight.data = table.to(dtype)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The table, ``embedding.weight``."""
        return super().state_dict(*args, **kwargs)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # Files of early versions have the vectors in the configuration and none here.
        if f"{prefix}embedding.weight" not in state_dict:
            state_dict[f"{prefix}embedding.weight"] = self.embedding.weight.data
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def extra_repr(self) -> str:
        return f"model={self.name}"

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> BytePairEmbeddings:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "units.model"
            model.write_bytes(params["spm_model_binary"])
            vectors: Optional[Path] = None
            if "word2vec_binary" in params:
                vectors = Path(folder) / "units.bin"
                vectors.write_bytes(params["word2vec_binary"])
            return cls(
                name=params["name"],
                dim=params.get("dim", 50),
                field=params.get("field"),
                preprocess=params.get("preprocess", True),
                model_file_path=model,
                embedding_file_path=vectors,
            )

    def to_params(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "spm_model_binary": self.spm.serialized_model_proto(),
            "dim": self.embedding.embedding_dim,
            "field": self.field,
            "preprocess": self.do_preproc,
        }


@register_embeddings
class FastTextEmbeddings(RowEmbeddings):
    """fastText vectors, which exist for any word. Deprecated: load static fastText files as WordEmbeddings."""

    def __init__(
        self, embeddings: str, use_local: bool = True, field: Optional[str] = None, name: Optional[str] = None
    ) -> None:
        """Load a fastText model.

        Args:
            embeddings: a file of fastText (.bin) or of gensim's fastText ``save``, or its URL.
            use_local: whether ``embeddings`` is a file and no URL.
            field: embed the label of this type instead of the token's text.
            name: under which the vectors are stored on tokens; by default the file's path.

        Raises:
            ValueError: no such file.
            UnsafeCheckpointError: a file of gensim that could run code.
            ImportError: gensim is not installed.
        """
        super().__init__()
        path = Path(embeddings) if use_local else cached_path(embeddings, cache_dir=Path("embeddings"))
        if not path.exists():
            raise ValueError(f'The given embeddings "{embeddings}" is not available or is not a valid path.')
        self.embeddings = str(embeddings)
        self.name = name if name is not None else str(embeddings)
        self.static_embeddings = True
        self.field = field
        load_facebook, keyed_vectors = lazy_import(
            "word-embeddings", "gensim.models.fasttext", "load_facebook_vectors", "FastTextKeyedVectors"
        )
        if path.suffix != ".bin":
            refuse_unsafe(path)
        self.precomputed_word_embeddings = (
            load_facebook(str(path)) if path.suffix == ".bin" else keyed_vectors.load(str(path))
        )
        if hasattr(self.precomputed_word_embeddings, "wv"):  # a whole training state was saved
            self.precomputed_word_embeddings = self.precomputed_word_embeddings.wv
        self.__embedding_length: int = self.precomputed_word_embeddings.vector_size
        self._remember_dtype()
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    @instance_lru_cache(maxsize=10000, typed=False)
    def get_cached_vec(self, word: str) -> torch.Tensor:
        """The vector of a word, zeros when none of its character n-grams is known: ``[embedding_length]``."""
        try:
            vector = self.precomputed_word_embeddings.get_vector(word)
        except KeyError:
            vector = np.zeros(self.__embedding_length, dtype=np.float32)
        return torch.tensor(np.asarray(vector), dtype=torch.float32, device=_runtime.device)

    def rows(self, sentences: list[Sentence]) -> torch.Tensor:
        words = words_of(sentences, self.field)
        if not words:
            return torch.zeros(0, self.__embedding_length, dtype=self.dtype, device=_runtime.device)
        return torch.stack([self.get_cached_vec(word) for word in words]).to(self.dtype)

    def extra_repr(self) -> str:
        return f"'{self.embeddings}'"

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> FastTextEmbeddings:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fasttext.model"
            path.write_bytes(params["fasttext_binary"])
            return cls(embeddings=str(path), field=params.get("field"), name=params.get("name"))

    def to_params(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fasttext.model"
            # One file, whatever the size of the matrices: the bytes travel inside the model file.
            self.precomputed_word_embeddings.save(str(path), sep_limit=2**62)
            return {"name": self.name, "field": self.field, "fasttext_binary": path.read_bytes()}


def _with_zero_row(matrix: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([matrix, np.zeros((1, matrix.shape[1]), dtype=np.float32)]))
