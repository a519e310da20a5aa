"""What can carry labels and embeddings: data points, and the parts of a sentence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypeVar, Union

import torch

from flair import _runtime
from flair.data.label import Label

if TYPE_CHECKING:
    from flair.data.sentence import Sentence

DT = TypeVar("DT", bound="DataPoint")
DT2 = TypeVar("DT2", bound="DataPoint")

_HALF = (torch.bfloat16, torch.float16)


class BoundingBox(NamedTuple):
    """Where a token stands on a page, in the layout model's units (usually thousandths of the page)."""

    left: str
    top: int
    right: int
    bottom: int


class DataPoint(ABC):
    """Anything that can be labelled and embedded.

    Labels live in annotation layers (a layer is a label type), embeddings under the names of their embeddings. Both
    dictionaries are made when they are first needed: most tokens have neither.
    """

    _layers: Optional[dict[str, list[Label]]] = None
    _vectors: Optional[dict[str, torch.Tensor]] = None
    _notes: Optional[dict[str, Any]] = None

    def __init__(self) -> None:  # noqa: B027 - subclasses of released versions call it
        pass

    # --- storage made on demand ---

    @property
    def annotation_layers(self) -> dict[str, list[Label]]:
        """Label type -> the labels of that type."""
        if self._layers is None:
            self._layers = {}
        return self._layers

    @annotation_layers.setter
    def annotation_layers(self, value: dict[str, list[Label]]) -> None:
        self._layers = value

    @property
    def _embeddings(self) -> dict[str, torch.Tensor]:
        if self._vectors is None:
            self._vectors = {}
        return self._vectors

    @_embeddings.setter
    def _embeddings(self, value: dict[str, torch.Tensor]) -> None:
        self._vectors = value

    @property
    def _metadata(self) -> dict[str, Any]:
        if self._notes is None:
            self._notes = {}
        return self._notes

    # --- what subclasses define ---

    @property
    @abstractmethod
    def embedding(self) -> torch.Tensor:
        """All embeddings of this data point as one vector (empty if there are none)."""
        raise NotImplementedError

    @property
    @abstractmethod
    def unlabeled_identifier(self) -> str:
        """Names the data point in printouts and evaluation, without its labels."""
        raise NotImplementedError

    @property
    @abstractmethod
    def start_position(self) -> int:
        """Offset of the first character."""
        raise NotImplementedError

    @property
    @abstractmethod
    def end_position(self) -> int:
        """Offset behind the last character."""
        raise NotImplementedError

    @property
    @abstractmethod
    def text(self) -> str:
        raise NotImplementedError

    # --- embeddings ---

    def set_embedding(self, name: str, vector: torch.Tensor) -> None:
        """Store a vector; 16-bit floats become float32, which is what users read."""
        self._embeddings[name] = vector.float() if vector.dtype in _HALF else vector

    def get_embedding(self, names: Optional[list[str]] = None) -> torch.Tensor:
        """The stored vectors, concatenated in the order of their names: ``[sum of lengths]``."""
        vectors = self.get_each_embedding(names)
        if not vectors:
            return torch.tensor([], device=_runtime.device)
        return torch.cat(vectors) if len(vectors) > 1 else vectors[0]

    def get_each_embedding(self, embedding_names: Optional[list[str]] = None) -> list[torch.Tensor]:
        """The stored vectors (those of the given names; all without any name), sorted by name."""
        if not self._vectors:
            return []
        device = _runtime.device
        return [
            self._vectors[name].to(device)
            for name in sorted(self._vectors)
            if not embedding_names or name in embedding_names
        ]

    def to(self, device: Union[str, torch.device], pin_memory: bool = False) -> None:
        """Move the stored vectors."""
        for name, vector in (self._vectors or {}).items():
            if str(vector.device) != str(device):
                source = vector.pin_memory() if pin_memory else vector
                self._embeddings[name] = source.to(device, non_blocking=pin_memory)

    def clear_embeddings(self, embedding_names: Optional[list[str]] = None) -> None:
        """Remove the stored vectors (those of the given names)."""
        if embedding_names is None:
            self._vectors = None
        elif self._vectors:
            for name in embedding_names:
                self._vectors.pop(name, None)

    def _get_dynamic_embedding_names(self) -> set[str]:
        return {name for name, vector in (self._vectors or {}).items() if vector.requires_grad}

    def _get_all_embedding_names(self) -> set[str]:
        return set(self._vectors or ())

    # --- metadata ---

    def add_metadata(self, key: str, value: Any) -> None:
        self._metadata[key] = value

    def get_metadata(self, key: str) -> Any:
        return self._metadata[key]

    def has_metadata(self, key: str) -> bool:
        return self._notes is not None and key in self._notes

    # --- labels ---

    def has_label(self, typename: str = "", *, type: str = "") -> bool:
        """Whether there is a label of this type (0.15 called the argument ``type``)."""
        return self._layers is not None and bool(self._layers.get(typename or type))

    def add_label(self, typename: str, value: str, score: float = 1.0, **metadata: Any) -> Any:
        """Add a label to those of its type; returns the data point."""
        self._attach(typename, Label(self, value, score, **metadata))
        return self

    def set_label(self, typename: str, value: str, score: float = 1.0, **metadata: Any) -> Any:
        """Put a label in place of all others of its type; returns the data point."""
        self.annotation_layers[typename] = []
        self._attach(typename, Label(self, value, score, **metadata))
        return self

    def _attach(self, typename: str, label: Label) -> None:
        label._typename = typename
        self.annotation_layers.setdefault(typename, []).append(label)

    def remove_labels(self, typename: str) -> None:
        """Remove all labels of a type."""
        if self._layers is not None:
            self._layers.pop(typename, None)

    def get_label(self, label_type: Optional[str] = None, zero_tag_value: str = "O") -> Label:
        """The first label (of a type), or an unattached "O" label if there is none."""
        labels = self.get_labels(label_type)
        return labels[0] if labels else Label(self, zero_tag_value)

    def get_labels(self, typename: Optional[str] = None) -> list[Label]:
        """All labels, or those of a type."""
        if typename is None:
            return self.labels
        return list(self._layers.get(typename, ())) if self._layers is not None else []

    @property
    def labels(self) -> list[Label]:
        return [label for layer in (self._layers or {}).values() for label in layer]

    @property
    def tag(self) -> str:
        """Value of the first label."""
        return self.labels[0].value

    @property
    def score(self) -> float:
        """Score of the first label."""
        return self.labels[0].score

    # --- printing and order ---

    def _printout_labels(
        self, main_label: Optional[str] = None, add_score: bool = True, add_metadata: bool = True
    ) -> str:
        layers = [main_label] if main_label is not None else list(self._layers or ())
        parts = [
            f"{label.value}{label.metadata_str if add_metadata else ''}{f' ({label.score:.4f})' if add_score else ''}"
            for layer in layers
            for label in self.get_labels(layer)
            if label.data_point is self
        ]
        return _runtime.arrow + "; ".join(parts) if parts else ""

    def __str__(self) -> str:
        return f"{self.unlabeled_identifier}{self._printout_labels()}"

    def __lt__(self, other: DataPoint) -> bool:
        return self.start_position < other.start_position

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no length.")

    def __bool__(self) -> bool:
        try:
            return len(self) > 0
        except NotImplementedError:
            return True


