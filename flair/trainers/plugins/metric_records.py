"""What the trainer tells its plugins about numbers: a named value at a step."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional, Union

RecordType = Enum("RecordType", ["scalar", "image", "histogram", "string", "scalar_list"])


class MetricName:
    """A path of names such as ``dev/micro avg/f1-score``; equal to its string and to the tuple of its parts."""

    __slots__ = ("parts",)

    def __init__(self, name: Union[str, Iterable[str]]) -> None:
        self.parts: tuple[str, ...] = tuple(name.split("/")) if isinstance(name, str) else tuple(name)

    def __str__(self) -> str:
        return "/".join(self.parts)

    def __repr__(self) -> str:
        return str(self)

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __getitem__(self, i: Union[int, slice]) -> Union[MetricName, str]:
        return MetricName(self.parts[i]) if isinstance(i, slice) else self.parts[i]

    def __len__(self) -> int:
        return len(self.parts)

    def __add__(self, other: Union[str, Iterable[str]]) -> MetricName:
        return MetricName(self.parts + MetricName(other).parts)

    def __radd__(self, other: Union[str, Iterable[str]]) -> MetricName:
        return MetricName(MetricName(other).parts + self.parts)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return str(self) == other
        if isinstance(other, MetricName):
            return self.parts == other.parts
        if isinstance(other, (tuple, list)):
            return self.parts == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.parts)


@dataclass(init=False, repr=False)
class MetricRecord:
    """One value of one metric.

    Attributes:
        name: what was measured.
        value: the value; its type goes with ``typ``.
        global_step: the batch count for metrics of a batch, the epoch for metrics of an epoch.
        typ: how to read the value.
        walltime: seconds since the epoch (Unix) at which the value was recorded.
    """

    name: MetricName
    value: Any
    global_step: int
    typ: RecordType
    walltime: float = field(default_factory=time.time)

    def __init__(
        self,
        name: Union[Iterable[str], str],
        value: Any,
        global_step: int,
        typ: RecordType,
        *,
        walltime: Optional[float] = None,
    ) -> None:
        self.name = name if isinstance(name, MetricName) else MetricName(name)
        self.value = value
        self.global_step = global_step
        self.typ = typ
        self.walltime = time.time() if walltime is None else walltime

    @property
    def joined_name(self) -> str:
        """The name as one string, its parts joined by slashes."""
        return str(self.name)

    @classmethod
    def scalar(
        cls, name: Iterable[str], value: Any, global_step: int, *, walltime: Optional[float] = None
    ) -> MetricRecord:
        """A single number."""
        return cls(name, value, global_step, RecordType.scalar, walltime=walltime)

    @classmethod
    def scalar_list(
        cls, name: Iterable[str], value: list, global_step: int, *, walltime: Optional[float] = None
    ) -> MetricRecord:
        """Several numbers of one kind, such as one learning rate per parameter group."""
        return cls(name, value, global_step, RecordType.scalar_list, walltime=walltime)

    @classmethod
    def string(
        cls, name: Iterable[str], value: str, global_step: int, *, walltime: Optional[float] = None
    ) -> MetricRecord:
        """A text, such as a detailed evaluation report."""
        return cls(name, value, global_step, RecordType.string, walltime=walltime)

    @classmethod
    def histogram(
        cls, name: Iterable[str], value: str, global_step: int, *, walltime: Optional[float] = None
    ) -> MetricRecord:
        """A sample of values."""
        return cls(name, value, global_step, RecordType.histogram, walltime=walltime)

    def is_type(self, typ: RecordType) -> bool:
        return self.typ == typ

    @property
    def is_scalar(self) -> bool:
        return self.is_type(RecordType.scalar)

    @property
    def is_scalar_list(self) -> bool:
        return self.is_type(RecordType.scalar_list)

    @property
    def is_string(self) -> bool:
        return self.is_type(RecordType.string)

    @property
    def is_histogram(self) -> bool:
        return self.is_type(RecordType.histogram)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.joined_name} at step {self.global_step}, {self.walltime:.4f})"
