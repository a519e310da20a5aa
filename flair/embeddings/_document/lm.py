"""Document vectors read from character language models."""

from __future__ import annotations

from typing import Any

import torch

from flair import _runtime
from flair.data.sentence import Sentence
from flair.embeddings._document._base import refuse_empty
from flair.embeddings._token.contextual import FlairEmbeddings
from flair.embeddings.base import DocumentEmbeddings, load_embeddings, register_embeddings


@register_embeddings
class DocumentLMEmbeddings(DocumentEmbeddings):
    """The states in which language models end after reading a sentence.

    That is a forward model's vector of the last token and a backward model's vector of the first one.
    """

    def __init__(self, flair_embeddings: list[FlairEmbeddings]) -> None:
        """Combine language models.

        Args:
            flair_embeddings: the language models, side by side in the alphabetical order of their names.

        Raises:
            ValueError: without any, or for two of one name, whose vectors could not be told apart.
        """
        super().__init__()
        if not flair_embeddings:
            raise ValueError("DocumentLMEmbeddings needs at least one FlairEmbeddings, got an empty list.")
        names = [embedding.name for embedding in flair_embeddings]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"DocumentLMEmbeddings got two embeddings of the name {twice[0]!r}. Pass name= to one.")
        self.embeddings = flair_embeddings
        self.name = "document_lm"
        self.static_embeddings = False
        for position, embedding in enumerate(flair_embeddings):
            self.add_module(f"lm_embedding_{position}", embedding)
        self._embedding_length = sum(embedding.embedding_length for embedding in flair_embeddings)
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return self._embedding_length

    def get_names(self) -> list[str]:
        """The names of the language models: each stores a vector of its own on a sentence."""
        return [embedding.name for embedding in self.embeddings]

    def _encode_members(self, sentences: list[Sentence]) -> list[torch.Tensor]:
        """For each language model ``[batch, its length]``."""
        refuse_empty(self, sentences)
        vectors = []
        for embedding in self.embeddings:
            tokens, lengths = embedding.encode_tokens(sentences)
            places = lengths - 1 if embedding.is_forward_lm else torch.zeros_like(lengths)
            vectors.append(tokens[torch.arange(len(sentences), device=tokens.device), places])
        return vectors

    def encode_documents(self, sentences: list[Any]) -> torch.Tensor:
        vectors = dict(zip(self.get_names(), self._encode_members(sentences), strict=True))
        return torch.cat([vectors[name] for name in sorted(vectors)], dim=1)

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        for embedding in self.embeddings:  # the tokens get their vectors too
            embedding.embed(sentences)
        for name, rows in zip(self.get_names(), self._encode_members(sentences), strict=True):
            for sentence, row in zip(sentences, rows.unbind(), strict=True):
                sentence.set_embedding(name, row)
        return sentences

    def to_params(self) -> dict[str, Any]:
        return {"flair_embeddings": [embedding.save_embeddings(use_state_dict=False) for embedding in self.embeddings]}

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> DocumentLMEmbeddings:
        return cls([load_embeddings(member) for member in params["flair_embeddings"]])  # type: ignore[misc]
