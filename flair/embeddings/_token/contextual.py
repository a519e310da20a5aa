"""Contextual string embeddings: a word's vector is the state of a character language model at its border."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Optional, Union

import torch

from flair import _runtime
from flair.data.sentence import Sentence
from flair.embeddings._token.pretrained import FLAIR_EMBEDDINGS, LANGUAGE_CODES
from flair.embeddings._token.rows import RowEmbeddings, pad_rows
from flair.embeddings.base import TokenEmbeddings, load_embeddings, register_embeddings
from flair.file_utils import cached_path
from flair.nn.language_model import LanguageModel

END_MARKER = " "


def replace_with_language_code(string: str) -> str:
    """``"german-forward"`` -> ``"de-forward"``: spelled-out languages become the codes that names of models use."""
    for language, code in LANGUAGE_CODES:
        string = string.replace(language, code)
    return string


@register_embeddings
class FlairEmbeddings(RowEmbeddings):
    """Contextual string embeddings (Akbik, Blythe, Vollgraf 2018).

    The language model reads the whole sentence, framed by its document delimiter and a space. A forward model's vector
    of a word is the state after the character that follows the word, a backward model's the state after the character
    that precedes it.
    """

    PRETRAINED_MODEL_ARCHIVE_MAP: ClassVar[dict[str, str]] = FLAIR_EMBEDDINGS
    keeps_vectors = True

    def __init__(
        self,
        model: Union[str, Path, LanguageModel],
        fine_tune: bool = False,
        chars_per_chunk: int = 512,
        with_whitespace: bool = True,
        tokenized_lm: bool = True,
        is_lower: bool = False,
        name: Optional[str] = None,
        has_decoder: bool = False,
    ) -> None:
        """Load a language model.

        Args:
            model: a published name ("news-forward", "de-backward", …), a file, or a language model.
            fine_tune: train the language model.
            chars_per_chunk: characters per recurrent run; bounds memory, changes no result.
            with_whitespace: read the state at the character beyond the word; False reads at its own last (backward:
                first) character.
            tokenized_lm: read tokens joined with spaces; False reads the text as it was written.
            is_lower: lower-case the text.
            name: under which the vectors are stored on tokens; by default the file's path.
            has_decoder: load the layer that scores characters too.

        Raises:
            ValueError: no such name or file.
        """
        super().__init__()
        self.is_lower = is_lower
        self.fine_tune = fine_tune
        self.static_embeddings = not fine_tune
        self.with_whitespace = with_whitespace
        self.tokenized_lm = tokenized_lm
        self.chars_per_chunk = chars_per_chunk
        if isinstance(model, LanguageModel):
            self.lm = model
            self.name = f"Task-LSTM-{model.hidden_size}-{model.nlayers}-{model.is_forward_lm}"
        else:
            path = self._resolve(str(model))
            self.lm = LanguageModel.load_language_model(path, has_decoder=has_decoder)
            self.name = str(path)
        if name is not None:
            self.name = name
        self.is_forward_lm: bool = self.lm.is_forward_lm
        self.to(_runtime.device)
        self.eval()

    def _resolve(self, model: str) -> Path:
        """The file of a published name, downloaded where it is not cached, or a local file."""
        lower = model.lower()
        name = lower if lower in FLAIR_EMBEDDINGS else replace_with_language_code(model)
        if name in FLAIR_EMBEDDINGS:
            cache = Path("embeddings")
            if "impresso-hipe" in name:
                cache /= name
                self.is_lower = True
            return cached_path(FLAIR_EMBEDDINGS[name], cache_dir=cache)
        if not Path(model).exists():
            raise ValueError(f'The given model "{model}" is not available or is not a valid path.')
        return Path(model)

    def train(self, mode: bool = True) -> FlairEmbeddings:
        """Only embeddings that are fine-tuned have a training mode."""
        super().train(mode and self.fine_tune)
        return self

    @property
    def embedding_length(self) -> int:
        return self.lm.output_size

    def rows(self, sentences: list[Sentence]) -> torch.Tensor:
        texts, positions = [], []
        for sentence in sentences:
            text, ends = self._frame(sentence)
            texts.append(text)
            positions.append(ends)
        with nullcontext() if self.fine_tune else torch.no_grad():
            return self.lm.read_states(texts, positions, self.chars_per_chunk)

    def _frame(self, sentence: Sentence) -> tuple[str, list[int]]:
        """What the language model reads of a sentence, and after which characters of it its words' states stand."""
        words = [token.text for token in sentence]
        if self.tokenized_lm:
            gaps = [1] * len(words)
            text = " ".join(words)
        else:
            gaps = [token.whitespace_after for token in sentence]
            text = sentence.to_plain_string()
        if self.is_lower:
            text, words = text.lower(), [word.lower() for word in words]
        start = self.lm.document_delimiter
        back = 0 if self.with_whitespace else 1
        position = len(start) - back
        positions = []
        if self.is_forward_lm:
            for word, gap in zip(words, gaps, strict=True):
                position += len(word)
                positions.append(position)
                position += gap
            return f"{start}{text}{END_MARKER}", positions
        position += len(text)
        for word, gap in zip(words, gaps, strict=True):
            positions.append(position)
            position -= len(word) + gap
        return f"{start}{text[::-1]}{END_MARKER}", positions

    # --- files ---

    def to_params(self) -> dict[str, Any]:
        lm = self.lm
        model_params: dict[str, Any] = {
            "dictionary": lm.dictionary,
            "is_forward_lm": lm.is_forward_lm,
            "hidden_size": lm.hidden_size,
            "nlayers": lm.nlayers,
            "embedding_size": lm.embedding_size,
            "nout": lm.nout,
            "document_delimiter": lm.document_delimiter,
            "dropout": lm.dropout,
            "has_decoder": lm.decoder is not None,
        }
        # Released versions write neither of these two, and read a file with them only where the default is meant.
        if lm.recurrent_type.lower() != "lstm":
            model_params["recurrent_type"] = lm.recurrent_type
        params: dict[str, Any] = {
            "fine_tune": self.fine_tune,
            "chars_per_chunk": self.chars_per_chunk,
            "is_lower": self.is_lower,
            "tokenized_lm": self.tokenized_lm,
            "model_params": model_params,
            "name": self.name,
        }
        if not self.with_whitespace:
            params["with_whitespace"] = False
        return params

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> FlairEmbeddings:
        params = dict(params)
        return cls(model=LanguageModel(**params.pop("model_params")), **params)

    def __setstate__(self, d: dict[str, Any]) -> None:
        """Restore a pickled instance, also of versions that lacked some settings."""
        defaults = {
            "fine_tune": False,
            "chars_per_chunk": 512,
            "with_whitespace": True,
            "tokenized_lm": True,
            "is_lower": False,
            "field": None,
        }
        super().__setstate__({**defaults, **d})
        self.__dict__.setdefault("is_forward_lm", self.lm.is_forward_lm)