class EntityCandidate:
    """An entry of a knowledge base to which mentions can be linked."""

    def __init__(
        self,
        concept_id: str,
        concept_name: str,
        database_name: str,
        additional_ids: Optional[list[str]] = None,
        synonyms: Optional[list[str]] = None,
        description: Optional[str] = None,
    ) -> None:
        """Describe a concept.

        Args:
            concept_id: its identifier in the database.
            concept_name: its preferred name.
            database_name: the knowledge base.
            additional_ids: further identifiers.
            synonyms: further names.
            description: a sentence about it.
        """
        self.concept_id = concept_id
        self.concept_name = concept_name
        self.database_name = database_name
        self.description = description
        self.synonyms = synonyms if synonyms is not None else []
        self.additional_ids = additional_ids if additional_ids is not None else []

    def __str__(self) -> str:
        text = f"EntityLinkingCandidate: {self.database_name}:{self.concept_id} - {self.concept_name}"
        return f"{text} - {'|'.join(self.additional_ids)}" if self.additional_ids else text

    def __repr__(self) -> str:
        return str(self)

    def to_dict(self) -> dict[str, Any]:
        return {
            "concept_id": self.concept_id,
            "concept_name": self.concept_name,
            "database_name": self.database_name,
            "additional_ids": self.additional_ids,
            "synonyms": self.synonyms,
            "description": self.description,
        }


