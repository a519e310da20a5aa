"""From the lines of a column file to the rows of a sentence: plain data, checked, without any sentence objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flair.datasets._column.layout import ColumnLayout, line_splitter

RELATIONS = "# relations"
_NO_SPACE = "SpaceAfter=No"


@dataclass(slots=True)
class Block:
    """The lines of a sentence (or document), and the number of the first in the file, counted from 1."""

    first_line: int
    lines: list[str]


@dataclass(slots=True)
class Rows:
    """What a block says. All lists have one entry a token."""

    words: list[str]
    spaces: list[int] | None = None
    """Spaces after each word; None where all have the default."""
    heads: list[int | None] | None = None
    labels: dict[int, Sequence[str]] = field(default_factory=dict)
    """Values of each label column; empty where a line lacks the column."""
    features: list[list[tuple[str, str]]] | None = None
    comments: list[tuple[str, str]] = field(default_factory=list)
    """Comments of the form ``key=value``."""
    relations: list[tuple[int, int, int, int, str]] = field(default_factory=list)
    """First and last token (counted from 1) of two spans, and how they are related."""


class ColumnParser:
    """Reads blocks of one file."""

    def __init__(
        self,
        path: Path,
        layout: ColumnLayout,
        delimiter: str,
        comment_symbol: str | None,
        default_whitespace_after: int,
        label_name_map: dict[str, str] | None = None,
    ) -> None:
        """Prepare for a file; ``path`` is named in errors. Raises ValueError for a bad delimiter."""
        self.label_name_map = label_name_map or {}
        self.path = path
        self.layout = layout
        self.delimiter = delimiter
        self.comment_symbol = comment_symbol or None
        self.default_whitespace_after = default_whitespace_after
        self._split = line_splitter(delimiter)
        self.incomplete: dict[int, tuple[int, int]] = {}
        """Label column -> number of the first line that lacks it, and how many do."""
        self.tags: dict[int, set[str]] = {}
        """Column of spans -> all tags in it."""

    # --- lines ---

    def blocks(self, lines: Iterable[tuple[int, str]], separator: str | None) -> Iterator[Block]:
        """Cut numbered lines at blank lines, or (``separator`` given) behind lines whose text is the separator."""
        block = Block(0, [])
        for number, line in lines:
            blank = not line or line.isspace()
            if not block.lines:
                if blank:
                    continue
                block.first_line = number
            elif blank and separator is None:
                yield block
                block = Block(0, [])
                continue
            block.lines.append(line)
            if separator is not None and not blank and self._is_separator(line, separator):
                yield block
                block = Block(0, [])
        if block.lines:
            yield block

    def _is_separator(self, line: str, separator: str) -> bool:
        if separator not in line or self._is_comment(line):
            return False
        fields, text = self._split(line.rstrip()), self.layout.text
        return -len(fields) <= text < len(fields) and fields[text] == separator

    def _is_comment(self, line: str) -> bool:
        return self.comment_symbol is not None and line.startswith(self.comment_symbol)

    # --- rows ---

    def parse(self, block: Block) -> Rows | None:
        """The rows of a block; None where it has no tokens.

        Raises:
            ValueError: a line without text column, a head that is no number, or a malformed relation; the message names
                file and line.
        """
        comments = [(i, line) for i, line in enumerate(block.lines) if self._is_comment(line)]
        skipped = {i for i, _ in comments} | {i for i, line in enumerate(block.lines) if line.isspace() or not line}
        places = [i for i in range(len(block.lines)) if i not in skipped] if skipped else range(len(block.lines))
        split = self._split
        table = _Table([split(block.lines[i].rstrip()) for i in places])
        if not table.rows:
            return None
        words = table.column(self.layout.text)
        if table.lacks(self.layout.text):
            self._fail_without_text(block, table, places)
        if "" in words:  # the word was a character that counts as white space
            kept = [i for i, word in enumerate(words) if word]
            if not kept:
                return None
            table = _Table([table.rows[i] for i in kept])
            places = [places[i] for i in kept]
            words = table.column(self.layout.text)
        layout = self.layout
        if layout.undecided:
            layout.decide(lambda column: self._renamed(table.column(column)))
        rows = Rows(list(words), labels={column: table.column(column) for column in layout.labels})
        for column in layout.labels:
            lacking = table.lacks(column)
            if lacking:
                first, count = self.incomplete.get(column, (block.first_line + places[lacking[0]], 0))
                self.incomplete[column] = (first, count + len(lacking))
        for column in layout.span_columns:
            self.tags.setdefault(column, set()).update(rows.labels[column])
        if layout.head is not None:
            rows.heads = [
                self._head(value, block.first_line + places[i]) for i, value in enumerate(table.column(layout.head))
            ]
        self._read_features(rows, table)
        for place, line in comments:
            self._read_comment(rows, line, block.first_line + place)
        return rows

    def _renamed(self, values: Sequence[str]) -> Sequence[str]:
        return [self.label_name_map.get(value, value) for value in values] if self.label_name_map else values

    def _fail_without_text(self, block: Block, table: _Table, places: Sequence[int]) -> None:
        row = table.lacks(self.layout.text)[0]
        raise ValueError(
            f"{self.path}, line {block.first_line + places[row]}: the line has {len(table.rows[row])} columns, and the "
            f"text is in column {self.layout.text} (columns: {self.layout.names}). "
            f"Is the delimiter right ({self.delimiter!r})? Line: {block.lines[places[row]][:80]!r}"
        )

    def _head(self, value: str, line: int) -> int | None:
        if value in ("", "_"):
            return None
        try:
            return int(value)
        except ValueError as error:
            raise ValueError(
                f"{self.path}, line {line}: the head of a token must be the number of another (0 for the root), "
                f"column {self.layout.head} has {value!r}."
            ) from error

    def _read_features(self, rows: Rows, table: _Table) -> None:
        """Columns of ``key=value|key=value``, and what they and the space-after column say about spaces."""
        default = self.default_whitespace_after
        spaces = [default] * len(rows.words)
        if self.layout.space_after is not None:
            for i, value in enumerate(table.column(self.layout.space_after)):
                if value == "-":
                    spaces[i] = 0
        if self.layout.features:
            rows.features = [[] for _ in rows.words]
        for column in self.layout.features:
            for i, value in enumerate(table.column(column)):
                for feature in value.split("|"):
                    name, equals, content = feature.partition("=")
                    if feature == _NO_SPACE:
                        spaces[i] = 0
                    elif equals and name and content not in ("", "O"):
                        assert rows.features is not None
                        rows.features[i].append((name, content))
        if 0 in spaces and default:
            rows.spaces = spaces

    def _read_comment(self, rows: Rows, line: str, number: int) -> None:
        key, equals, value = line.partition("=")
        if not equals:
            return
        rows.comments.append((key, value))
        if key.rstrip() == RELATIONS:
            entries = [entry for entry in value.strip().split("|") if entry.strip()]
            rows.relations += [self._relation(entry, len(rows.words), number) for entry in entries]

    def _relation(self, entry: str, tokens: int, line: int) -> tuple[int, int, int, int, str]:
        fields = entry.split(";")
        try:
            start, end, other_start, other_end = (int(number) for number in fields[:4])
            (label,) = fields[4:]
            if not 1 <= start <= end <= tokens or not 1 <= other_start <= other_end <= tokens:
                raise ValueError(f"the sentence has {tokens} tokens")
        except ValueError as error:
            raise ValueError(
                f"{self.path}, line {line}: {entry!r} is no relation of this sentence. It is written as "
                f"'first token;last token;first token;last token;label', tokens counted from 1 ({error})."
            ) from error
        return start, end, other_start, other_end, label


class _Table:
    """Fields of lines, to be read by columns."""

    def __init__(self, rows: list[list[str]]) -> None:
        self.rows = rows
        widths = set(map(len, rows))
        self.width = widths.pop() if len(widths) == 1 else None
        self._columns = list(zip(*rows)) if self.width else []  # noqa: B905 - they are of equal length

    def _has(self, column: int, width: int) -> bool:
        return -width <= column < width

    def column(self, column: int) -> Sequence[str]:
        """The values of a column, empty where a line does not have it."""
        if self.width is not None:
            return self._columns[column] if self._has(column, self.width) else [""] * len(self.rows)
        return [row[column] if self._has(column, len(row)) else "" for row in self.rows]

    def lacks(self, column: int) -> list[int]:
        """Numbers of the rows that do not have a column."""
        if self.width is not None:
            return [] if self._has(column, self.width) else list(range(len(self.rows)))
        return [i for i, row in enumerate(self.rows) if not self._has(column, len(row))]
