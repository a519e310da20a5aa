"""Tokenizers: their tokens, their description as data, and what happens without optional libraries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flair.data import Sentence
from flair.tokenization import (
    JapaneseTokenizer,
    NoTokenizer,
    SegtokTokenizer,
    SpaceTokenizer,
    SpacyTokenizer,
    StaccatoTokenizer,
    Tokenizer,
    TokenizerWrapper,
    tokenizer_from_dict,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("I don't know, Mr. Smith.", ["I", "do", "n't", "know", ",", "Mr.", "Smith", "."]),
        ("He said: well-known!", ["He", "said", ":", "well-known", "!"]),
        ("", []),
        ("   ", []),
    ],
)
def test_segtok(text: str, tokens: list[str]) -> None:
    assert SegtokTokenizer().tokenize(text) == tokens
    assert SegtokTokenizer.run_tokenize(text) == tokens


def test_segtok_splits_at_additional_characters() -> None:
    assert "-" not in SegtokTokenizer().tokenize("a-b§c")
    assert SegtokTokenizer(additional_split_characters=["-", "§"]).tokenize("a-b§c") == ["a", "-", "b", "§", "c"]


def test_space_tokenizer_splits_at_spaces_only() -> None:
    assert SpaceTokenizer().tokenize(" a  b\tc\nd ") == ["a", "b\tc\nd"]
    assert SpaceTokenizer.run_tokenize("x y") == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("abc123!", ["abc", "123", "!"]),
        ("U.S.A. is", ["U.S.A.", "is"]),
        ("日本語x", ["日", "本", "語", "x"]),
        ("don't", ["don", "'", "t"]),
    ],
)
def test_staccato(text: str, tokens: list[str]) -> None:
    assert StaccatoTokenizer().tokenize(text) == tokens


@given(st.text(max_size=60))
def test_tokens_hold_all_visible_characters(text: str) -> None:
    for tokenizer in (SpaceTokenizer(), StaccatoTokenizer()):
        tokens = tokenizer.tokenize(text)
        assert all(tokens)
    assert "".join(SpaceTokenizer().tokenize(text)) == text.replace(" ", "")


@pytest.mark.parametrize(
    "tokenizer",
    [
        SegtokTokenizer(),
        SegtokTokenizer(additional_split_characters=["§"]),
        SpaceTokenizer(),
        NoTokenizer(),
        StaccatoTokenizer(),
    ],
)
def test_description_round_trip(tokenizer: Tokenizer) -> None:
    rebuilt = tokenizer_from_dict(tokenizer.to_dict())
    assert type(rebuilt) is type(tokenizer)
    assert rebuilt == tokenizer
    assert hash(rebuilt) == hash(tokenizer)
    assert tokenizer != object()


def test_different_settings_are_not_equal() -> None:
    assert SegtokTokenizer() != SegtokTokenizer(additional_split_characters=["-"])
    assert SegtokTokenizer() != SpaceTokenizer()


def test_wrapper_has_the_functions_name_and_cannot_be_rebuilt() -> None:
    def letters(text: str) -> list[str]:
        return list(text)

    tokenizer = TokenizerWrapper(letters)
    assert tokenizer.tokenize("ab") == ["a", "b"]
    assert tokenizer.name == "TokenizerWrapper_letters"
    with pytest.raises(NotImplementedError, match="letters"):
        tokenizer_from_dict(tokenizer.to_dict())


def test_no_class_is_imported_by_a_name_in_a_file() -> None:
    with pytest.raises(ValueError, match=r"os\.system"):
        tokenizer_from_dict({"class_module": "os", "class_name": "system"})


def test_missing_libraries_name_the_extra() -> None:
    with pytest.raises(NotImplementedError, match="mecab"):
        JapaneseTokenizer("unknown")
    for make in (lambda: JapaneseTokenizer("janome"), lambda: SpacyTokenizer("en_core_web_sm")):
        with pytest.raises((ImportError, OSError), match=r"flair\[(japanese|spacy)\]|en_core_web_sm"):
            make()


class Underscores(Tokenizer):
    """As users of released versions wrote them: without a description."""

    def tokenize(self, text: str) -> list[str]:
        return text.split("_")


def test_a_tokenizer_of_ones_own_needs_no_description() -> None:
    tokenizer = Underscores()
    assert [token.text for token in Sentence("a_b", use_tokenizer=tokenizer)] == ["a", "b"]
    assert tokenizer.name == "Underscores"
    assert tokenizer == tokenizer
    assert tokenizer != Underscores()  # their settings are not known
    with pytest.raises(NotImplementedError, match="Underscores does not define to_dict"):
        tokenizer_from_dict(tokenizer.to_dict())
    with pytest.raises(TypeError):
        Tokenizer()  # type: ignore[abstract]
