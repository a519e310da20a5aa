"""Sentences in CoNLL-U: https://universaldependencies.org/format.html and (Plus) .../ext-format.html."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flair.data.sentence import Sentence
from flair.data.tags import get_spans_from_bio
from flair.data.units import Token
from flair.datasets._column.tags import OUTSIDE, SPAN_PREFIXES

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_LABELS = {"LEMMA": "lemma", "UPOS": "upos", "XPOS": "pos", "DEPREL": "dependency"}
_DECLARATION = re.compile(r"#\s*global\.columns\s*=\s*(.+)")
_RANGE = re.compile(r"(\d+)-(\d+)")
_EMPTY_NODE = re.compile(r"\d+\.\d+")


@dataclass(slots=True)
class Block:
    """The lines of a sentence, the number of the first in the file (from 1), and the file's columns."""

    first_line: int
    lines: list[str]
    columns: tuple[str, ...]


@dataclass(slots=True)
class Word:
    """One line that becomes a token."""

    line: int
    numbers: range
    """The syntactic words it stands for: one, or those of a contraction."""
    fields: list[str]
    space: int = 1


class ConlluParser:
    """Makes sentences of one file."""

    def __init__(self, path: Path, split_multiwords: bool) -> None:
        """Prepare for a file; ``path`` is named in errors."""
        self.path = path
        self.split_multiwords = split_multiwords
        self._span_columns: dict[str, bool] = {}
        """Further columns whose first value was seen, and whether it belongs to spans."""

    def declared_columns(self, line: str, number: int) -> tuple[str, ...] | None:
        """The columns that a line ``# global.columns = ...`` names; None for any other line.

        Raises:
            ValueError: there is no column ID or FORM.
        """
        found = _DECLARATION.match(line)
        if found is None:
            return None
        columns = tuple(found.group(1).split())
        missing = [name for name in ("ID", "FORM") if name not in columns]
        if missing:
            raise ValueError(
                f"{self.path}, line {number}: global.columns lacks {' and '.join(missing)}. It names: "
                f"{' '.join(columns)}."
            )
        return columns

    def sentence(self, block: Block) -> Sentence:
        """The sentence of a block; empty where the block only has comments.

        Raises:
            ValueError: a line has too few columns, a bad number or a bad head; the message names file and line.
        """
        columns = {name: i for i, name in enumerate(block.columns)}
        words = self._words(block, columns)
        place_of = {number: place for place, word in enumerate(words, 1) for number in word.numbers}
        tokens = [
            Token(word.fields[columns["FORM"]], self._head(word, columns, place_of), word.space) for word in words
        ]
        if not tokens:
            return Sentence([])
        sentence = Sentence(tokens)
        for token, word in zip(tokens, words, strict=True):
            self._add_labels(token, word, columns)
        for name, i in columns.items():
            if name not in COLUMNS:
                self._add_further_labels(tokens, [word.fields[i] for word in words], name)
        for line in block.lines:
            key, equals, value = line.partition("=")
            if line.startswith("#") and equals:
                sentence.add_metadata(key.lstrip("#").strip(), value.strip())
        return sentence

    def _words(self, block: Block, columns: dict[str, int]) -> list[Word]:
        words: list[Word] = []
        contraction: Word | None = None
        parts: list[Word] = []  # of the contraction, so far
        for number, line in enumerate(block.lines, block.first_line):
            if line.startswith("#"):
                continue
            fields = line.split("\t")
            if len(fields) < len(columns):
                raise ValueError(
                    f"{self.path}, line {number}: {len(fields)} columns, separated by tabs, where there should be "
                    f"{len(columns)} ({' '.join(columns)}). Line: {line[:80]!r}"
                )
            identifier = fields[columns["ID"]]
            if _EMPTY_NODE.fullmatch(identifier):
                continue
            found = _RANGE.fullmatch(identifier)
            if found is None and not identifier.isdecimal():
                raise ValueError(f"{self.path}, line {number}: {identifier!r} is no number of a word (1, 1-2 or 1.1).")
            first, last = (int(part) for part in found.groups()) if found else (int(identifier), int(identifier))
            word = Word(number, range(first, last + 1), fields, self._space(fields, columns))
            if found:
                contraction = word
                if not self.split_multiwords:
                    words.append(word)
                continue
            if contraction is not None and first in contraction.numbers:
                if not self.split_multiwords:
                    continue
                parts.append(word)
                if first == contraction.numbers[-1]:
                    self._space_parts(contraction, parts, columns["FORM"])
                    parts = []
            words.append(word)
        return words

    def _space_parts(self, contraction: Word, parts: list[Word], form: int) -> None:
        """Spaces behind the words of a contraction: none where they spell it ("do" "n't"), else one ("zu" "dem")."""
        spelled = "".join(part.fields[form] for part in parts) == contraction.fields[form]
        for part in parts[:-1]:
            part.space = 0 if spelled else 1
        parts[-1].space = contraction.space  # what follows the whole

    def _space(self, fields: Sequence[str], columns: dict[str, int]) -> int:
        misc = fields[columns["MISC"]] if "MISC" in columns else ""
        return 0 if "SpaceAfter=No" in misc.split("|") else 1

    def _head(self, word: Word, columns: dict[str, int], place_of: dict[int, int]) -> int | None:
        """Index of the head among the tokens, counted from 1; 0 for the root."""
        value = word.fields[columns["HEAD"]] if "HEAD" in columns else "_"
        if value == "_":
            return None
        if not value.isdecimal() or (int(value) and int(value) not in place_of):
            raise ValueError(
                f"{self.path}, line {word.line}: the head must be 0 or the number of a word of the sentence, "
                f"found {value!r}."
            )
        return place_of.get(int(value), 0)

    def _add_labels(self, token: Token, word: Word, columns: dict[str, int]) -> None:
        is_contraction = len(word.numbers) > 1
        for name, label_type in _LABELS.items():
            if name in columns:
                value = word.fields[columns[name]]
                if value and (value != "_" or not is_contraction or label_type == "lemma"):
                    token.add_label(label_type, value)
        features = word.fields[columns["FEATS"]] if "FEATS" in columns else "_"
        for feature in features.split("|"):
            name, equals, value = feature.partition("=")
            if equals and name and value:
                token.add_label(name.lower(), value)

    def _add_further_labels(self, tokens: list[Token], values: list[str], name: str) -> None:
        """Labels of a column of CoNLL-U Plus; "_" and "*" stand for none."""
        values = [OUTSIDE if value in ("", "_", "*") else value for value in values]
        first = next((value for value in values if value != OUTSIDE), None)
        if first is None:
            return
        label_type = name.rpartition(":")[2].lower()
        if self._span_columns.setdefault(name, first.startswith(SPAN_PREFIXES)):
            for places, _, label in get_spans_from_bio(values):
                span = tokens[0].sentence[places[0] : places[-1] + 1]
                span.add_label(label_type, label)
        else:
            for token, value in zip(tokens, values, strict=True):
                if value != OUTSIDE:
                    token.add_label(label_type, value)
