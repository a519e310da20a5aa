"""Tokenizers: from a text to the list of its tokens."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Optional

from segtok.segmenter import split_single
from segtok.tokenizer import split_contractions, word_tokenizer

from flair.class_utils import get_non_abstract_subclasses, lazy_import


class Tokenizer(ABC):
    """Splits text into tokens.

    A tokenizer describes itself as data, so that files can carry it. One of your own needs only :meth:`tokenize`;
    without ``to_dict`` and ``from_dict`` it works everywhere, but a model that is loaded has to be given it anew.
    """

    @abstractmethod
    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text, in order."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Identifies the tokenizer and its settings."""
        return self.__class__.__name__

    def to_dict(self) -> dict[str, Any]:
        """Class and settings as JSON-able data."""
        return self._describe(serializable=False)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> Tokenizer:
        """Rebuild a tokenizer from what :meth:`to_dict` returned.

        Raises:
            NotImplementedError: the class does not say how.
        """
        raise NotImplementedError(
            f"{cls.__name__} does not define to_dict and from_dict, so it cannot be rebuilt from a file. "
            f"Set it yourself: model.tokenizer = {cls.__name__}(...)."
        )

    def _describe(self, **settings: Any) -> dict[str, Any]:
        return {"class_module": type(self).__module__, "class_name": type(self).__name__, **settings}

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        described = type(self).to_dict is not Tokenizer.to_dict
        return described and isinstance(other, Tokenizer) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(repr(sorted(self.to_dict().items(), key=lambda item: item[0])))


def tokenizer_from_dict(config: dict[str, Any]) -> Tokenizer:
    """Rebuild any tokenizer whose class is imported; nothing is imported by a name that a file contains.

    Raises:
        ValueError: for a class that is not known.
        NotImplementedError: for a tokenizer that cannot be described as data.
    """
    name = config.get("class_name")
    for known in get_non_abstract_subclasses(Tokenizer):  # type: ignore[type-abstract]
        if known.__name__ == name and known.__module__ == config.get("class_module", known.__module__):
            return known.from_dict(config)
    raise ValueError(
        f"Tokenizer class {config.get('class_module')}.{name} is not known. Import the module that defines it first."
    )


class SpacyTokenizer(Tokenizer):
    """A spaCy pipeline's tokenizer."""

    def __init__(self, model: Any) -> None:
        """Wrap a pipeline.

        Args:
            model: a loaded pipeline, or the name of one.

        Raises:
            ImportError: spaCy is not installed.
        """
        super().__init__()
        spacy = lazy_import("spacy", "spacy", None)
        self.model = spacy.load(model) if isinstance(model, str) else model

    def tokenize(self, text: str) -> list[str]:
        return [token.text for token in self.model.make_doc(text) if token.text.strip()]

    @property
    def name(self) -> str:
        return f"{self.__class__.__name__}_{self.model.meta['name']}_{self.model.meta['version']}"

    def to_dict(self) -> dict[str, Any]:
        return self._describe(model_name=f"{self.model.meta['lang']}_{self.model.meta['name']}")

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> SpacyTokenizer:
        return cls(config["model_name"])


class SciSpacyTokenizer(Tokenizer):
    """A tokenizer for biomedical text: scispaCy's, with brackets and slashes always split off."""

    def __init__(self) -> None:
        super().__init__()
        spacy = lazy_import("scispacy", "spacy", None)
        lazy_import("scispacy", "scispacy", None)
        self.model = spacy.load(
            "en_core_sci_sm", disable=["tagger", "ner", "parser", "textcat", "lemmatizer", "attribute_ruler"]
        )
        (compile_infix_regex,) = lazy_import("scispacy", "spacy.util", "compile_infix_regex")
        infixes = [*self.model.Defaults.infixes, r"[\(\)\[\]/]", r"(?<=[\w\)])-(?=\w)"]
        self.model.tokenizer.infix_finditer = compile_infix_regex(infixes).finditer

    def tokenize(self, text: str) -> list[str]:
        return [token.text for token in self.model.make_doc(text) if token.text.strip()]

    @property
    def name(self) -> str:
        return f"{self.__class__.__name__}_{self.model.meta['name']}_{self.model.meta['version']}"

    def to_dict(self) -> dict[str, Any]:
        return self._describe()

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> SciSpacyTokenizer:
        return cls()


class SegtokTokenizer(Tokenizer):
    """The default: rules for Indo-European languages, by segtok (https://github.com/fnl/segtok)."""

    def __init__(self, additional_split_characters: Optional[list[str]] = None) -> None:
        """Choose extra characters to split at.

        Args:
            additional_split_characters: characters that always become tokens of their own.
        """
        super().__init__()
        self.additional_split_characters = additional_split_characters

    @property
    def _split_pattern(self) -> Optional[str]:
        characters = self.additional_split_characters
        return "|".join(re.escape(character) for character in characters) if characters else None

    def tokenize(self, text: str) -> list[str]:
        if self._split_pattern is not None:
            # Each pass consumes the neighbour it separates, so a run such as "a--b" keeps "-b" together. Models were
            # trained on tokens made this way.
            text = re.sub(rf"(\S)({self._split_pattern})", r"\1 \2", text)
            text = re.sub(rf"({self._split_pattern})(\S)", r"\1 \2", text)
        return self.run_tokenize(text)

    @staticmethod
    def run_tokenize(text: str) -> list[str]:
        """Split into sentences, words and contractions (``don't`` -> ``do n't``)."""
        return [
            word for sentence in split_single(text) for word in split_contractions(word_tokenizer(sentence)) if word
        ]

    def to_dict(self) -> dict[str, Any]:
        return self._describe(additional_split_characters=self.additional_split_characters)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> SegtokTokenizer:
        return cls(additional_split_characters=config.get("additional_split_characters"))


