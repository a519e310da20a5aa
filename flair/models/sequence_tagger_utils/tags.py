"""From labels to BIO and BIOES tags and back."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from flair.data.dictionary import Dictionary
from flair.data.sentence import Sentence

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
    with_ends = tag_format == "BIOES"
    for label in sentence.get_labels(label_type):
        tokens = getattr(label.data_point, "tokens", None) or [label.data_point]
        first, last = tokens[0].idx - 1, tokens[-1].idx - 1
        tags[first : last + 1] = [f"I-{label.value}"] * (last - first + 1)
        tags[first] = f"B-{label.value}"
        if with_ends:
            tags[last] = f"S-{label.value}" if first == last else f"E-{label.value}"
    return tags


def token_tags(sentence: Sentence, label_type: str) -> list[str]:
    """The label value of every token, "O" for tokens without one."""
    return [token.get_label(label_type).value for token in sentence]


def is_blank(tags: Sequence[str]) -> bool:
    """Whether no tag of a sentence marks anything."""
    return all(tag in UNLABELLED for tag in tags)