class _PartOfSentence(DataPoint, ABC):
    """A data point inside a sentence. Its labels are registered at the sentence, too."""

    def __init__(self, sentence: Any) -> None:
        super().__init__()
        self.sentence: Sentence = sentence

    def _attach(self, typename: str, label: Label) -> None:
        super()._attach(typename, label)
        if self.sentence is not None:
            self.sentence.annotation_layers.setdefault(typename, []).append(label)

    def add_label(self, typename: str, value: str, score: float = 1.0, **metadata: Any) -> Any:
        return super().add_label(typename, value, score, **metadata)

    def set_label(self, typename: str, value: str, score: float = 1.0, **metadata: Any) -> Any:
        if self._layers and self._layers.get(typename):
            self.remove_labels(typename)
        return super().set_label(typename, value, score, **metadata)

    def remove_labels(self, typename: str) -> None:
        layer = self.sentence._layers.get(typename) if self.sentence is not None and self.sentence._layers else None
        if layer:
            layer[:] = [label for label in layer if label.data_point is not self]
            if not layer:
                del self.sentence.annotation_layers[typename]
        super().remove_labels(typename)


class Token(_PartOfSentence):
    """One token of a sentence; ``idx`` counts from 1."""

    head_id: Optional[int] = None
    _tag_distributions: Optional[dict[str, list[Label]]] = None

    def __init__(
        self,
        text: str,
        head_id: Optional[int] = None,
        whitespace_after: int = 1,
        start_position: int = 0,
        sentence: Optional[Sentence] = None,
    ) -> None:
        """Make a token.

        Args:
            text: its characters.
            head_id: ``idx`` of its syntactic head.
            whitespace_after: number of spaces up to the next token.
            start_position: offset in the sentence.
            sentence: the sentence it belongs to.
        """
        self.sentence = sentence  # type: ignore[assignment]
        self.form = text
        self.whitespace_after = whitespace_after
        self._start_position = start_position
        self._internal_index: Optional[int] = None
        if head_id is not None:
            self.head_id = head_id

    @property
    def idx(self) -> int:
        return -1 if self._internal_index is None else self._internal_index

    @property
    def text(self) -> str:
        return self.form

    @property
    def unlabeled_identifier(self) -> str:
        return f'Token[{self.idx - 1}]: "{self.text}"'

    @property
    def tags_proba_dist(self) -> dict[str, list[Label]]:
        """Label type -> the distribution over all tags that a tagger was asked to keep."""
        if self._tag_distributions is None:
            self._tag_distributions = {}
        return self._tag_distributions

    def add_tags_proba_dist(self, tag_type: str, tags: list[Label]) -> None:
        self.tags_proba_dist[tag_type] = tags

    def get_tags_proba_dist(self, tag_type: str) -> list[Label]:
        return (self._tag_distributions or {}).get(tag_type, [])

    def get_head(self) -> Optional[Token]:
        return self.sentence.get_token(self.head_id) if self.head_id is not None else None

    @property
    def start_position(self) -> int:
        return self._start_position

    @start_position.setter
    def start_position(self, value: int) -> None:
        self._start_position = value

    @property
    def end_position(self) -> int:
        return self._start_position + len(self.form)

    @property
    def embedding(self) -> torch.Tensor:
        return self.get_embedding()

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return self.__str__()

    def add_label(self, typename: str, value: str, score: float = 1.0, **metadata: Any) -> None:
        super().add_label(typename, value, score, **metadata)

    def set_label(self, typename: str, value: str, score: float = 1.0, **metadata: Any) -> None:
        super().set_label(typename, value, score, **metadata)

    def to_dict(self, tag_type: Optional[str] = None) -> dict[str, Any]:
        return {
            "text": self.text,
            "start_pos": self.start_position,
            "end_pos": self.end_position,
            "labels": [label.to_dict() for label in self.get_labels(tag_type)],
        }


