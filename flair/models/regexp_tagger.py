"""Labels by regular expressions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Union

from flair.data.sentence import Sentence
from flair.data.units import Span, Token

Rule = Union[tuple[str, str], tuple[str, str, int]]
"""Regular expression, label, and the number of the group that is labelled (0, the whole match, if not given)."""


@dataclass
class TokenCollection:
    """The tokens of a sentence, found by the characters they start and end at."""

    sentence: Sentence
    _starts: dict[int, int] = field(init=False, repr=False)
    _ends: dict[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._starts = {token.start_position: place for place, token in enumerate(self.tokens)}
        self._ends = {token.end_position: place for place, token in enumerate(self.tokens)}

    @property
    def tokens(self) -> list[Token]:
        return list(self.sentence)

    def get_token_span(self, span: tuple[int, int]) -> Span:
        """The span between two characters.

        Args:
            span: position of the first character, and of the one behind the last.

        Raises:
            ValueError: no token starts or ends there.
        """
        start, end = span
        if start not in self._starts or end not in self._ends:
            what, where = ("starts", start) if start not in self._starts else ("ends", end)
            raise ValueError(f"No token of {self.sentence.text!r} {what} at character {where}.")
        return self.sentence[self._starts[start] : self._ends[end] + 1]


class RegexpTagger:
    """Adds a span label wherever a regular expression matches. The label is also the label type."""

    def __init__(self, mapping: Union[list[Rule], Rule]) -> None:
        r"""Make a tagger of rules.

        Args:
            mapping: rules, or a single one, for example ``(r'"[^"]*"', "quote")`` or
                ``[(r"Version (\d+)", "number", 1)]``.

        Raises:
            ValueError: an entry is no rule.
            re.error: an expression is invalid.
        """
        self._regexp_mapping: list[tuple[re.Pattern[str], str, int]] = []
        self.register_labels(mapping)

    def label_type(self) -> str:
        """The label type of the first rule."""
        if not self._regexp_mapping:
            raise ValueError("This tagger has no rules. Add some with register_labels.")
        return self._regexp_mapping[0][1]

    @property
    def registered_labels(self) -> list[tuple[re.Pattern[str], str, int]]:
        """Compiled expression, label and group of each rule."""
        return self._regexp_mapping

    def register_labels(self, mapping: Union[list[Rule], Rule]) -> None:
        """Add rules; arguments and errors as in the constructor."""
        rules = mapping if isinstance(mapping, list) else [mapping]
        self._regexp_mapping += [self._compiled(rule) for rule in rules]

    @staticmethod
    def _compiled(rule: Rule) -> tuple[re.Pattern[str], str, int]:
        if (
            not isinstance(rule, (tuple, list))
            or len(rule) not in (2, 3)
            or not all(isinstance(p, str) for p in rule[:2])
        ):
            raise ValueError(
                f"{rule!r} is no rule. A rule is (expression, label) or (expression, label, group number)."
            )
        expression, label, *rest = rule
        group = rest[0] if rest else 0
        try:
            pattern = re.compile(expression)
        except re.error as error:
            raise re.error(f"Couldn't compile regexp '{expression}' for label '{label}': {error}") from error
        if not isinstance(group, int) or not 0 <= group <= pattern.groups:
            raise ValueError(f"{rule!r}: the expression has {pattern.groups} groups, there is no group {group!r}.")
        return pattern, label, group

    def remove_labels(self, labels: Union[list[str], str]) -> None:
        """Remove the rules of one or several labels."""
        gone = [labels] if isinstance(labels, str) else labels
        self._regexp_mapping = [rule for rule in self._regexp_mapping if rule[1] not in gone]

    def predict(self, sentences: Union[list[Sentence], Sentence]) -> list[Sentence]:
        """Add labels to sentences; what a sentence is labelled with already is not added again.

        Returns:
            The sentences, as a list.

        Raises:
            Exception: a match starts or ends inside a token.
        """
        listed = sentences if isinstance(sentences, list) else [sentences]
        for position, sentence in enumerate(listed):
            if not isinstance(sentence, Sentence):
                raise AttributeError(
                    f"predict takes Sentence objects, got {type(sentence).__name__} at position {position}."
                )
            self._label(sentence)
        return listed

    def _label(self, sentence: Sentence) -> None:
        collection = TokenCollection(sentence)
        for pattern, label, group in self._regexp_mapping:
            for match in pattern.finditer(sentence.to_original_text()):
                start, end = match.span(group)
                if start == end:  # an empty match, or a group that took no part in it
                    continue
                try:
                    span = collection.get_token_span((start, end))
                except ValueError as error:
                    raise Exception(
                        f"The match span {start, end} for label '{label}' ({match.group(group)!r}) is overlapping with "
                        f"a token: {error} Make the expression end at token borders, or tokenize otherwise."
                    ) from error
                if all(known.value != label for known in span.get_labels(label)):
                    span.add_label(label, label)