class SpaceTokenizer(Tokenizer):
    """Splits at the space character, and at nothing else."""

    def __init__(self) -> None:
        super().__init__()

    def tokenize(self, text: str) -> list[str]:
        return self.run_tokenize(text)

    @staticmethod
    def run_tokenize(text: str) -> list[str]:
        return [token for token in text.split(" ") if token]

    def to_dict(self) -> dict[str, Any]:
        return self._describe()

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> SpaceTokenizer:
        return cls()


class NoTokenizer(Tokenizer):
    """Takes the whole text as one token; also stands for sentences that were given as tokens."""

    def __init__(self) -> None:
        super().__init__()

    def tokenize(self, text: str) -> list[str]:
        return [text] if text else []

    def to_dict(self) -> dict[str, Any]:
        return self._describe()

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> NoTokenizer:
        return cls()


class JapaneseTokenizer(Tokenizer):
    """Japanese word segmentation by konoha (https://github.com/himkt/konoha)."""

    def __init__(self, tokenizer: str, sudachi_mode: str = "A") -> None:
        """Choose a backend.

        Args:
            tokenizer: "mecab", "janome" or "sudachi".
            sudachi_mode: granularity of sudachi: "A" (short), "B" or "C" (long).

        Raises:
            NotImplementedError: for another backend.
            ImportError: konoha or the backend is not installed.
        """
        super().__init__()
        available = ["mecab", "janome", "sudachi"]
        if tokenizer.lower() not in available:
            raise NotImplementedError(f"Japanese tokenizer {tokenizer!r} is not available. Use one of {available}.")
        self.tokenizer = tokenizer
        self.sudachi_mode = sudachi_mode
        sentence_tokenizer, word_tokenizer_class = lazy_import(
            "japanese", "konoha", "SentenceTokenizer", "WordTokenizer"
        )
        self.sentence_tokenizer = sentence_tokenizer()
        self.word_tokenizer = word_tokenizer_class(tokenizer, mode=sudachi_mode)

    def tokenize(self, text: str) -> list[str]:
        return [
            str(token.surface)
            for sentence in self.sentence_tokenizer.tokenize(text)
            for token in self.word_tokenizer.tokenize(sentence)
            if str(token.surface).strip()
        ]

    @property
    def name(self) -> str:
        return f"{self.__class__.__name__}_{self.tokenizer}"

    def to_dict(self) -> dict[str, Any]:
        return self._describe(tokenizer_name=self.tokenizer, sudachi_mode=self.sudachi_mode)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> JapaneseTokenizer:
        return cls(config["tokenizer_name"], sudachi_mode=config.get("sudachi_mode", "A"))


class TokenizerWrapper(Tokenizer):
    """Makes a tokenizer of any function from a text to its tokens."""

    def __init__(self, tokenizer_func: Callable[[str], list[str]]) -> None:
        super().__init__()
        self.tokenizer_func = tokenizer_func

    def tokenize(self, text: str) -> list[str]:
        return self.tokenizer_func(text)

    @property
    def name(self) -> str:
        return f"{self.__class__.__name__}_{getattr(self.tokenizer_func, '__name__', 'function')}"

    def to_dict(self) -> dict[str, Any]:
        return self._describe(
            function_name=getattr(self.tokenizer_func, "__name__", "unknown"),
            function_module=getattr(self.tokenizer_func, "__module__", "unknown"),
            serializable=False,
        )

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> TokenizerWrapper:
        raise NotImplementedError(
            f"A tokenizer made of the function {config.get('function_name')!r} cannot be rebuilt from a file. "
            "Set it yourself: model.tokenizer = TokenizerWrapper(function)."
        )


class StaccatoTokenizer(Tokenizer):
    """Splits where the kind of character changes: letters, digits, punctuation, single CJK characters.

    Abbreviations of single letters (``U.S.A.``) stay together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.punctuation = r"[^\w\s]|_"
        self.digits = r"\d+"
        self.kanji = r"[一-鿿㐀-䶿豈-﫿぀-ヿ]"
        self.alphabet_pattern = r"[^\W\d_一-鿿㐀-䶿豈-﫿぀-ヿ]+"
        self.abbreviations = r"(?:[^\W\d_]\.){2,}"
        self.token_pattern = re.compile(
            "|".join((self.abbreviations, self.kanji, self.alphabet_pattern, self.digits, self.punctuation))
        )

    def tokenize(self, text: str) -> list[str]:
        return self.token_pattern.findall(text)

    def to_dict(self) -> dict[str, Any]:
        return self._describe()

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> StaccatoTokenizer:
        return cls()