def _bare(cls: type) -> Any:
    """An instance without state, for copying and unpickling: spans and relations are unique per sentence."""
    return object.__new__(cls)


class _UniqueInSentence(_PartOfSentence, ABC):
    """A part that exists once per sentence, however often it is asked for."""

    initialized: bool

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _bare, (type(self),), self.__dict__


class Span(_UniqueInSentence):
    """Neighbouring tokens of one sentence. The same tokens always give the same object."""

    def __new__(cls, tokens: list[Token]) -> Span:
        sentence = tokens[0].sentence
        key = ("span", *(token.idx for token in tokens))
        known = sentence._known_spans.get(key)
        if known is None:
            known = object.__new__(cls)
            known.initialized = False
            known = sentence._known_spans.setdefault(key, known)
        return known

    def __init__(self, tokens: list[Token]) -> None:
        if self.initialized:
            return
        super().__init__(tokens[0].sentence)
        self.tokens = list(tokens)
        self.initialized = True

    @property
    def start_position(self) -> int:
        return self.tokens[0].start_position

    @property
    def end_position(self) -> int:
        return self.tokens[-1].end_position

    @property
    def text(self) -> str:
        *inner, last = self.tokens
        return "".join(f"{token.text}{' ' * token.whitespace_after}" for token in inner) + last.text

    @property
    def unlabeled_identifier(self) -> str:
        return f'Span[{self.tokens[0].idx - 1}:{self.tokens[-1].idx}]: "{self.text}"'

    def __repr__(self) -> str:
        return self.__str__()

    def __getitem__(self, idx: int) -> Token:
        return self.tokens[idx]

    def __iter__(self) -> Iterator[Token]:
        return iter(self.tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def embedding(self) -> torch.Tensor:
        return self.get_embedding()

    def to_dict(self, tag_type: Optional[str] = None) -> dict[str, Any]:
        return {
            "text": self.text,
            "start_pos": self.start_position,
            "end_pos": self.end_position,
            "labels": [label.to_dict() for label in self.get_labels(tag_type)],
        }

    def _get_dynamic_embedding_names(self) -> set[str]:
        return super()._get_dynamic_embedding_names()

    def _get_all_embedding_names(self) -> set[str]:
        return super()._get_all_embedding_names()


class Relation(_UniqueInSentence):
    """An ordered pair of spans. The same spans always give the same object."""

    def __new__(cls, first: Span, second: Span) -> Relation:
        sentence = first.sentence
        key = (
            "relation",
            *(token.idx for token in first.tokens),
            "to",
            *(token.idx for token in second.tokens),
        )
        known = sentence._known_spans.get(key)
        if known is None:
            known = object.__new__(cls)
            known.initialized = False
            known = sentence._known_spans.setdefault(key, known)
        return known

    def __init__(self, first: Span, second: Span) -> None:
        if self.initialized:
            return
        super().__init__(first.sentence)
        self.first = first
        self.second = second
        self.initialized = True

    def __repr__(self) -> str:
        return self.__str__()

    @property
    def tag(self) -> str:
        return self.labels[0].value

    @property
    def text(self) -> str:
        return f"{self.first.text} -> {self.second.text}"

    @property
    def unlabeled_identifier(self) -> str:
        first, second = self.first.tokens, self.second.tokens
        return (
            f"Relation[{first[0].idx - 1}:{first[-1].idx}][{second[0].idx - 1}:{second[-1].idx}]: "
            f'"{self.first.text} -> {self.second.text}"'
        )

    @property
    def start_position(self) -> int:
        return min(self.first.start_position, self.second.start_position)

    @property
    def end_position(self) -> int:
        return max(self.first.end_position, self.second.end_position)

    @property
    def embedding(self) -> torch.Tensor:
        return self.get_embedding()

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def to_dict(self, tag_type: Optional[str] = None) -> dict[str, Any]:
        return {
            "from_text": self.first.text,
            "to_text": self.second.text,
            "from_idx": self.first.tokens[0].idx - 1,
            "to_idx": self.second.tokens[0].idx - 1,
            "labels": [label.to_dict() for label in self.get_labels(tag_type)],
        }


for _public in (BoundingBox, DataPoint, EntityCandidate, _PartOfSentence, Token, Span, Relation):
    _public.__module__ = "flair.data"
