"""Labels, and tags <-> spans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flair.data.sentence import Sentence
from flair.data.tags import get_spans_from_bio
from flair.data.units import Relation


def test_label_strings() -> None:
    sentence = Sentence("George Washington")
    sentence[0:2].add_label("ner", "PER", 0.98765, source="x")
    label = sentence.get_label("ner")
    assert str(label) == 'Span[0:2]: "George Washington" → PER/source=x (0.9877)'
    assert repr(label) == "'Span[0:2]: \"George Washington\"'/'PER'/source=x (0.9877)"
    assert label.shortstring == '"George Washington"/PER'
    assert label.labeled_identifier == 'Span[0:2]: "George Washington"/PER'
    assert label.to_dict() == {"value": "PER", "confidence": 0.98765}
    assert label.typename == "ner"


def test_missing_label() -> None:
    sentence = Sentence("a")
    assert (sentence.get_label("x").value, sentence.get_label("x").score) == ("O", 1.0)
    assert sentence.get_label("x", zero_tag_value="Z").value == "Z"
    assert not sentence.has_label("x")
    with pytest.raises(IndexError):
        _ = sentence.tag


def test_labels_of_parts_are_known_to_the_sentence() -> None:
    sentence = Sentence("a b c d")
    assert sentence[2].add_label("t", "late") is None
    span = sentence[0:2]
    assert span.add_label("t", "early") is span
    assert [label.value for label in sentence.get_labels("t")] == ["early", "late"]
    span.set_label("t", "other")
    assert [label.value for label in sentence.get_labels("t")] == ["other", "late"]
    span.remove_labels("t")
    assert [label.value for label in sentence.get_labels("t")] == ["late"]
    sentence.remove_labels("t")
    assert sentence[2].labels == []


def test_relation() -> None:
    sentence = Sentence("a b c")
    relation = Relation(sentence[2:3], sentence[0:1])
    relation.add_label("rel", "r", 0.7)
    assert str(relation) == 'Relation[2:3][0:1]: "c -> a" → r (0.7000)'
    assert (relation.start_position, relation.end_position) == (0, 5)


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        (["B-A", "I-A", "O", "S-B"], [([0, 1], 1.0, "A"), ([3], 1.0, "B")]),
        (["S-B", "I-B"], [([0, 1], 1.0, "B")]),  # I- extends S-
        (["B-A", "I-B"], [([0], 1.0, "A"), ([1], 1.0, "B")]),
        (["B-A", "E-X"], [([0, 1], 1.0, "A")]),  # the starting tag weighs more
        (["A", "B"], [([0, 1], 1.0, "")]),
        ([], []),
    ],
)
def test_spans_of_tags(tags: list[str], spans: list) -> None:
    assert get_spans_from_bio(tags) == spans
    assert tags[-1] == "O"  # appended to the caller's list


def test_scores_are_averaged() -> None:
    ((indices, score, label),) = get_spans_from_bio(["B-A", "E-A"], [0.5, 1.0])
    assert (indices, score, label) == ([0, 1], 0.75, "A")


def bioes(length: int, label: str) -> list[str]:
    if length == 1:
        return [f"S-{label}"]
    return [f"B-{label}", *[f"I-{label}"] * (length - 2), f"E-{label}"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from("AB"))), st.booleans())
def test_tags_and_spans_are_inverse(layout: list[tuple[int, int, str]], bio: bool) -> None:
    tags: list[str] = []
    expected = []
    for gap, length, label in layout:
        tags += ["O"] * gap
        expected.append((list(range(len(tags), len(tags) + length)), 1.0, label))
        tags += [f"B-{label}", *[f"I-{label}"] * (length - 1)] if bio else bioes(length, label)
    assert get_spans_from_bio(tags) == expected
