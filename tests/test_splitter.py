"""Sentence splitters: offsets, neighbours, names, tokenizers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flair.data import Sentence
from flair.splitter import (
    NewlineSentenceSplitter,
    NoSentenceSplitter,
    SciSpacySentenceSplitter,
    SegtokSentenceSplitter,
    SentenceSplitter,
    SpacySentenceSplitter,
    TagSentenceSplitter,
)
from flair.tokenization import SegtokTokenizer, SpaceTokenizer

TEXT = "I asked Dr. Smith, e.g. about rain. He didn't know!\n\nA new paragraph; it's short.  The end"

SPLITTERS = [
    SegtokSentenceSplitter(),
    NoSentenceSplitter(),
    NewlineSentenceSplitter(),
    TagSentenceSplitter("<s>"),
    TagSentenceSplitter("a"),
    TagSentenceSplitter("."),
]
TEXTS = st.text(alphabet=st.sampled_from("aB e.!?\n\t,;'\"<s>é中1-\u00a0"), max_size=60)


@pytest.mark.parametrize("splitter", SPLITTERS, ids=lambda splitter: splitter.name)
@settings(deadline=None, max_examples=60)
@given(text=TEXTS)
def test_offsets_lead_back_to_the_text(splitter: SentenceSplitter, text: str) -> None:
    end = 0
    for sentence in splitter.split(text):
        start = sentence.start_position
        assert start >= end
        assert text[start : start + len(sentence.text)] == sentence.text
        for token in sentence:
            assert text[start + token.start_position : start + token.end_position] == token.text
        end = start + len(sentence.text)


@settings(deadline=None, max_examples=60)
@given(text=TEXTS)
def test_only_blanks_and_tags_belong_to_no_sentence(text: str) -> None:
    for splitter in SPLITTERS:
        left, end = "", 0
        for sentence in splitter.split(text):
            left += text[end : sentence.start_position]
            end = sentence.start_position + len(sentence.text)
        left += text[end:]
        tag = getattr(splitter, "tag", "\n")
        assert not left.replace(tag, "").strip(), splitter.name


def test_segtok_knows_abbreviations() -> None:
    assert [sentence.text for sentence in SegtokSentenceSplitter().split(TEXT)] == [
        "I asked Dr. Smith, e.g. about rain.",
        "He didn't know!",
        "A new paragraph; it's short.",
        "The end",
    ]


def test_tags_and_lines() -> None:
    assert [s.text for s in TagSentenceSplitter("<s>").split("<s>one<s><s> two <s>")] == ["one", " two "]
    lines = NewlineSentenceSplitter().split("one\n\n \ntwo\nthree")
    assert [(s.text, s.start_position) for s in lines] == [("one", 0), ("two", 7), ("three", 11)]
    whole = NoSentenceSplitter().split(TEXT)
    assert [(s.text, s.start_position) for s in whole] == [(TEXT, 0)]


@pytest.mark.parametrize("splitter", SPLITTERS, ids=lambda splitter: splitter.name)
def test_sentences_know_their_neighbours(splitter: SentenceSplitter) -> None:
    text = "First a.<s>\nSecond a!<s>\nThird."
    sentences = splitter.split(text)
    assert [s.previous_sentence() for s in sentences] == [None, *sentences[:-1]]
    assert [s.next_sentence() for s in sentences] == [*sentences[1:], None]
    alone = splitter.split(text, link_sentences=False)
    assert [s.text for s in alone] == [s.text for s in sentences]
    assert all(s.previous_sentence() is None and s.next_sentence() is None for s in alone)


@pytest.mark.parametrize("blank", ["", " ", "\n \n"])
def test_nothing_to_split(blank: str) -> None:
    for splitter in (NewlineSentenceSplitter(), TagSentenceSplitter("a")):
        assert splitter.split(blank) == []
    for splitter in (SegtokSentenceSplitter(), NoSentenceSplitter()):
        assert [len(sentence) for sentence in splitter.split(blank)] == [0], "an empty sentence, as released"


def test_names() -> None:
    assert [splitter.name for splitter in SPLITTERS[:4]] == [
        "SegtokSentenceSplitter",
        "NoSentenceSplitter_SegtokTokenizer",
        "NewlineSentenceSplitter_SegtokTokenizer",
        "TagSentenceSplitter_<s>_SegtokTokenizer",
    ]
    assert NoSentenceSplitter(SpaceTokenizer()).name == "NoSentenceSplitter_SpaceTokenizer"


def test_the_tokenizer_can_be_chosen_and_changed() -> None:
    for make in (
        SegtokSentenceSplitter,
        NoSentenceSplitter,
        NewlineSentenceSplitter,
        lambda tokenizer: TagSentenceSplitter("#", tokenizer),
    ):
        splitter = make(tokenizer=SpaceTokenizer()) if isinstance(make, type) else make(SpaceTokenizer())
        assert [token.text for token in splitter.split("don't go.")[0]] == ["don't", "go."]
        splitter.tokenizer = SegtokTokenizer()
        assert [token.text for token in splitter.split("don't go.")[0]] == ["do", "n't", "go", "."]


def test_a_splitter_of_ones_own() -> None:
    class Halves(SentenceSplitter):
        def _perform_split(self, text: str):
            return [Sentence(text[: len(text) // 2]), Sentence(text[len(text) // 2 :])]

    first, second = Halves().split("abcd")
    assert first.next_sentence() is second
    assert Halves().name == "Halves"
    with pytest.raises(NotImplementedError):
        _ = Halves().tokenizer
    with pytest.raises(TypeError, match="abstract"):
        SentenceSplitter()  # type: ignore[abstract]


class StandIn:
    """As much of a spaCy pipeline as a splitter uses."""

    meta = {"name": "core_web", "version": "9.1", "lang": "en"}

    class Sentence:
        def __init__(self, text: str, start_char: int) -> None:
            self.text, self.start_char = text, start_char

        def __str__(self) -> str:
            return self.text

    class Document:
        def __init__(self, sents: list) -> None:
            self.sents = sents

    def __call__(self, text: str) -> Document:
        first = text.index(".") + 1
        parts = [(text[:first], 0), (" \n", first), (text[first + 2 :], first + 2)]
        return self.Document([self.Sentence(*part) for part in parts])


def test_spacy_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flair.splitter.lazy_import", lambda *names: None)
    splitter = SpacySentenceSplitter(StandIn(), tokenizer=SpaceTokenizer())
    sentences = splitter.split("A b. \nC d")
    assert [(s.text, s.start_position) for s in sentences] == [("A b.", 0), ("C d", 6)]
    assert sentences[0].next_sentence() is sentences[1]
    assert splitter.name == "SpacySentenceSplitter_core_web_9.1_SpaceTokenizer"


def test_missing_libraries_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)
    monkeypatch.setitem(__import__("sys").modules, "scispacy", None)
    with pytest.raises(ImportError, match=r"flair\[spacy\]"):
        SpacySentenceSplitter("en_core_web_sm")
    with pytest.raises(ImportError, match=r"flair\[scispacy\]"):
        SciSpacySentenceSplitter()
