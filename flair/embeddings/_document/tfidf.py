"""Document vectors that count words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import torch

from flair import _runtime
from flair.data.sentence import Sentence
from flair.embeddings.base import DocumentEmbeddings, register_embeddings

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer


@register_embeddings
class DocumentTFIDFEmbeddings(DocumentEmbeddings):
    """How often each word occurs in a sentence, weighted by how few sentences of the training data have it (tf-idf)."""

    def __init__(
        self,
        train_dataset: list[Sentence],
        vectorizer: Optional[TfidfVectorizer] = None,
        **vectorizer_params: Any,
    ) -> None:
        """Learn the vocabulary and its weights, or take them over.

        Args:
            train_dataset: the sentences to learn from; empty with a ``vectorizer``.
            vectorizer: a fitted ``sklearn.feature_extraction.text.TfidfVectorizer``.
            vectorizer_params: for the constructor of a new one, e.g. ``max_features=1000``.

        Raises:
            ValueError: both sentences and a vectorizer, neither of them, or sentences without any word.
        """
        super().__init__()
        from sklearn.feature_extraction.text import TfidfVectorizer

        if vectorizer is not None and (len(train_dataset) or vectorizer_params):
            raise ValueError(
                "DocumentTFIDFEmbeddings takes either sentences to learn from or a fitted vectorizer, got "
                f"a vectorizer with {len(train_dataset)} sentences and {len(vectorizer_params)} settings."
            )
        if vectorizer is None:
            if not len(train_dataset):
                raise ValueError(
                    "DocumentTFIDFEmbeddings needs sentences to learn its empty vocabulary from, got none."
                )
            vectorizer = TfidfVectorizer(**{"dtype": np.float32, **vectorizer_params})
            vectorizer.fit([sentence.to_original_text() for sentence in train_dataset])
        self.vectorizer = vectorizer
        self.name = "document_tfidf"
        self.__embedding_length = len(self.vectorizer.vocabulary_)
        self._remember_dtype()
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def embed(self, sentences: Union[list[Sentence], Sentence]) -> list[Sentence]:
        return super().embed(sentences)

    def encode_documents(self, sentences: list[Any]) -> torch.Tensor:
        if not sentences:
            return torch.zeros(0, self.__embedding_length, dtype=self.dtype, device=_runtime.device)
        counts = self.vectorizer.transform([sentence.to_original_text() for sentence in sentences])
        return torch.from_numpy(counts.toarray()).to(_runtime.device, self.dtype)

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        for sentence, row in zip(sentences, self.encode_documents(sentences).unbind(), strict=True):
            sentence.set_embedding(self.name, row)
        return sentences

    def to_params(self) -> dict[str, Any]:
        return {"vectorizer": self.vectorizer}

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> DocumentTFIDFEmbeddings:
        return cls(train_dataset=[], vectorizer=params["vectorizer"])
