"""Word vectors without pretraining: a trained table, addressed by vocabulary or by hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import torch

from flair import _runtime
from flair.data.corpus import Corpus
from flair.data.dictionary import Dictionary
from flair.data.sentence import Sentence
from flair.embeddings._token.rows import RowEmbeddings, words_of
from flair.embeddings.base import register_embeddings


@register_embeddings
class OneHotEmbeddings(RowEmbeddings):
    """One trained vector for every item of a vocabulary; the first one is for unknown words."""

    def __init__(
        self, vocab_dictionary: Dictionary, field: str = "text", embedding_length: int = 300, stable: bool = False
    ) -> None:
        """Build a table with fresh vectors.

        Args:
            vocab_dictionary: the vocabulary.
            field: "text", or the label type that is embedded instead.
            embedding_length: dimensions.
            stable: normalise the vectors with a layer norm.
        """
        super().__init__()
        self.name = f"one-hot-{field}"
        self.static_embeddings = False
        self.field = field
        self.vocab_dictionary = vocab_dictionary
        self.__embedding_length = embedding_length
        self.embedding_layer = torch.nn.Embedding(len(vocab_dictionary), embedding_length)
        torch.nn.init.xavier_uniform_(self.embedding_layer.weight)
        self.stable = stable
        self.layer_norm = torch.nn.LayerNorm(embedding_length) if stable else None
        _runtime.logger.info(f"vocabulary size of {len(vocab_dictionary)}")
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def rows(self, sentences: list[Sentence]) -> torch.Tensor:
        words = words_of(sentences, None if self.field == "text" else self.field)
        index = self.vocab_dictionary.get_idx_for_items(words)
        vectors = self.embedding_layer(torch.tensor(index, dtype=torch.long, device=self.embedding_layer.weight.device))
        return vectors if self.layer_norm is None else self.layer_norm(vectors)

    @classmethod
    def from_corpus(cls, corpus: Corpus, field: str = "text", min_freq: int = 3, **kwargs: Any) -> OneHotEmbeddings:
        """Take the vocabulary from the training split: words (or label values) seen ``min_freq`` times or more.

        Raises:
            ValueError: the corpus has no training split.
        """
        if corpus.train is None:
            raise ValueError("OneHotEmbeddings.from_corpus needs a corpus with a training split.")
        sentences = [corpus.train[number] for number in range(len(corpus.train))]  # type: ignore[arg-type]
        counts = Counter(words_of(sentences, None if field == "text" else field))
        vocabulary = Dictionary()
        for word, count in counts.items():
            if count >= min_freq:
                vocabulary.add_item(word)
        return cls(vocabulary, field=field, **kwargs)

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> OneHotEmbeddings:
        return cls(**params)

    def to_params(self) -> dict[str, Any]:
        return {
            "vocab_dictionary": self.vocab_dictionary,
            "field": self.field,
            "embedding_length": self.__embedding_length,
            "stable": self.layer_norm is not None,
        }


@register_embeddings
class HashEmbeddings(RowEmbeddings):
    """Trained vectors shared by all words with the same hash: any vocabulary, constant memory."""

    def __init__(self, num_embeddings: int = 1000, embedding_length: int = 300, hash_method: str = "md5") -> None:
        """Build a table with fresh vectors.

        Args:
            num_embeddings: number of vectors.
            embedding_length: dimensions.
            hash_method: one that :mod:`hashlib` knows.
        """
        super().__init__()
        self.name = "hash"
        self.static_embeddings = False
        self.__num_embeddings = num_embeddings
        self.__embedding_length = embedding_length
        self.__hash_method = hash_method
        self.embedding_layer = torch.nn.Embedding(num_embeddings, embedding_length)
        torch.nn.init.xavier_uniform_(self.embedding_layer.weight)
        self.to(_runtime.device)
        self.eval()

    @property
    def num_embeddings(self) -> int:
        return self.__num_embeddings

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def rows(self, sentences: list[Sentence]) -> torch.Tensor:
        words = words_of(sentences)
        places = {word: self._place(word) for word in set(words)}
        index = torch.tensor(
            [places[word] for word in words], dtype=torch.long, device=self.embedding_layer.weight.device
        )
        return self.embedding_layer(index)

    def _place(self, word: str) -> int:
        digest = hashlib.new(self.__hash_method, word.encode("utf-8"), usedforsecurity=False).hexdigest()
        return int(digest, 16) % self.__num_embeddings

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> HashEmbeddings:
        return cls(**params)

    def to_params(self) -> dict[str, Any]:
        return {
            "num_embeddings": self.__num_embeddings,
            "embedding_length": self.__embedding_length,
            "hash_method": self.__hash_method,
        }