@register_embeddings
class PooledFlairEmbeddings(TokenEmbeddings):
    """A word's contextual vector beside a vector pooled from all its occurrences so far (Akbik et al. 2019).

    The pool grows with every sentence that is embedded, in prediction too, and is emptied by :meth:`train`.
    """

    def __init__(
        self,
        contextual_embeddings: Union[str, FlairEmbeddings],
        pooling: str = "min",
        only_capitalized: bool = False,
        **kwargs: Any,
    ) -> None:
        """Pool contextual string embeddings.

        Args:
            contextual_embeddings: the embeddings to pool, or what :class:`FlairEmbeddings` takes as ``model``.
            pooling: "min", "max", "mean", or "fade" (the mean of the pooled and the new vector).
            only_capitalized: pool only words that begin with a capital letter.
            kwargs: further arguments of :class:`FlairEmbeddings`.
        """
        super().__init__()
        if isinstance(contextual_embeddings, str):
            contextual_embeddings = FlairEmbeddings(contextual_embeddings, **kwargs)
        self.context_embeddings: FlairEmbeddings = contextual_embeddings
        self.name = f"{contextual_embeddings.name}-context"
        self.word_embeddings: dict[str, torch.Tensor] = {}
        self.word_count: dict[str, int] = {}
        self.only_capitalized = only_capitalized
        self.pooling = pooling
        self.static_embeddings = False

    def train(self, mode: bool = True) -> PooledFlairEmbeddings:
        """Enter training mode and, doing so, empty the pool."""
        super().train(mode)
        if mode:
            _runtime.logger.info("train mode resetting embeddings")
            self.word_embeddings = {}
            self.word_count = {}
        return self

    @property
    def embedding_length(self) -> int:
        return self.context_embeddings.embedding_length * 2

    def get_names(self) -> list[str]:
        """The names of the pooled and of the contextual vector."""
        return [self.name, self.context_embeddings.name]

    def encode_tokens(self, sentences: list[Sentence]) -> tuple[torch.Tensor, torch.Tensor]:
        """Contextual and pooled vectors: ``[batch, tokens, embedding_length]``, and lengths ``[batch]``."""
        parts, lengths = self.encode_parts(sentences)
        return torch.cat([vectors for _, vectors in sorted(parts, key=lambda part: part[0])], dim=-1), lengths

    def encode_parts(self, sentences: list[Sentence]) -> tuple[list[tuple[str, torch.Tensor]], torch.Tensor]:
        """Each stored name with its vectors ``[batch, tokens, length]``, and the sentences' lengths."""
        rows = self.context_embeddings.rows(sentences)
        sizes = [len(sentence) for sentence in sentences]
        contextual, lengths = pad_rows(rows, sizes)
        pooled, _ = pad_rows(self._pool(sentences, rows), sizes)
        return [(self.context_embeddings.name, contextual), (self.name, pooled)], lengths

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        rows = self.context_embeddings.rows(sentences)
        tokens = [token for sentence in sentences for token in sentence]
        for token, row, pooled in zip(tokens, rows.unbind(), self._pool(sentences, rows).unbind(), strict=True):
            token.set_embedding(self.context_embeddings.name, row)
            token.set_embedding(self.name, pooled)
        return sentences

    def _pool(self, sentences: list[Sentence], rows: torch.Tensor) -> torch.Tensor:
        """Add the occurrences to the pool, then read every word's pooled vector: ``[tokens, length]``."""
        words = [token.text for sentence in sentences for token in sentence]
        for word, row in zip(words, rows.detach().unbind(), strict=True):
            if not self.only_capitalized or word[0].isupper():
                self._add_to_pool(word, row)
        pooled = [self.word_embeddings.get(word) for word in words]
        stacked = [row if vector is None else vector.to(row) for vector, row in zip(pooled, rows.unbind(), strict=True)]
        return torch.stack(stacked) if stacked else rows

    def _add_to_pool(self, word: str, vector: torch.Tensor) -> None:
        count = self.word_count.get(word, 0)
        before = self.word_embeddings.get(word)
        if before is None:
            self.word_embeddings[word] = vector.clone()  # a view would keep the whole batch in memory
        else:
            before = before.to(vector)
            if self.pooling == "mean":
                self.word_embeddings[word] = (before * count + vector) / (count + 1)
            elif self.pooling == "fade":
                self.word_embeddings[word] = (before + vector) / 2
            elif self.pooling == "max":
                self.word_embeddings[word] = torch.maximum(before, vector)
            else:
                self.word_embeddings[word] = torch.minimum(before, vector)
        self.word_count[word] = count + 1

    def __setstate__(self, d: dict[str, Any]) -> None:
        """Restore a pickled instance; the pool is moved to the device in use."""
        super().__setstate__(d)
        self.word_embeddings = {
            word: vector.to(_runtime.device) for word, vector in d.get("word_embeddings", {}).items()
        }
        self.word_count = dict(d.get("word_count", {}))

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> PooledFlairEmbeddings:
        return cls(**{**params, "contextual_embeddings": load_embeddings(params["contextual_embeddings"])})

    def to_params(self) -> dict[str, Any]:
        return {
            "pooling": self.pooling,
            "only_capitalized": self.only_capitalized,
            "contextual_embeddings": self.context_embeddings.save_embeddings(use_state_dict=False),
        }
