"""Document vectors of the sentence-transformers library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from flair import _runtime
from flair.checkpoint import CheckpointError, UnsafeCheckpointError
from flair.class_utils import lazy_import
from flair.data.sentence import Sentence
from flair.embeddings.base import DocumentEmbeddings, register_embeddings


@register_embeddings
class SentenceTransformerDocumentEmbeddings(DocumentEmbeddings):
    """Vectors of a model of the sentence-transformers library (Reimers and Gurevych 2019, arXiv:1908.10084)."""

    def __init__(self, model: str = "bert-base-nli-mean-tokens", batch_size: int = 1) -> None:
        """Load a model.

        Args:
            model: a name on the hub or the path of a folder.
            batch_size: sentences that are encoded at once.

        Raises:
            ImportError: sentence-transformers is not installed.
        """
        super().__init__()
        (sentence_transformer,) = lazy_import("sentence-transformers", "sentence_transformers", "SentenceTransformer")
        self.model_name = str(model)
        self.name = f"sentence-transformers-{self.model_name}"
        self.batch_size = batch_size
        self.static_embeddings = True
        self.model = sentence_transformer(
            self.model_name, cache_folder=str(_runtime.cache_root / "embeddings" / "sentence-transformer")
        )
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return int(self.model.get_sentence_embedding_dimension())

    def encode_documents(self, sentences: list[Any]) -> torch.Tensor:
        if self._everything_embedded(sentences):  # kept from an earlier epoch: the model is never trained
            return super().encode_documents(sentences)
        vectors = self.model.encode(
            [sentence.to_plain_string() for sentence in sentences],
            batch_size=self.batch_size,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        # The library computes under inference mode, whose tensors cannot enter a graph.
        return vectors.to(_runtime.device).clone()

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        for sentence, row in zip(sentences, self.encode_documents(sentences).unbind(), strict=True):
            sentence.set_embedding(self.name, row)
        return sentences

    def to_params(self) -> dict[str, Any]:
        return {"model": self.model_name, "batch_size": self.batch_size}

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> SentenceTransformerDocumentEmbeddings:
        _refuse_own_modules(Path(str(params.get("model", ""))))
        return cls(**params)


def _refuse_own_modules(folder: Path) -> None:
    """The library imports modules that lie in a model's folder. A file must not make it do so by naming a folder.

    Raises:
        UnsafeCheckpointError: the folder has modules of its own.
    """
    listing = folder / "modules.json"
    if not listing.is_file():
        return
    try:
        kinds = [str(module["type"]) for module in json.loads(listing.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{listing}, to which the file refers, is damaged: {error}") from error
    own = [kind for kind in kinds if not kind.startswith("sentence_transformers.")]
    if own:
        raise UnsafeCheckpointError(
            f"The file refers to the sentence transformer at {str(folder)!r}, which runs code of its own "
            f"({', '.join(own)}), so nothing was loaded."
        )
