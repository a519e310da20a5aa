"""From labels to BIO and BIOES tags and back."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from flair.data.dictionary import Dictionary
from flair.data.label import Label
from flair.data.sentence import Sentence
from flair.data.units import Token

OUTSIDE = "O"
SPAN_PREFIXES = {"BIOES": ("S-", "B-", "E-", "I-"), "BIO": ("B-", "I-")}
UNLABELLED = frozenset({"O", "_", ""})
"""Predicted values that are not written as labels."""


def tagset(dictionary: Dictionary, tag_format: str, allow_unk: bool) -> Dictionary:
    """The tags for a dictionary of labels: itself for token labels, the prefixed labels for span labels.

    Raises:
        AssertionError: for a format other than BIO and BIOES.
    """
    if not dictionary.span_labels:
        return copy.deepcopy(dictionary)
    if tag_format not in SPAN_PREFIXES:
        raise AssertionError(f"tag_format {tag_format!r} is unknown. Use one of {', '.join(SPAN_PREFIXES)}.")
    tags = Dictionary(add_unk=allow_unk)
    tags.add_item(OUTSIDE)
    for label in dictionary.get_items():
        if label != "<unk>":
            for prefix in SPAN_PREFIXES[tag_format]:
                tags.add_item(prefix + label)
    return tags


def has_span_tags(dictionary: Dictionary) -> bool:
    """Whether any item is a tag with a prefix of BIO or BIOES."""
    return any(item[:2] in ("B-", "S-", "I-") for item in dictionary.get_items())


def span_tags(sentence: Sentence, label_type: str, tag_format: str) -> list[str]:
    """One tag a token for the spans of a sentence; where spans overlap, the later one counts."""
    tags = [OUTSIDE] * len(sentence)
    for label in sentence.get_labels(label_type):
        first, last = _ends(label)
        tags[first : last + 1] = [_tag(label.value, place, first, last, tag_format) for place in range(first, last + 1)]
    return tags


def span_tag(token: Token, label_type: str, tag_format: str) -> str:
    """The tag that :func:`span_tags` gives a single token."""
    place = token.idx - 1
    for label in reversed(token.sentence.get_labels(label_type)):
        first, last = _ends(label)
        if first <= place <= last:
            return _tag(label.value, place, first, last, tag_format)
    return OUTSIDE


def _ends(label: Label) -> tuple[int, int]:
    """Places of the first and the last token that a label covers."""
    tokens = getattr(label.data_point, "tokens", None) or [label.data_point]
    return tokens[0].idx - 1, tokens[-1].idx - 1


def _tag(value: str, place: int, first: int, last: int, tag_format: str) -> str:
    if tag_format == "BIOES" and place == last:
        return f"S-{value}" if first == last else f"E-{value}"
    return f"B-{value}" if place == first else f"I-{value}"


def token_tags(sentence: Sentence, label_type: str) -> list[str]:
    """The label value of every token, "O" for tokens without one."""
    return [token.get_label(label_type).value for token in sentence]


def is_blank(tags: Sequence[str]) -> bool:
    """Whether no tag of a sentence marks anything."""
    return all(tag in UNLABELLED for tag in tags)


def prediction_lines(
    batch: Sequence[Sentence], gold_label_type: str, predicted_label_type: str, as_spans: bool
) -> list[str]:
    """Lines "token gold predicted" of a prediction file, with an empty one behind each sentence.

    Spans are written as BIO tags, which also stay on the tokens (``gold_bio``, ``predicted_bio``).
    """
    lines: list[str] = []
    for sentence in batch:
        if as_spans:
            gold = span_tags(sentence, gold_label_type, "BIO")
            predicted = span_tags(sentence, predicted_label_type, "BIO")
            for token, gold_tag, predicted_tag in zip(sentence, gold, predicted, strict=True):
                token.set_label("gold_bio", gold_tag)
                token.set_label("predicted_bio", predicted_tag)
        else:
            gold = token_tags(sentence, gold_label_type)
            predicted = token_tags(sentence, predicted_label_type)
        lines.extend(f"{token.text} {g} {p}\n" for token, g, p in zip(sentence, gold, predicted, strict=True))
        lines.append("\n")
    return lines
