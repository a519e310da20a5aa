"""Two or three data points that get labels together."""

from __future__ import annotations

from typing import Any, Generic, Optional, TypeVar, Union

import torch

from flair.data.sentence import Sentence
from flair.data.units import DT, DT2, DataPoint

DT3 = TypeVar("DT3", bound=DataPoint)


class _Group(DataPoint):
    """What pairs and triples share: everything about the whole is asked of the parts."""

    def _parts(self) -> tuple[DataPoint, ...]:
        raise NotImplementedError

    def to(self, device: Union[str, torch.device], pin_memory: bool = False) -> None:
        for part in self._parts():
            part.to(device, pin_memory)

    def clear_embeddings(self, embedding_names: Optional[list[str]] = None) -> None:
        for part in self._parts():
            part.clear_embeddings(embedding_names)

    @property
    def embedding(self) -> torch.Tensor:
        return torch.cat([part.embedding for part in self._parts()])

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts())

    @property
    def unlabeled_identifier(self) -> str:
        return f"{type(self).__name__}: " + " + ".join(f"'{part.unlabeled_identifier}'" for part in self._parts())

    @property
    def start_position(self) -> int:
        return self._parts()[0].start_position

    @property
    def end_position(self) -> int:
        return self._parts()[0].end_position

    def _get_dynamic_embedding_names(self) -> set[str]:
        return set().union(*(part._get_dynamic_embedding_names() for part in self._parts()))

    def _get_all_embedding_names(self) -> set[str]:
        return set().union(*(part._get_all_embedding_names() for part in self._parts()))


class DataPair(_Group, Generic[DT, DT2]):
    """Two data points, for example premise and hypothesis."""

    def __init__(self, first: DT, second: DT2) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.concatenated_data: Optional[Union[DT, DT2]] = None

    def _parts(self) -> tuple[Any, ...]:
        return self.first, self.second

    @property
    def text(self) -> str:
        return f"{self.first.text} || {self.second.text}"


class DataTriple(_Group, Generic[DT, DT2, DT3]):
    """Three data points."""

    def __init__(self, first: DT, second: DT2, third: DT3) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.third = third

    def _parts(self) -> tuple[Any, ...]:
        return self.first, self.second, self.third

    @property
    def text(self) -> str:
        return f"{self.first.text} || {self.second.text}||{self.third.text}"


TextPair = DataPair[Sentence, Sentence]
TextTriple = DataTriple[Sentence, Sentence, Sentence]

for _public in (DataPair, DataTriple):
    _public.__module__ = "flair.data"
