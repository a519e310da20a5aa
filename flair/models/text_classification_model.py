"""Text classification: labels for whole sentences or documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Union, cast

import torch

from flair.data.sentence import Sentence
from flair.embeddings.base import DocumentEmbeddings, TokenEmbeddings
from flair.file_utils import cached_path
from flair.nn.model import DefaultClassifier

_URL_BASE = "https://nlp.informatik.hu-berlin.de/resources/models"

PRETRAINED = {
    "de-offensive-language": f"{_URL_BASE}/de-offensive-language/germ-eval-2018-task-1-v0.8.pt",
    "sentiment": f"{_URL_BASE}/sentiment-curated-distilbert/sentiment-en-mix-distillbert_4.pt",
    "en-sentiment": f"{_URL_BASE}/sentiment-curated-distilbert/sentiment-en-mix-distillbert_4.pt",
    "sentiment-fast": f"{_URL_BASE}/sentiment-curated-fasttext-rnn/sentiment-en-mix-ft-rnn_v8.pt",
    "communicative-functions": f"{_URL_BASE}/comfunc/communicative-functions.pt",
}
"""Short name -> file; cached under ``<cache_root>/models``."""


def _require_document_vectors(embeddings: Any) -> None:
    gives_tokens = isinstance(embeddings, TokenEmbeddings) and embeddings.embedding_type == "word-level"
    if gives_tokens and not getattr(embeddings, "document_embedding", False):
        raise TypeError(
            f"TextClassifier needs one vector a text, and {type(embeddings).__name__} gives one a token. Use "
            "TransformerDocumentEmbeddings, or pool the tokens: DocumentPoolEmbeddings([embeddings])."
        )


class TextClassifier(DefaultClassifier[Sentence, Sentence]):
    """Gives a text one label, or several (``multi_label=True``), from its document embedding."""

    def __init__(self, embeddings: DocumentEmbeddings, label_type: str, **classifierargs: Any) -> None:
        """Build a text classifier.

        Args:
            embeddings: one vector a text, for example :class:`~flair.embeddings.TransformerDocumentEmbeddings`.
            label_type: the label type to learn and to write.
            classifierargs: arguments of :class:`~flair.nn.DefaultClassifier`; ``label_dictionary`` is required.

        Raises:
            TypeError: embeddings that only give vectors of tokens.
        """
        if type(self)._get_embedding_for_data_point is TextClassifier._get_embedding_for_data_point:
            _require_document_vectors(embeddings)
        super().__init__(**classifierargs, embeddings=embeddings, final_embedding_size=embeddings.embedding_length)
        self._label_type = label_type

    @property
    def label_type(self) -> str:
        return self._label_type

    def _get_embedding_for_data_point(self, prediction_data_point: Sentence) -> torch.Tensor:
        return prediction_data_point.get_embedding(self.embeddings.get_names())

    def _get_data_points_from_sentence(self, sentence: Sentence) -> list[Sentence]:
        return [sentence]

    def _encode_batch(self, sentences: list[Sentence], data_points: list[Sentence]) -> Optional[torch.Tensor]:
        own = type(self)
        customised = (
            own._get_embedding_for_data_point is not TextClassifier._get_embedding_for_data_point
            or own._get_data_points_from_sentence is not TextClassifier._get_data_points_from_sentence
            or own._get_data_points_for_batch is not DefaultClassifier._get_data_points_for_batch
            or own._encode_data_points is not DefaultClassifier._encode_data_points
            or not self.should_embed_sentence
        )
        # `data_points` are the sentences themselves here, less those that training leaves out.
        return None if customised else self.embeddings.encode_documents(data_points)

    def _get_state_dict(self) -> dict[str, Any]:
        return {
            **super()._get_state_dict(),
            "document_embeddings": self.embeddings.save_embeddings(use_state_dict=False),
            "label_dictionary": self.label_dictionary,
            "label_type": self.label_type,
            "weight_dict": self.weight_dict,
        }

    @classmethod
    def _init_model_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> TextClassifier:
        own = {
            "embeddings": state.get("document_embeddings"),
            "label_dictionary": state.get("label_dictionary"),
            "label_type": state.get("label_type"),
            "loss_weights": state.get("weight_dict"),
        }
        return cast("TextClassifier", super()._init_model_with_state_dict(state, **{**own, **kwargs}))

    @staticmethod
    def _fetch_model(model_identifier: str) -> str:
        url = PRETRAINED.get(model_identifier)
        return model_identifier if url is None else str(cached_path(url, cache_dir=Path("models")))

    @classmethod
    def load(cls, model_path: Union[str, Path, dict[str, Any]], **options: Any) -> TextClassifier:
        """Rebuild a text classifier; see :meth:`flair.nn.Model.load` for the options."""
        return cast("TextClassifier", super().load(model_path=model_path, **options))
