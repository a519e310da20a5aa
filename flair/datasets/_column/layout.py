"""What the columns of a file hold, and how a line is split into them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flair.datasets._column.tags import OUTSIDE, SPAN_PREFIXES

SPACE_AFTER = "space-after"
FEATURES = ("feats", "misc")
HEADS = ("head", "head_id")


class ColumnLayout:
    """Column numbers by purpose.

    Whether a label column holds spans or labels of single tokens shows in its first value other than "O", and stays
    open until there is one.
    """

    def __init__(self, column_name_map: dict[int, str]) -> None:
        """Read a map from column numbers (negative ones count from the end) to names.

        Raises:
            TypeError: a column number is no int.
        """
        for column in column_name_map:
            if not isinstance(column, int):
                raise TypeError(
                    f"The column map {column_name_map} has {column!r}: column numbers are int, from 0. "
                    "Example: {0: 'text', 1: 'ner'}."
                )
        self.names = dict(column_name_map)
        self.text = next((column for column, name in reversed(self.names.items()) if name == "text"), 0)
        self.space_after: int | None = None
        self.head: int | None = None
        self.features: list[int] = []
        self.labels: list[int] = []
        for column, name in self.names.items():
            if column == self.text:
                continue
            if name == SPACE_AFTER:
                self.space_after = column
            elif name in HEADS:
                self.head = column
            elif name in FEATURES:
                self.features.append(column)
            else:
                self.labels.append(column)
        self.span_columns: dict[int, str] = {}
        self.token_columns: dict[int, str] = {}
        self.undecided = list(self.labels)

    def decide(self, values: Callable[[int], Sequence[str]]) -> None:
        """Look at the values of columns that are still undecided."""
        for column in list(self.undecided):
            first = next((value for value in values(column) if value not in ("", OUTSIDE)), None)
            if first is not None:
                holds_spans = first.startswith(SPAN_PREFIXES)
                (self.span_columns if holds_spans else self.token_columns)[column] = self.names[column]
                self.undecided.remove(column)
                # In the order of the map, not of the decisions.
                self.span_columns = self._in_order(self.span_columns)
                self.token_columns = self._in_order(self.token_columns)

    def token_columns_before_features(self) -> int:
        """How many of the columns with labels of tokens stand in front of the first column of features."""
        order = list(self.names)
        first = min(order.index(column) for column in self.features)
        return sum(order.index(column) < first for column in self.token_columns)

    def _in_order(self, columns: Iterable[int]) -> dict[int, str]:
        wanted = set(columns)
        return {column: name for column, name in self.names.items() if column in wanted}


def line_splitter(delimiter: str) -> Callable[[str], list[str]]:
    """A function that splits a line (without its line ending) at a delimiter, a regular expression.

    Raises:
        ValueError: the expression is invalid, or matches between any two characters.
    """
    if delimiter == r"\s+":
        return _split_at_whitespace
    literal = delimiter.removeprefix("\\") if len(delimiter) == 2 and not delimiter[1].isalnum() else delimiter
    if len(literal) == 1 and (literal != delimiter or re.escape(literal) == literal or literal in "\t,;: "):
        return lambda line: line.split(literal)
    try:
        pattern = re.compile(delimiter)
    except re.error as error:
        raise ValueError(f"column_delimiter={delimiter!r} is no regular expression: {error}.") from error
    if pattern.match(""):
        raise ValueError(
            f"column_delimiter={delimiter!r} is a regular expression that matches the empty string. "
            f"If it means these characters, write {re.escape(delimiter)!r}."
        )
    split: Any = pattern.split
    return split


def _split_at_whitespace(line: str) -> list[str]:
    fields = line.split()
    return ["", *fields] if line[:1].isspace() else fields
