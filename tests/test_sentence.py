"""Sentences: tokens and offsets, printing, context, copies, and the way to plain data and back."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flair.data.sentence import Sentence
from flair.data.units import Relation, Span, Token
from flair.tokenization import NoTokenizer, SpaceTokenizer, TokenizerWrapper

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
WORDS = st.lists(st.text("aäz9東.'😀", min_size=1, max_size=5), min_size=1, max_size=8)


def annotated() -> Sentence:
    sentence = Sentence("George Washington went to Washington.")
    sentence[0:2].add_label("ner", "PER", 0.98765)
    sentence[4:5].add_label("ner", "LOC")
    sentence[2].add_label("pos", "VBD")
    sentence.add_label("topic", "history", 0.5)
    Relation(sentence[0:2], sentence[4:5]).add_label("rel", "went_to", 0.7)
    return sentence


@pytest.mark.parametrize(
    ("text", "tokens"),  # token texts of the released tokenizer
    [
        ("I don't know, it's can't-do.", ["I", "do", "n't", "know", ",", "it", "'s", "can't-do", "."]),
        ("Ünïcödé 東京 😀 emoji", ["Ünïcödé", "東京", "😀", "emoji"]),
        ("a  b   c ", ["a", "b", "c"]),
        ("tab\there\nnew line", ["tab", "here", "new", "line"]),
    ],
)
def test_segtok_tokens(text: str, tokens: list[str]) -> None:
    assert [token.text for token in Sentence(text)] == tokens


@given(TEXT)
@settings(max_examples=150, deadline=None)
def test_offsets_point_at_the_token(text: str) -> None:
    for tokenizer in (True, False):
        sentence = Sentence(text, use_tokenizer=tokenizer)
        for token in sentence:
            assert sentence.text[token.start_position : token.end_position] == token.text
        assert len(sentence) == len(sentence.tokens)


@given(WORDS)
def test_words_are_kept(words: list[str]) -> None:
    sentence = Sentence(words)
    assert [token.text for token in sentence] == words
    assert sentence.text == sentence.to_plain_string() == sentence.to_tokenized_string() == " ".join(words)
    assert [token.whitespace_after for token in sentence] == [1] * (len(words) - 1) + [0]
    assert [token.idx for token in sentence] == list(range(1, len(words) + 1))
    assert isinstance(sentence.tokenizer, NoTokenizer)


def test_tokenisation_is_lazy() -> None:
    calls: list[str] = []

    def split(text: str) -> list[str]:
        calls.append(text)
        return text.split()

    sentence = Sentence("a b", use_tokenizer=TokenizerWrapper(split))
    sentence.add_label("topic", "x", 0.25)
    assert str(sentence) == 'Sentence: "a b" → x (0.2500)'
    assert sentence.unlabeled_identifier == 'Sentence[?]: "a b"'
    assert calls == []
    assert len(sentence) == 2
    assert sentence[1].text == "b"
    assert calls == ["a b"]
    assert str(sentence) == 'Sentence[2]: "a b" → x (0.2500)'


def test_threads_see_the_same_tokens() -> None:
    sentences = [Sentence(["word"] * 50) for _ in range(50)]
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda s: id(s.tokens), sentences * 8))
    assert seen == [id(s.tokens) for s in sentences] * 8


def test_special_characters() -> None:
    assert Sentence("smart \x92quote").text == "smart ’quote"
    assert Sentence("zero\u200bwidth").text == "zero\u200bwidth"
    assert [t.text for t in Sentence(["a", "", "\x81", "b"])] == ["a", "b"]  # 0x81 is not assigned


def test_wrong_input() -> None:
    for wrong in (3, None):
        with pytest.raises(TypeError):
            Sentence(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Sentence(["a", Token("b")])  # type: ignore[list-item]
    with pytest.raises(AssertionError):
        Sentence("a", use_tokenizer="segtok")  # type: ignore[arg-type]


def test_tokens_of_another_sentence_are_refused_before_anything_changes() -> None:
    fresh, taken = Token("a"), Sentence("b")[0]
    with pytest.raises(ValueError, match="belongs to another sentence"):
        Sentence([fresh, taken])
    assert fresh.sentence is None
    assert fresh.idx == -1


def test_sentence_of_tokens() -> None:
    sentence = Sentence([Token("a", whitespace_after=0), Token("b"), Token("c")])
    assert sentence.text == "ab c"
    assert [t.start_position for t in sentence] == [0, 1, 3]


def test_empty_sentence() -> None:
    sentence = Sentence("")
    assert len(sentence) == 0
    with pytest.raises(IndexError):
        _ = sentence.end_position


def test_access() -> None:
    sentence = annotated()
    assert sentence.get_token(1) is sentence[0]
    assert sentence.get_token(0) is None
    assert sentence.get_token(99) is None
    assert sentence[-1].text == "."
    for wrong in (9, slice(3, 3)):
        with pytest.raises(IndexError):
            sentence[wrong]


def test_printing() -> None:
    sentence = annotated()
    assert str(sentence) == repr(sentence) == sentence.to_tagged_string()
    assert sentence.to_tagged_string("ner") == (
        'Sentence[6]: "George Washington went to Washington." → history (0.5000)'
        ' → ["George Washington"/PER, "Washington"/LOC]'
    )


def test_parts_are_unique() -> None:
    sentence = annotated()
    assert sentence[0:2] is sentence.get_span(0, 2)
    assert Relation(sentence[0:2], sentence[4:5]) is sentence.get_relations("rel")[0]
    assert [s.text for s in sentence.get_spans("ner")] == ["George Washington", "Washington"]


def test_context() -> None:
    sentences = [Sentence("a b c"), Sentence("d e"), Sentence("f g")]
    Sentence.set_context_for_sentences(sentences)
    assert [t.text for t in sentences[2].left_context(3)] == ["c", "d", "e"]
    assert [t.text for t in sentences[0].right_context(3)] == ["d", "e", "f"]
    sentences[1].is_document_boundary = True
    assert sentences[2].left_context(3) == []
    assert [t.text for t in sentences[2].left_context(3, respect_document_boundaries=False)] == ["c", "d", "e"]
    other = Sentence("x")
    other.copy_context_from_sentence(sentences[1])
    assert other.next_sentence() is sentences[2]
    Sentence.set_context_for_sentences([sentences[2], sentences[0]])  # linked already
    assert sentences[0].previous_sentence() is None


def test_context_over_a_dataset() -> None:
    texts = ["a b", "c", "d e"]

    class OnAccess:
        def __len__(self) -> int:
            return len(texts)

        def __getitem__(self, index: int) -> Sentence:
            sentence = Sentence(texts[index])
            sentence._position_in_dataset = (self, index)
            return sentence

    middle = OnAccess()[1]
    assert middle.is_context_set()
    assert [t.text for t in middle.left_context(5)] == ["a", "b"]
    assert [t.text for t in middle.right_context(5)] == ["d", "e"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_stand_alone(duplicate) -> None:
    sentence = annotated()
    sentence[0].set_embedding("e", torch.ones(2))
    copied = duplicate(sentence)
    assert str(copied) == str(sentence)
    assert copied[0:2].sentence is copied
    assert copied[0:2] is copied.get_spans("ner")[0]
    assert copied.get_labels("ner")[0].data_point is copied[0:2]
    assert copied.get_relations("rel")[0].first is copied[0:2]
    assert torch.equal(copied[0].embedding, torch.ones(2))
    copied.remove_labels("ner")
    copied[0].set_embedding("e", torch.zeros(2))
    assert sentence.get_spans("ner")[0].tag == "PER"
    assert torch.equal(sentence[0].embedding, torch.ones(2))


def test_pickling_takes_no_neighbours_along() -> None:
    sentences = [Sentence("a"), Sentence("b")]
    Sentence.set_context_for_sentences(sentences)
    copied = pickle.loads(pickle.dumps(sentences[0]))
    assert copied.next_sentence() is None
    assert not copied.is_context_set()


@given(WORDS, st.data())
def test_dict_and_back(words: list[str], data: st.DataObject) -> None:
    sentence = Sentence(words, start_position=7, language_code="de")
    sentence.add_label("topic", "x", 0.5, source="me")
    start = data.draw(st.integers(0, len(words) - 1))
    span = sentence[start : data.draw(st.integers(start + 1, len(words)))]
    span.add_label("ner", "PER", 0.25)
    Relation(span, sentence[0:1]).add_label("rel", "r")
    sentence[0].add_label("pos", "N")
    again = Sentence.from_dict(json.loads(json.dumps(sentence.to_dict())))
    assert again.to_dict() == sentence.to_dict()
    assert sorted(map(str, again.labels)) == sorted(map(str, sentence.labels))


def test_retokenize_carries_labels_by_characters() -> None:
    sentence = Sentence("I went to New-York City.")
    sentence[3:5].add_label("ner", "LOC", 0.5)
    sentence.add_label("topic", "travel")
    sentence.retokenize(SpaceTokenizer())
    assert [t.text for t in sentence] == ["I", "went", "to", "New-York", "City."]
    assert [(s.text, s.tag, s.score) for s in sentence.get_spans("ner")] == [("New-York City.", "LOC", 0.5)]
    assert sentence.get_label("topic").value == "travel"


def test_truncate_drops_what_reaches_beyond() -> None:
    sentence = annotated()
    sentence.truncate(3)
    assert len(sentence) == 3
    assert [s.text for s in sentence.get_spans("ner")] == ["George Washington"]
    assert sentence.get_relations("rel") == []
    assert {label.value for label in sentence.get_labels()} == {"PER", "VBD", "history"}


def test_users_can_set_attributes() -> None:
    sentence = Sentence("a")
    sentence.note = sentence[0].note = 1  # type: ignore[attr-defined]
    assert isinstance(sentence[0:1], Span)
    assert sentence[0].note == 1  # type: ignore[attr-defined]


def test_a_sentence_is_true_when_it_has_tokens() -> None:
    assert [bool(Sentence(text)) for text in ("a", "", "  ")] == [True, False, False]


def test_tokens_may_come_as_a_tuple() -> None:
    assert [token.text for token in Sentence(("a", "b"))] == ["a", "b"]  # type: ignore[arg-type]
    assert Sentence((Token("a"), Token("b"))).text == "a b"  # type: ignore[arg-type]


@pytest.mark.parametrize("nothing", ["", [], [""]])
def test_an_empty_sentence_is_warned_of(nothing: str | list[str], caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("flair")
    logger.addHandler(caplog.handler)
    try:
        Sentence(nothing)
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.messages == ["Warning: An empty Sentence was created! Are there empty strings in your dataset?"]


def test_the_dict_of_released_versions_is_part_of_the_dict() -> None:
    sentence = annotated()
    data = sentence.to_dict()
    assert [(entity["text"], entity["labels"][0]["value"]) for entity in data["entities"]] == [
        ("George Washington", "PER"),
        ("Washington", "LOC"),
    ]
    assert data["entities"][0] == sentence[0:2].to_dict()
    assert data["relations"] == [sentence.get_relations()[0].to_dict()]
    assert data["tokens"][2]["end_pos"] == sentence[2].end_position
    assert data["tokens"][2]["labels"] == [{"value": "VBD", "confidence": 1.0}]
    only = sentence.to_dict("ner")
    assert (len(only["entities"]), only["relations"], only["labels"], only["tokens"][2]["labels"]) == (2, [], [], [])


def test_spans_without_labels_are_forgotten_with_their_labels() -> None:
    sentence = annotated()
    sentence[3:5].add_label("other", "X")
    sentence[0:2].add_label("other", "Y")
    sentence.remove_labels("other")
    assert [span.text for span in sentence.get_spans()] == ["George Washington", "Washington"]
    sentence.remove_labels("ner")
    assert [span.text for span in sentence.get_spans()] == ["George Washington", "Washington"]  # of the relation
    sentence.remove_labels("rel")
    assert sentence.get_relations() == []


def test_tokens_may_be_changed_in_place() -> None:
    sentence = Sentence("a b c")
    sentence.tokens.pop()
    sentence[0].form = "z"
    assert len(sentence) == 2
    assert sentence.to_tokenized_string() == "z b"
    assert sentence.to_plain_string() == "z b"


def test_labels_of_a_part_are_printed_in_the_order_they_were_added() -> None:
    sentence = Sentence("a b")
    sentence[0].add_label("first", "A")
    sentence[1].add_label("second", "B")
    sentence[1].add_label("first", "C")
    sentence[0:2].add_label("second", "D", note="n")
    sentence[0:2].add_label("first", "E")
    assert str(sentence) == 'Sentence[2]: "a b" → ["a"/A, "a b"/D/note=n/E, "b"/B/C]'
    assert sentence.to_tagged_string("first") == 'Sentence[2]: "a b" → ["a"/A, "a b"/E, "b"/C]'
