"""A label: a value with a score, on a data point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from flair import _runtime

if TYPE_CHECKING:
    from flair.data.units import DataPoint


class Label:
    """The value that a data point has in some annotation layer, with a confidence and optional metadata."""

    __slots__ = ("_score", "_typename", "_value", "data_point", "metadata")

    def __init__(self, data_point: DataPoint, value: str, score: float = 1.0, **metadata: Any) -> None:
        """Make a label. It is attached to the data point by :meth:`DataPoint.add_label` only.

        Args:
            data_point: what is labelled.
            value: the label.
            score: confidence between 0 and 1.
            metadata: anything else to note; shown in the printout.
        """
        self._value = value
        self._score = score
        self.data_point = data_point
        self.metadata = metadata
        self._typename: Optional[str] = None

    def set_value(self, value: str, score: float = 1.0) -> None:
        self._value = value
        self._score = score

    @property
    def value(self) -> str:
        return self._value

    @property
    def score(self) -> float:
        return self._score

    @property
    def typename(self) -> Optional[str]:
        """The annotation layer the label was added to; None for one that was not added."""
        return self._typename

    @typename.setter
    def typename(self, value: str) -> None:
        self._typename = value

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "confidence": self.score}

    @property
    def metadata_str(self) -> str:
        return "".join(f"/{key}={value}" for key, value in self.metadata.items())

    @property
    def unlabeled_identifier(self) -> str:
        return self.data_point.unlabeled_identifier

    @property
    def labeled_identifier(self) -> str:
        return f"{self.data_point.unlabeled_identifier}/{self.value}"

    @property
    def shortstring(self) -> str:
        return f'"{self.data_point.text}"/{self.value}'

    def __str__(self) -> str:
        return (
            f"{self.data_point.unlabeled_identifier}{_runtime.arrow}{self._value}{self.metadata_str} "
            f"({round(self._score, 4)})"
        )

    def __repr__(self) -> str:
        return f"'{self.data_point.unlabeled_identifier}'/'{self._value}'{self.metadata_str} ({round(self._score, 4)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Label):
            return NotImplemented
        return self.value == other.value and self.score == other.score and self.data_point == other.data_point

    def __hash__(self) -> int:
        return hash(repr(self))

    def __lt__(self, other: Label) -> bool:
        return self.data_point < other.data_point

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: Any) -> None:
        """Also reads the plain attribute dictionaries that released versions pickled."""
        if isinstance(state, tuple):
            state = state[1]
        self._typename = None
        self.metadata = {}
        for name, value in state.items():
            if name in self.__slots__:
                setattr(self, name, value)


Label.__module__ = "flair.data"
