"""Several token embeddings side by side."""

from __future__ import annotations

from typing import Any, Union

import torch

from flair.data.sentence import Sentence
from flair.embeddings.base import Embeddings, TokenEmbeddings, load_embeddings, register_embeddings


@register_embeddings
class StackedEmbeddings(TokenEmbeddings):
    """Concatenates the vectors of its members, in the alphabetical order of their names."""

    def __init__(self, embeddings: list[TokenEmbeddings], overwrite_names: bool = True) -> None:
        """Stack token embeddings.

        Args:
            embeddings: the members, at least one.
            overwrite_names: prefix the members' names with their position, so that one can occur twice.

        Raises:
            IndexError: for an empty list.
            ValueError: for a member that embeds whole sentences.
        """
        if not embeddings:
            raise IndexError("StackedEmbeddings needs at least one embedding, got an empty list.")
        super().__init__()
        self.embeddings = embeddings
        for position, embedding in enumerate(embeddings):
            if embedding.embedding_type != "word-level":
                raise ValueError(
                    f"StackedEmbeddings takes token embeddings; number {position} ({type(embedding).__name__}) gives "
                    f"{embedding.embedding_type} vectors."
                )
            if overwrite_names:
                embedding.name = f"{position}-{embedding.name}"
            self.add_module(f"list_embedding_{position}", embedding)
        self.name = "Stack"
        self.static_embeddings = True
        self.__embedding_type = embeddings[0].embedding_type
        self.eval()

    def embed(self, sentences: Union[Sentence, list[Sentence]], static_embeddings: bool = True) -> list[Sentence]:  # type: ignore[override]
        """Write every member's vectors onto the tokens."""
        sentences = self._as_list(sentences)
        for embedding in self.embeddings:
            embedding.embed(sentences)
        return sentences

    @property
    def embedding_type(self) -> str:
        return self.__embedding_type

    @property
    def embedding_length(self) -> int:
        return sum(embedding.embedding_length for embedding in self.embeddings)

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        return self.embed(sentences)

    def encode_tokens(self, sentences: list[Sentence]) -> tuple[torch.Tensor, torch.Tensor]:
        """The members' vectors side by side: ``[batch, tokens, embedding_length]``, and lengths ``[batch]``."""
        parts, lengths = self.encode_parts(sentences)
        device = parts[0][1].device
        ordered = sorted(parts, key=lambda part: part[0])  # as reading them from the data points would give
        return torch.cat([vectors.to(device) for _, vectors in ordered], dim=-1), lengths.to(device)

    def encode_parts(self, sentences: list[Sentence]) -> tuple[list[tuple[str, torch.Tensor]], torch.Tensor]:
        """Each stored name with its vectors ``[batch, tokens, length]``, and the sentences' lengths."""
        parts: list[tuple[str, torch.Tensor]] = []
        lengths: torch.Tensor | None = None
        for embedding in self.embeddings:
            in_parts = getattr(embedding, "encode_parts", None)
            if in_parts is not None:
                own, lengths = in_parts(sentences)
                parts.extend(own)
            else:
                vectors, lengths = embedding.encode_tokens(sentences)
                parts.append((embedding.name, vectors))
        assert lengths is not None
        return parts, lengths

    def __str__(self) -> str:
        return f"StackedEmbeddings [{','.join(str(embedding) for embedding in self.embeddings)}]"

    def get_names(self) -> list[str]:
        """The names under which the members store vectors."""
        return [name for embedding in self.embeddings for name in embedding.get_names()]

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> StackedEmbeddings:
        members: list[Embeddings] = [load_embeddings(member) for member in params["embeddings"]]
        for member, name in zip(members, params.get("names") or _names(members, params["embeddings"]), strict=True):
            member.name = name
        distinct = len({member.name for member in members}) == len(members)
        return cls(embeddings=members, overwrite_names=not distinct)  # type: ignore[arg-type]

    def to_params(self) -> dict[str, Any]:
        return {
            "embeddings": [embedding.save_embeddings(use_state_dict=False) for embedding in self.embeddings],
            "names": [embedding.name for embedding in self.embeddings],
        }


def _names(members: list[Embeddings], saved: list[dict[str, Any]]) -> list[str]:
    """The names that members had when a released version saved them: they decide on the order of the vectors.

    Some classes store their name, with the prefix that the stack had given it; others (one-hot, hash, pooled, ...)
    do not. Those get the prefix back, unless the stored names show that the stack gave none.
    """
    stored = [str(params["name"]).startswith(f"{place}-") for place, params in enumerate(saved) if "name" in params]
    if not all(stored):
        return [member.name for member in members]
    return [
        member.name if "name" in params else f"{place}-{member.name}"
        for place, (member, params) in enumerate(zip(members, saved, strict=True))
    ]
