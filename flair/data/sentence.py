"""The sentence: text, its tokens, and everything that is known about them."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Optional, Union

import torch

from flair import _runtime
from flair.data.label import Label
from flair.data.units import DataPoint, Relation, Span, Token
from flair.tokenization import NoTokenizer, SegtokTokenizer, SpaceTokenizer, Tokenizer, tokenizer_from_dict

_C1_CONTROLS = re.compile("[\x80-\x99]")
"""Characters that are left when windows-1252 text was read as latin-1."""

_SEGTOK, _SPACE = SegtokTokenizer(), SpaceTokenizer()
_TOKEN_LOCK = threading.RLock()


def _repair(text: str) -> str:
    """Read C1 control characters as the windows-1252 characters they stand for."""
    if text.isascii() or not _C1_CONTROLS.search(text):
        return text

    def as_windows_1252(match: re.Match[str]) -> str:
        try:
            return match.group().encode("latin-1").decode("windows-1252")
        except UnicodeDecodeError:  # five codes are not assigned
            return ""

    return _C1_CONTROLS.sub(as_windows_1252, text)


class Sentence(DataPoint):
    """A text with tokens, labels, embeddings and neighbours.

    Tokens are made when they are first needed: text is split at the first look at them, and token objects exist from
    the first access to one.
    """

    # What most sentences never change lives on the class: making a sentence is what readers do most.
    _words: Optional[list[str]] = None
    _token_list: Optional[list[Token]] = None
    _previous_sentence: Optional[Sentence] = None
    _next_sentence: Optional[Sentence] = None
    _has_context = False
    _position_in_dataset: Optional[tuple[Any, int]] = None
    is_document_boundary = False
    tokenized: Optional[str] = None

    def __init__(
        self,
        text: Union[str, list[str], list[Token]],
        use_tokenizer: Union[bool, Tokenizer] = True,
        language_code: Optional[str] = None,
        start_position: int = 0,
    ) -> None:
        """Make a sentence.

        Args:
            text: the text, or its tokens as strings (joined by spaces) or as Token objects.
            use_tokenizer: a tokenizer; True for segtok, False to split at spaces.
            language_code: two letters; detected on demand if not given.
            start_position: offset of the sentence in its document.

        Raises:
            TypeError: ``text`` is something else, or a list of mixed types.
            ValueError: a Token of another sentence.
            AssertionError: ``use_tokenizer`` is neither bool nor Tokenizer.
        """
        self.language_code = language_code
        self._start_position = start_position
        self._known_spans: dict[Any, Any] = {}

        if use_tokenizer is True:
            self._tokenizer: Tokenizer = _SEGTOK
        elif use_tokenizer is False:
            self._tokenizer = _SPACE
        elif isinstance(use_tokenizer, Tokenizer):
            self._tokenizer = use_tokenizer
        else:
            raise AssertionError(
                f"use_tokenizer must be a bool or a Tokenizer, not {type(use_tokenizer).__name__} ({use_tokenizer!r})."
            )

        if isinstance(text, str):
            self._text = _repair(text)
            if not self._text:
                self._words = []
        elif isinstance(text, (list, tuple)):
            self._tokenizer = NoTokenizer()
            self._init_from_list(text)
        else:
            raise TypeError(
                f"A Sentence is made of a str or a list of its tokens, not of {type(text).__name__} ({text!r})."
            )
        if not self._text:
            _runtime.logger.warning("Warning: An empty Sentence was created! Are there empty strings in your dataset?")

    def _init_from_list(self, parts: Sequence[Any]) -> None:
        if all(isinstance(part, str) for part in parts):
            self._words = [word for part in parts if (word := _repair(part))]
            self._text = " ".join(self._words)
        elif all(isinstance(part, Token) for part in parts):
            self._token_list = []
            pieces: list[str] = []
            position = 0
            for token in parts:
                if token.sentence is not None:
                    raise ValueError(f"{token} belongs to another sentence. Make a new Token({token.text!r}).")
            for number, token in enumerate(parts, 1):
                token.sentence = self
                token._internal_index = number
                token.start_position = position
                if number == len(parts):
                    token.whitespace_after = 0
                pieces.append(token.text + " " * token.whitespace_after)
                position += len(pieces[-1])
                self._token_list.append(token)
            self._words = [token.text for token in parts]
            self._text = "".join(pieces)
        else:
            names = ", ".join(sorted({type(part).__name__ for part in parts}))
            raise TypeError(f"The tokens of a Sentence are all str or all Token objects; this list has {names}.")

    # --- tokens ---

    def _split(self) -> list[str]:
        """The token texts, without making token objects."""
        if self._words is None:
            self._words = self._tokenizer.tokenize(self._text)
        return self._words

    def _token_texts(self) -> list[str]:
        """The texts of the tokens; token objects are asked only if they exist already."""
        return self._split() if self._token_list is None else [token.form for token in self._token_list]

    @property
    def tokens(self) -> list[Token]:
        tokens = self._token_list
        if tokens is None:
            with _TOKEN_LOCK:  # two threads must end up with the same objects: labels hang on them
                tokens = self._token_list
                if tokens is None:
                    tokens = self._token_list = self._make_tokens(self._split())
        return tokens

    @tokens.setter
    def tokens(self, value: list[Token]) -> None:
        self._token_list = value
        self._words = [token.text for token in value]

    def _make_tokens(self, words: list[str]) -> list[Token]:
        text, position = self._text, 0
        tokens: list[Token] = []
        previous: Optional[Token] = None
        for number, word in enumerate(words, 1):
            found = text.find(word, position)
            # A tokenizer that changes characters gives words that the text does not have.
            start = found if found >= 0 else position
            if previous is not None:
                previous.whitespace_after = start - position
            token = Token(word, whitespace_after=0, start_position=start, sentence=self)
            token._internal_index = number
            tokens.append(token)
            previous = token
            position = start + len(word)
        return tokens

    @property
    def _is_tokenized(self) -> bool:
        return self._words is not None

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, new_tokenizer: Tokenizer) -> None:
        """Split anew, at the next look at the tokens or now if there are labels to carry over."""
        if self._token_list is not None and self._layers:
            self.retokenize(new_tokenizer)
            return
        self._tokenizer = new_tokenizer
        self._words = self._token_list = self.tokenized = None

    def retokenize(self, new_tokenizer: Tokenizer) -> None:
        """Split the text with another tokenizer. Labels of spans and relations move to the tokens at the same
        characters; labels of single tokens are lost.
        """
        labels: dict[int, list[tuple[str, Label]]] = {}
        spans = [part for part in self._known_spans.values() if isinstance(part, Span)]
        relations = [part for part in self._known_spans.values() if isinstance(part, Relation)]
        for part in (*spans, *relations):
            labels[id(part)] = [(name, label) for name, layer in part.annotation_layers.items() for label in layer]
        own = [(name, label) for name, layer in self.annotation_layers.items() for label in layer]
        own = [(name, label) for name, label in own if label.data_point is self]

        self._tokenizer = new_tokenizer
        self._words = self._token_list = self.tokenized = None
        self._known_spans = {}
        self.annotation_layers = {}
        moved: dict[int, Span] = {}
        for span in spans:
            inside = [
                token
                for token in self.tokens
                if token.start_position < span.end_position and token.end_position > span.start_position
            ]
            if inside:
                moved[id(span)] = Span(inside)
                self._copy_labels(labels[id(span)], moved[id(span)])
        for relation in relations:
            first, second = moved.get(id(relation.first)), moved.get(id(relation.second))
            if first is not None and second is not None:
                self._copy_labels(labels[id(relation)], Relation(first, second))
        self._copy_labels(own, self)

    @staticmethod
    def _copy_labels(labels: list[tuple[str, Label]], target: DataPoint) -> None:
        for name, label in labels:
            target.add_label(name, label.value, label.score, **label.metadata)

    def truncate(self, max_tokens: int) -> None:
        """Keep the first tokens; spans and relations that reach beyond them go, with their labels."""
        kept = self.tokens[:max_tokens]
        if len(kept) == len(self.tokens):
            return
        gone = {id(token) for token in self.tokens[max_tokens:]}

        def inside(part: Any) -> bool:
            if isinstance(part, Relation):
                return inside(part.first) and inside(part.second)
            if isinstance(part, Span):
                return not any(id(token) in gone for token in part.tokens)
            return id(part) not in gone

        self._known_spans = {key: part for key, part in self._known_spans.items() if inside(part)}
        self.annotation_layers = {
            name: remaining
            for name, layer in self.annotation_layers.items()
            if (remaining := [label for label in layer if label.data_point is self or inside(label.data_point)])
        }
        self._text = self._text[: kept[-1].end_position] if kept else ""
        if kept:
            kept[-1].whitespace_after = 0
        self.tokens = kept
        self.tokenized = None

    def __iter__(self) -> Iterator[Token]:
        return iter(self.tokens)

    def __len__(self) -> int:
        tokens = self._token_list  # once it exists it is the truth: users append to it
        return len(tokens) if tokens is not None else len(self._split())

    def __getitem__(self, subscript: Any) -> Any:
        """A token by index, or the span of a slice."""
        if isinstance(subscript, slice):
            return Span(self._tokens_of(subscript))
        return self.tokens[subscript]

    def _tokens_of(self, subscript: slice) -> list[Token]:
        tokens = self.tokens[subscript]
        if not tokens:
            raise IndexError(f"Slice {subscript.start}:{subscript.stop} holds no token: the sentence has {len(self)}.")
        return tokens

    def get_span(self, start: int, stop: int) -> Span:
        """The span of the tokens from ``start`` up to, not including, ``stop`` (counted from 0)."""
        return Span(self._tokens_of(slice(start, stop)))

    def get_token(self, token_id: int) -> Optional[Token]:
        """The token whose ``idx`` (counted from 1) is ``token_id``, or None."""
        return self.tokens[token_id - 1] if 1 <= token_id <= len(self.tokens) else None

    def get_spans(self, label_type: Optional[str] = None) -> list[Span]:
        """Spans with a label of the type, in text order; without a type all spans that were ever asked for."""
        spans = [part for part in self._known_spans.values() if isinstance(part, Span)]
        if label_type is not None:
            spans = [span for span in spans if span.has_label(label_type)]
        return sorted(spans)

    def get_relations(self, label_type: Optional[str] = None) -> list[Relation]:
        """Relations with a label of the type, in text order; without a type those with any label."""
        relations = [part for part in self._known_spans.values() if isinstance(part, Relation)]
        wanted = [r for r in relations if (r.has_label(label_type) if label_type is not None else bool(r.labels))]
        return sorted(wanted)

    # --- text ---

    @property
    def text(self) -> str:
        return self._text

    def to_original_text(self) -> str:
        """The text as it was given."""
        return self._text

    def to_plain_string(self) -> str:
        """The text rebuilt from tokens and the spaces between them."""
        return "".join(f"{token.text}{' ' * token.whitespace_after}" for token in self.tokens).rstrip()

    def to_tokenized_string(self) -> str:
        """The tokens, joined by single spaces."""
        if self.tokenized is None:
            self.tokenized = " ".join(self._token_texts())
        return self.tokenized

    def infer_space_after(self) -> Sentence:
        """Guess from the tokens where the original text had no space (quotes, brackets, punctuation, clitics)."""
        open_quote = False
        previous: Optional[Token] = None
        for token in self.tokens:
            closes = token.text in {".", ",", ":", ";", "!", "?", ")", "]", "n't"} or token.text.startswith("'")
            if token.text == '"':
                closes, open_quote = open_quote, not open_quote
            if previous is not None:
                opened = previous.text in {"(", "["} or (previous.text == '"' and open_quote and token.text != '"')
                if closes or opened:
                    previous.whitespace_after = 0
            previous = token
        return self

    @property
    def start_position(self) -> int:
        return self._start_position

    @start_position.setter
    def start_position(self, value: int) -> None:
        self._start_position = value

    @property
    def end_position(self) -> int:
        return self._start_position + self.tokens[-1].end_position

    def get_language_code(self) -> str:
        """The language, detected from the text if it was not given ("en" where that fails)."""
        if self.language_code is None:
            import langdetect

            try:
                self.language_code = langdetect.detect(self.to_plain_string())
            except langdetect.LangDetectException:
                self.language_code = "en"
        return self.language_code

    # --- printing ---

    @property
    def unlabeled_identifier(self) -> str:
        return f'Sentence[{len(self) if self._is_tokenized else "?"}]: "{self._text}"'

    def to_tagged_string(self, main_label: Optional[str] = None) -> str:
        """Text and labels in one line: sentence labels with scores, then those of the parts in text order."""
        if not self._is_tokenized:
            return f'Sentence: "{self._text}"{self._printout_labels(main_label)}'
        points = {id(label.data_point): label.data_point for label in self.get_labels(main_label)}
        points.pop(id(self), None)
        entries = [
            "/".join(
                [f'"{point.text}"', *(f"{label.value}{label.metadata_str}" for label in point.get_labels(main_label))]
            )
            for point in points.values()
        ]
        parts = f"{_runtime.arrow}[{', '.join(entries)}]" if entries else ""
        return f"{self.unlabeled_identifier}{self._printout_labels()}{parts}"

    def __str__(self) -> str:
        return self.to_tagged_string()

    def __repr__(self) -> str:
        return self.to_tagged_string()

    # --- labels ---

    def get_labels(self, label_type: Optional[str] = None) -> list[Label]:
        """Labels of the sentence and all its parts (of a type), in text order."""
        if not self._layers:
            return []
        labels = self.labels if label_type is None else list(self._layers.get(label_type, ()))
        if len(labels) < 2:
            return labels
        return sorted(labels, key=lambda label: 0 if label.data_point is self else label.data_point.start_position)

    def remove_labels(self, typename: str) -> None:
        """Remove all labels of a type, also from tokens, spans and relations.

        Spans and relations that have no label then are forgotten: ``get_spans()`` after a second prediction does not
        list what only the first one had found.
        """
        bare: set[int] = set()
        for label in (self._layers or {}).get(typename, ()):
            part = label.data_point
            if part is not self and part._layers:
                part._layers.pop(typename, None)
                if not any(part._layers.values()):
                    bare.add(id(part))
        super().remove_labels(typename)
        if bare:
            related = [
                part for part in self._known_spans.values() if isinstance(part, Relation) and id(part) not in bare
            ]
            bare -= {id(span) for relation in related for span in (relation.first, relation.second)}
            self._known_spans = {key: part for key, part in self._known_spans.items() if id(part) not in bare}

    def set_label(self, typename: str, value: str, score: float = 1.0, **metadata: Any) -> Sentence:
        layer = self.annotation_layers.get(typename, [])
        self.annotation_layers[typename] = [label for label in layer if label.data_point is not self]
        return self.add_label(typename, value, score, **metadata)

    # --- embeddings ---

    @property
    def embedding(self) -> torch.Tensor:
        return self.get_embedding()

    def _embedded_parts(self) -> list[DataPoint]:
        """Everything inside that may hold vectors; token objects that were never made hold none."""
        return [*(self._token_list or ()), *self._known_spans.values()]

    def to(self, device: Union[str, torch.device], pin_memory: bool = False) -> None:
        super().to(device, pin_memory)
        for part in self._embedded_parts():
            part.to(device, pin_memory)

    def clear_embeddings(self, embedding_names: Optional[list[str]] = None) -> None:
        super().clear_embeddings(embedding_names)
        for part in self._embedded_parts():
            if part._vectors is not None:
                part.clear_embeddings(embedding_names)

    def _get_dynamic_embedding_names(self) -> set[str]:
        names = super()._get_dynamic_embedding_names()
        return names.union(*(part._get_dynamic_embedding_names() for part in self._embedded_parts()))

    def _get_all_embedding_names(self) -> set[str]:
        names = super()._get_all_embedding_names()
        return names.union(*(part._get_all_embedding_names() for part in self._embedded_parts()))

    # --- context ---

    def next_sentence(self) -> Optional[Sentence]:
        """The sentence behind this one in its document or data set, if it is known."""
        if self._next_sentence is not None:
            return self._next_sentence
        if self._position_in_dataset is not None:
            dataset, index = self._position_in_dataset
            if index + 1 < len(dataset):
                return dataset[index + 1]
        return None

    def previous_sentence(self) -> Optional[Sentence]:
        """The sentence before this one in its document or data set, if it is known."""
        if self._previous_sentence is not None:
            return self._previous_sentence
        if self._position_in_dataset is not None:
            dataset, index = self._position_in_dataset
            if index > 0:
                return dataset[index - 1]
        return None

    def is_context_set(self) -> bool:
        return (
            self._has_context
            or self._previous_sentence is not None
            or self._next_sentence is not None
            or self._position_in_dataset is not None
        )

    def copy_context_from_sentence(self, sentence: Sentence) -> None:
        """Take over the neighbours of another sentence."""
        self._previous_sentence = sentence._previous_sentence
        self._next_sentence = sentence._next_sentence
        self._position_in_dataset = sentence._position_in_dataset
        self._has_context = sentence._has_context

    @classmethod
    def set_context_for_sentences(cls, sentences: list[Sentence]) -> None:
        """Make the sentences neighbours in the order given; those that have neighbours already are skipped."""
        previous: Optional[Sentence] = None
        for sentence in sentences:
            if sentence.is_context_set():
                continue
            sentence._previous_sentence = previous
            sentence._next_sentence = None
            sentence._has_context = True
            if previous is not None:
                previous._next_sentence = sentence
            previous = sentence

    def left_context(self, context_length: int, respect_document_boundaries: bool = True) -> list[Token]:
        """Up to ``context_length`` tokens before this sentence, in text order."""
        context: list[Token] = []
        sentence: Optional[Sentence] = self
        while len(context) < context_length:
            assert sentence is not None
            sentence = sentence.previous_sentence()
            if sentence is None or (respect_document_boundaries and sentence.is_document_boundary):
                break
            context = sentence.tokens + context
        return context[max(0, len(context) - context_length) :]

    def right_context(self, context_length: int, respect_document_boundaries: bool = True) -> list[Token]:
        """Up to ``context_length`` tokens behind this sentence, in text order."""
        context: list[Token] = []
        sentence: Optional[Sentence] = self
        while len(context) < context_length:
            assert sentence is not None
            sentence = sentence.next_sentence()
            if sentence is None or (respect_document_boundaries and sentence.is_document_boundary):
                break
            context = context + sentence.tokens
        return context[:context_length]

    # --- as data ---

    def to_dict(self, tag_type: Optional[str] = None) -> dict[str, Any]:
        """Text, tokens, labels and settings as JSON-able data; :meth:`from_dict` reads it back.

        What 0.15 gave is among it: "entities", "relations", and end and labels of tokens.

        Args:
            tag_type: only labels of this type.
        """

        def wanted(part: DataPoint) -> list[dict[str, Any]]:
            return [
                {"typename": name, "value": label.value, "score": label.score, "metadata": dict(label.metadata)}
                for name, layer in (part._layers or {}).items()
                if tag_type in (None, name)
                for label in layer
                if label.data_point is part
            ]

        def shown(part: Union[Span, Relation]) -> bool:
            return tag_type is None or part.has_label(tag_type)

        spans = {span.unlabeled_identifier: span for span in self.get_spans()}
        return {
            "text": self.to_original_text(),
            "tokens": [
                {
                    **token.to_dict(tag_type),
                    "whitespace_after": token.whitespace_after,
                    "head_id": token.head_id,
                }
                for token in self.tokens
            ],
            "labels": [label.to_dict() for label in self.get_labels(tag_type) if label.data_point is self],
            "entities": [span.to_dict(tag_type) for span in spans.values() if shown(span)],
            "relations": [relation.to_dict(tag_type) for relation in self.get_relations() if shown(relation)],
            "annotations": {
                "sentence_labels": wanted(self),
                "spans": {
                    name: {
                        "start_char": span.start_position,
                        "end_char": span.end_position,
                        "text": span.text,
                        "labels": wanted(span),
                    }
                    for name, span in spans.items()
                },
                "relations": [
                    {
                        "first": relation.first.unlabeled_identifier,
                        "second": relation.second.unlabeled_identifier,
                        "labels": wanted(relation),
                    }
                    for relation in self.get_relations()
                ],
                "tokens": {token.idx: found for token in self.tokens if (found := wanted(token))},
            },
            "language_code": self.language_code,
            "start_position": self.start_position,
            "tokenizer": self._tokenizer.to_dict(),
        }

    @classmethod
    def from_dict(cls, sentence_dict: dict[str, Any]) -> Sentence:
        """Rebuild a sentence with its labels from :meth:`to_dict`."""
        sentence = cls(
            sentence_dict["text"],
            language_code=sentence_dict.get("language_code"),
            start_position=sentence_dict.get("start_position", 0),
        )
        try:
            sentence._tokenizer = tokenizer_from_dict(sentence_dict["tokenizer"])
        except (KeyError, TypeError, ValueError, NotImplementedError, ImportError) as error:
            _runtime.logger.debug(f"The tokenizer of a sentence could not be rebuilt: {error}")
        tokens = []
        for number, data in enumerate(sentence_dict["tokens"], 1):
            token = Token(
                data["text"],
                head_id=data.get("head_id"),
                whitespace_after=data.get("whitespace_after", 1),
                start_position=data.get("start_pos", 0),
                sentence=sentence,
            )
            token._internal_index = number
            tokens.append(token)
        sentence.tokens = tokens

        def add(part: DataPoint, labels: list[dict[str, Any]]) -> None:
            for label in labels:
                part.add_label(label["typename"], label["value"], label["score"], **label.get("metadata", {}))

        annotations = sentence_dict.get("annotations", {})
        spans: dict[str, Span] = {}
        for name, data in annotations.get("spans", {}).items():
            start, end = data["start_char"], data["end_char"]
            inside = [token for token in tokens if token.start_position >= start and token.end_position <= end]
            if inside:
                spans[name] = Span(inside)
                add(spans[name], data["labels"])
        for data in annotations.get("relations", []):
            if data["first"] in spans and data["second"] in spans:
                add(Relation(spans[data["first"]], spans[data["second"]]), data["labels"])
        for index, labels in annotations.get("tokens", {}).items():
            add(tokens[int(index) - 1], labels)
        add(sentence, annotations.get("sentence_labels", []))
        return sentence

    def __deepcopy__(self, memo: dict[int, Any]) -> Sentence:
        """A copy with parts, labels and embeddings of its own. Neighbouring sentences are shared, not copied."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        for name, value in self.__dict__.items():
            shared = name in ("_previous_sentence", "_next_sentence", "_position_in_dataset", "_tokenizer")
            copied.__dict__[name] = value if shared else copy.deepcopy(value, memo)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: without neighbours, which would bring the whole document along."""
        unlinked = {"_previous_sentence": None, "_next_sentence": None, "_position_in_dataset": None}
        return {**self.__dict__, **unlinked, "_has_context": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


Sentence.__module__ = "flair.data"
