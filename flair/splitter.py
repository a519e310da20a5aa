"""Splitters: from a text to its sentences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Optional, Union

from segtok.segmenter import split_multi

from flair.class_utils import lazy_import
from flair.data.sentence import Sentence
from flair.tokenization import SciSpacyTokenizer, SegtokTokenizer, SpacyTokenizer, Tokenizer

_DEFAULT_TOKENIZER = SegtokTokenizer()


class SentenceSplitter(ABC):
    """Splits a text into :class:`Sentence` objects that know their place in the text and their neighbours."""

    def split(self, text: str, link_sentences: bool = True) -> list[Sentence]:
        """Split a text.

        Args:
            text: the text.
            link_sentences: let each sentence know the one before and after it, for embeddings with context.
        """
        sentences = self._perform_split(text)
        if link_sentences:
            Sentence.set_context_for_sentences(sentences)
        return sentences

    @abstractmethod
    def _perform_split(self, text: str) -> list[Sentence]:
        raise NotImplementedError

    @property
    def name(self) -> str:
        return self.__class__.__name__

    @property
    def tokenizer(self) -> Tokenizer:
        raise NotImplementedError

    @tokenizer.setter
    def tokenizer(self, value: Tokenizer) -> None:
        raise NotImplementedError

    def _sentences(self, text: str, parts: list[str]) -> list[Sentence]:
        """Sentences of parts that follow each other in the text, each with its offset."""
        sentences, end = [], 0
        for part in parts:
            start = text.find(part, end)
            start = end if start < 0 else start
            sentences.append(Sentence(part, use_tokenizer=self.tokenizer, start_position=start))
            end = start + len(part)
        return sentences


class _WithTokenizer(SentenceSplitter):
    _tokenizer: Tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Tokenizer) -> None:
        self._tokenizer = value


class SegtokSentenceSplitter(_WithTokenizer):
    """Sentences by segtok's rules for Indo-European languages."""

    def __init__(self, tokenizer: Tokenizer = _DEFAULT_TOKENIZER) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def _perform_split(self, text: str) -> list[Sentence]:
        return self._sentences(text, list(split_multi(text)))

    @property
    def name(self) -> str:
        return self.__class__.__name__


class SpacySentenceSplitter(_WithTokenizer):
    """Sentences of a spaCy pipeline."""

    def __init__(self, model: Union[Any, str], tokenizer: Optional[Tokenizer] = None) -> None:
        """Wrap a pipeline.

        Args:
            model: a loaded pipeline, or the name of one.
            tokenizer: by default the pipeline's.
        """
        super().__init__()
        spacy = lazy_import("spacy", "spacy", None)
        self.model = spacy.load(model) if isinstance(model, str) else model
        self._tokenizer = SpacyTokenizer(self.model) if tokenizer is None else tokenizer

    def _perform_split(self, text: str) -> list[Sentence]:
        return [
            Sentence(str(sentence), use_tokenizer=self.tokenizer, start_position=sentence.start_char)
            for sentence in self.model(text).sents
            if str(sentence).strip()
        ]

    @property
    def name(self) -> str:
        meta = self.model.meta
        return f"{self.__class__.__name__}_{meta['name']}_{meta['version']}_{self.tokenizer.name}"


class SciSpacySentenceSplitter(SpacySentenceSplitter):
    """Sentences and tokens of scispaCy, for biomedical text."""

    def __init__(self) -> None:
        lazy_import("scispacy", "scispacy", None)
        super().__init__("en_core_sci_sm", SciSpacyTokenizer())


class TagSentenceSplitter(_WithTokenizer):
    """Splits at a given string; the string itself belongs to no sentence."""

    def __init__(self, tag: str, tokenizer: Tokenizer = _DEFAULT_TOKENIZER) -> None:
        super().__init__()
        self.tag = tag
        self._tokenizer = tokenizer

    def _perform_split(self, text: str) -> list[Sentence]:
        sentences, start = [], 0
        for part in text.split(self.tag):
            if part.strip():
                sentences.append(Sentence(part, use_tokenizer=self.tokenizer, start_position=start))
            start += len(part) + len(self.tag)
        return sentences

    @property
    def name(self) -> str:
        return f"{self.__class__.__name__}_{self.tag}_{self.tokenizer.name}"


class NewlineSentenceSplitter(TagSentenceSplitter):
    """One sentence a line."""

    def __init__(self, tokenizer: Tokenizer = _DEFAULT_TOKENIZER) -> None:
        super().__init__(tag="\n", tokenizer=tokenizer)

    @property
    def name(self) -> str:
        return f"{self.__class__.__name__}_{self.tokenizer.name}"


class NoSentenceSplitter(_WithTokenizer):
    """Takes the whole text as one sentence."""

    def __init__(self, tokenizer: Tokenizer = _DEFAULT_TOKENIZER) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def _perform_split(self, text: str) -> list[Sentence]:
        return [Sentence(text, use_tokenizer=self.tokenizer, start_position=0)]

    @property
    def name(self) -> str:
        return f"{self.__class__.__name__}_{self.tokenizer.name}"
