"""From rows to sentences, without letting the garbage collector look at each of them again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from flair.data.sentence import Sentence
from flair.data.tags import get_spans_from_bio
from flair.data.units import Relation, Span, Token
from flair.datasets._column.layout import ColumnLayout
from flair.datasets._column.parsing import Rows
from flair.datasets._column.tags import OUTSIDE


@contextmanager
def only_making_objects() -> Iterator[None]:
    """Pause the search for unused reference cycles.

    A reader makes hundreds of thousands of objects that all stay in use, and refer to each other. Python's collector
    would go through them many times over for nothing, which takes several times as long as making them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class SentenceBuilder:
    """Makes sentences with labels of rows."""

    def __init__(self, layout: ColumnLayout, label_name_map: dict[str, str] | None, default_whitespace_after: int):
        """Prepare for rows of a layout.

        Args:
            layout: what the columns hold.
            label_name_map: other names for label values; "O" drops a label.
            default_whitespace_after: number of spaces behind a token that the file says nothing about.
        """
        self.layout = layout
        self.label_name_map = label_name_map or {}
        self.default_whitespace_after = default_whitespace_after

    def build(self, rows: Rows) -> Sentence:
        spaces = rows.spaces or [self.default_whitespace_after] * len(rows.words)
        heads = rows.heads or [None] * len(rows.words)
        tokens = [Token(*entry) for entry in zip(rows.words, heads, spaces, strict=True)]
        sentence = Sentence(tokens)
        self._label_tokens(tokens, rows)
        for column, label_type in self.layout.span_columns.items():
            tags = list(rows.labels[column])
            if tags.count(OUTSIDE) == len(tags):
                continue
            for places, _, value in get_spans_from_bio(tags):
                self._label(Span(tokens[places[0] : places[-1] + 1]), label_type, value)
        for start, end, other_start, other_end, value in rows.relations:
            if self.label_name_map.get(value, value) != OUTSIDE:
                pair = Relation(Span(tokens[start - 1 : end]), Span(tokens[other_start - 1 : other_end]))
                self._label(pair, "relation", value)
        for key, value in rows.comments:
            sentence.add_metadata(key, value)
        return sentence

    def _label_tokens(self, tokens: list[Token], rows: Rows) -> None:
        """Labels in the order of the columns: the first one is what ``token.tag`` gives."""
        columns = [(name, rows.labels[column]) for column, name in self.layout.token_columns.items()]
        before = len(columns) if rows.features is None else self.layout.token_columns_before_features()
        for i, token in enumerate(tokens):
            for name, values in columns[:before]:
                self._label(token, name, values[i])
            if rows.features is not None:
                for name, value in rows.features[i]:
                    self._label(token, name, value)
                for name, values in columns[before:]:
                    self._label(token, name, values[i])

    def _label(self, part: Token | Span | Relation, label_type: str, value: str) -> None:
        value = self.label_name_map.get(value, value)
        if value not in ("", OUTSIDE):
            part.add_label(label_type, value)
