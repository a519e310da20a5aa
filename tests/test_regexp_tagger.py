"""Labels by regular expressions."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flair.data import Sentence
from flair.models import RegexpTagger
from flair.models.regexp_tagger import TokenCollection


def found(sentence: Sentence, label: str) -> list[str]:
    assert all(item.value == label and item.score == 1.0 for item in sentence.get_labels(label))
    return [item.data_point.text for item in sentence.get_labels(label)]


def test_matches_become_spans() -> None:
    tagger = RegexpTagger([(r'"[^"]*"', "quote"), (r"\d+", "number")])
    sentence = Sentence('He said "hello there" 22 times and "x" , 7')
    assert tagger.predict(sentence) == [sentence]
    assert found(sentence, "quote") == ['"hello there"', '"x"']
    assert found(sentence, "number") == ["22", "7"]
    assert tagger.label_type() == "quote"
    several = [sentence, Sentence([]), Sentence("b 2 2")]
    assert tagger.predict(several) is several
    assert found(several[2], "number") == ["2", "2"]
    assert found(sentence, "number") == ["22", "7"], "nothing is labelled twice"


def test_groups() -> None:
    sentence = Sentence("Version 12 of 3 or Version 4")
    RegexpTagger((r"Version (\d+)( of (\d+))?", "total", 3)).predict(sentence)
    RegexpTagger((r"Version (\d+)", "version", 1)).predict(sentence)
    assert found(sentence, "total") == ["3"]
    assert found(sentence, "version") == ["12", "4"]


def test_rules_come_and_go() -> None:
    tagger = RegexpTagger((r"a", "first"))
    tagger.register_labels([("b", "second"), ("c", "third", 0)])
    tagger.register_labels(("d", "first"))
    assert [label for _, label, _ in tagger.registered_labels] == ["first", "second", "third", "first"]
    tagger.remove_labels("first")
    assert [label for _, label, _ in tagger.registered_labels] == ["second", "third"]
    tagger.remove_labels(["second", "third", "unknown"])
    assert tagger.registered_labels == []
    with pytest.raises(ValueError, match="no rules"):
        tagger.label_type()


def test_a_match_inside_a_token() -> None:
    with pytest.raises(Exception, match=r"\(3, 5\).*'12'.*starts at character 3"):
        RegexpTagger((r"\d+", "number")).predict(Sentence("abc12 x"))


def test_empty_matches_are_nothing() -> None:
    sentence = Sentence("a xx")
    RegexpTagger(("x*", "xs")).predict(sentence)
    assert found(sentence, "xs") == ["xx"]


@pytest.mark.parametrize("rule", [("a",), [("a",)], "ab", [1], ("a", "b", "c"), ("a", "b", 1), ("a", "b", -1)])
def test_entries_that_are_no_rules(rule: Any) -> None:
    with pytest.raises(ValueError, match=r"is no rule|there is no group"):
        RegexpTagger(rule)


def test_invalid_expressions_and_inputs() -> None:
    with pytest.raises(re.error, match=r"regexp '\(' for label 'x'"):
        RegexpTagger(("(", "x"))
    with pytest.raises(AttributeError, match="got str at position 0"):
        RegexpTagger(("a", "x")).predict("a")  # type: ignore[arg-type]


@given(st.lists(st.text("abc.", min_size=1, max_size=3), min_size=1, max_size=6), st.data())
def test_spans_by_characters(words: list[str], data: st.DataObject) -> None:
    sentence = Sentence(" ".join(words), use_tokenizer=False)
    collection = TokenCollection(sentence)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    tokens = collection.tokens
    span = collection.get_token_span((tokens[first].start_position, tokens[last].end_position))
    assert span.tokens == tokens[first : last + 1]
    with pytest.raises(ValueError, match="starts at character"):
        collection.get_token_span((tokens[first].end_position, tokens[last].end_position))
