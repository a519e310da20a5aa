"""Everything about a transformer embedding but the transformer: inputs, chunks, places of results, parameters.

The network behind :meth:`TransformerBaseEmbeddings._forward_tensors` may be a torch module, an ONNX session or a traced
module.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
from io import BytesIO
from typing import Any, Optional, Union

import numpy as np
import torch

from flair import _runtime
from flair.data.sentence import Sentence
from flair.data.units import Token
from flair.embeddings._transformer import layout
from flair.embeddings._transformer.chunks import CPU_OVERHEAD, CUDA_OVERHEAD, plan_chunks
from flair.embeddings._transformer.inputs import OUTSIDE, SubTokenizer, SubTokens, own_words, pad_rows
from flair.embeddings._transformer.pooling import combine_strided_tensors, pool_documents, pool_tokens
from flair.embeddings._transformer.tokenizer_files import image_processor_from_bytes, pack, tokenizer_from_bytes
from flair.embeddings.base import Embeddings

SENTENCE_BOUNDARY_TAG: str = "[FLERT]"
"""Separates a sentence from its context (Schweter & Akbik 2020, arXiv:2011.06993)."""

SUBTOKEN_POOLINGS = ("first", "last", "first_last", "mean")
DOCUMENT_POOLINGS = ("cls", "max", "mean")
NO_LIMIT = 10**12
"""Tokenizers that know no limit say 1e30."""


class TransformerBaseEmbeddings(Embeddings[Sentence]):
    """Turns sentences into tensors for a transformer and its outputs into embeddings of tokens and documents.

    A subclass implements :meth:`_forward_tensors`.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        embedding_length: int,
        context_length: int,
        context_dropout: float,
        respect_document_boundaries: bool,
        stride: int,
        allow_long_sentences: bool,
        fine_tune: bool,
        truncate: bool,
        use_lang_emb: bool,
        cls_pooling: str,
        is_document_embedding: bool = False,
        is_token_embedding: bool = False,
        force_device: Optional[torch.device] = None,
        force_max_length: bool = False,
        feature_extractor: Any = None,
        needs_manual_ocr: Optional[bool] = None,
        use_context_separator: bool = True,
    ) -> None:
        """See :class:`flair.embeddings.TransformerEmbeddings` for the arguments users choose.

        Args:
            name: the key of the vectors on data points.
            tokenizer: a Hugging Face tokenizer, fast or slow.
            embedding_length: dimensions of one vector.
            context_length: number of tokens of context on each side of a sentence.
            stride: number of sub-tokens that neighbouring windows over a long sentence share, 0 for no windows.
            truncate: cut sentences to the tokenizer's limit.
            use_lang_emb: hand the sentence's language to the model (XLM).
            force_device: where the inputs go, instead of ``flair.device``.
            feature_extractor: the image processor of models that see the page.

        Raises:
            ValueError: without any kind of output, or for an unknown document pooling.
        """
        self.name = name
        super().__init__()
        self.document_embedding = is_document_embedding
        self.token_embedding = is_token_embedding
        if not self.document_embedding and not self.token_embedding:
            raise ValueError(
                f"{type(self).__name__} would have no output: set is_token_embedding=True, "
                f"is_document_embedding=True, or both."
            )
        if cls_pooling not in DOCUMENT_POOLINGS:
            raise ValueError(f"Unknown cls_pooling {cls_pooling!r}. Use one of {', '.join(DOCUMENT_POOLINGS)}.")
        self.tokenizer = tokenizer
        self.embedding_length_internal = embedding_length
        self.context_length = context_length
        self.context_dropout = context_dropout
        self.respect_document_boundaries = respect_document_boundaries
        self.stride = stride
        self.allow_long_sentences = allow_long_sentences
        self.truncate = truncate
        self.use_lang_emb = use_lang_emb
        self.force_device = force_device
        self.fine_tune = fine_tune
        self.force_max_length = force_max_length
        self.feature_extractor = feature_extractor
        self.use_context_separator = use_context_separator
        self.cls_pooling = cls_pooling
        self.subtoken_pooling: str = "first"
        self.tokenizer_needs_ocr_boxes = layout.tokenizer_needs_boxes(tokenizer)
        self.needs_manual_ocr = self.tokenizer_needs_ocr_boxes if needs_manual_ocr is None else needs_manual_ocr
        self.static_embeddings = not fine_tune
        self._sub_tokenizer = SubTokenizer(tokenizer)
        self.initial_cls_token: bool = self._has_initial_cls_token()
        if is_document_embedding and allow_long_sentences and cls_pooling == "cls":
            _runtime.logger.warning(
                "Document embeddings of long sentences by cls_pooling='cls' see the first window only (the last, for "
                "models that close with the summary token). Use cls_pooling='mean' or 'max' to use all of the text."
            )
        os.environ["TOKENIZERS_PARALLELISM"] = "false"

    def _has_initial_cls_token(self) -> bool:
        """Whether the model's summary token opens the sequence (BERT) rather than closing it (T5, GPT-2, XLNet)."""
        prefix, cls_id = self._sub_tokenizer.prefix, self.tokenizer.cls_token_id
        return bool(prefix) and cls_id is not None and prefix[0] == cls_id

    @property
    def embedding_length(self) -> int:
        return self.embedding_length_internal

    @property
    def embedding_type(self) -> str:
        return "word-level" if self.token_embedding else "sentence-level"

    # -- the tensor roads ---------------------------------------------------------------------------------------------

    def _forward_tensors(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Run the network on what :meth:`prepare_tensors` gives.

        Returns:
            "token_embeddings" ``[sentences, tokens, length]`` and "document_embeddings"
            ``[sentences, length]``, as set.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define _forward_tensors.")

    def prepare_tensors(
        self, sentences: list[Sentence], device: Optional[torch.device] = None
    ) -> dict[str, torch.Tensor]:
        """All inputs of :meth:`_forward_tensors` for these sentences, padded to the longest row.

        Rows are sentences, or windows of long sentences (then "overflow_to_sample_mapping" says whose).
        """
        self._make_neighbours(sentences)
        return self._tensors(sentences, self._sub_tokens(sentences), device or self._input_device())

    def encode_documents(self, sentences: list[Sentence]) -> torch.Tensor:
        if not self.document_embedding:
            return super().encode_documents(sentences)
        return self._encode(sentences)["document_embeddings"]

    def encode_tokens(self, sentences: list[Sentence]) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.token_embedding:
            return super().encode_tokens(sentences)
        tokens = self._encode(sentences)["token_embeddings"]
        lengths = torch.tensor([len(sentence) for sentence in sentences], dtype=torch.long, device=tokens.device)
        return tokens, lengths

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> None:
        sentences = [sentence for sentence in sentences if len(sentence) > 0]
        if not sentences:
            return
        vectors = self._encode(sentences)
        if self.document_embedding:
            for sentence, vector in zip(sentences, vectors["document_embeddings"].unbind(), strict=True):
                sentence.set_embedding(self.name, vector)
        if self.token_embedding:
            for sentence, rows in zip(sentences, vectors["token_embeddings"].unbind(), strict=True):
                for token, vector in zip(sentence, rows.unbind(), strict=False):
                    token.set_embedding(self.name, vector)

    def _everything_embedded(self, data_points: Any) -> bool:
        """Empty sentences never carry vectors and are left out of the question."""
        for sentence in data_points:
            if len(sentence) == 0:
                continue
            if self.document_embedding and self.name not in sentence._embeddings:
                return False
            if self.token_embedding and any(self.name not in token._embeddings for token in sentence):
                return False
        return True

    def _encode(self, sentences: list[Sentence]) -> dict[str, torch.Tensor]:
        """The outputs for a batch, computed in chunks of similar length and put back in order."""
        self._make_neighbours(sentences)
        device = self._input_device()
        filled = [index for index, sentence in enumerate(sentences) if len(sentence) > 0]
        present = sentences if len(filled) == len(sentences) else [sentences[index] for index in filled]
        if not present:
            return self._place([], [], sentences, device)
        encoded = self._sub_tokens(present)
        trainable = self.fine_tune and self.training
        with contextlib.nullcontext() if trainable else torch.no_grad():
            chunks = self._chunks(encoded, device)
            outputs = []
            for chunk in chunks:
                members = [present[index] for index in chunk]
                tensors = self._tensors(members, [encoded[index] for index in chunk], device, optional_mask=True)
                outputs.append(self._forward_tensors(tensors))
            places = [[filled[index] for index in chunk] for chunk in chunks]
            return self._place(outputs, places, sentences, device)

    def _chunks(self, encoded: list[SubTokens], device: torch.device) -> list[list[int]]:
        if self.force_max_length or self._packs():
            return [list(range(len(encoded)))]
        overhead = CPU_OVERHEAD if device.type == "cpu" else CUDA_OVERHEAD
        return plan_chunks([s.longest for s in encoded], [len(s.rows) for s in encoded], overhead)

    def _place(
        self,
        outputs: list[dict[str, torch.Tensor]],
        places: list[list[int]],
        sentences: list[Sentence],
        device: torch.device,
    ) -> dict[str, torch.Tensor]:
        """Join the chunks' outputs in the order of the sentences; sentences without outputs get zeros."""
        joined: dict[str, torch.Tensor] = {}
        order = [place for chunk in places for place in chunk]
        complete = len(order) == len(sentences)
        if self.document_embedding:
            size = outputs[0]["document_embeddings"].shape[1] if outputs else self.embedding_length
            documents = [output["document_embeddings"] for output in outputs]
            joined["document_embeddings"] = self._reorder(documents, order, len(sentences), (size,), device, complete)
        if self.token_embedding:
            longest = max((len(sentence) for sentence in sentences), default=0)
            size = outputs[0]["token_embeddings"].shape[2] if outputs else self.embedding_length
            tokens = [
                torch.nn.functional.pad(vectors, (0, 0, 0, longest - vectors.shape[1]))
                for vectors in (output["token_embeddings"] for output in outputs)
            ]
            joined["token_embeddings"] = self._reorder(tokens, order, len(sentences), (longest, size), device, complete)
        return joined

    def _reorder(
        self,
        parts: list[torch.Tensor],
        order: list[int],
        count: int,
        shape: tuple[int, ...],
        device: torch.device,
        complete: bool,
    ) -> torch.Tensor:
        if not parts:
            return torch.zeros(count, *shape, device=device, dtype=self.dtype)
        if not complete:  # a row of zeros for every sentence without words
            missing = sorted(set(range(count)) - set(order))
            parts = [*parts, parts[0].new_zeros(len(missing), *shape)]
            order = [*order, *missing]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        if order == list(range(count)):
            return whole
        inverse = torch.from_numpy(np.argsort(np.asarray(order), kind="stable"))
        return whole.index_select(0, inverse.to(whole.device))

    def _input_device(self) -> torch.device:
        return self.force_device or _runtime.device

    def _pool_states(
        self,
        hidden_states: torch.Tensor,
        word_ids: Optional[torch.Tensor],
        token_lengths: Optional[torch.Tensor],
        sub_token_lengths: Optional[torch.Tensor],
        windows: Optional[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """From ``[rows, positions, hidden]`` to the outputs of :meth:`_forward_tensors`; windows are stitched first."""
        if windows is not None and self.stride > 0 and meet_again(windows):
            half, limit = self.stride // 2, self._max_length() or hidden_states.shape[1]
            hidden_states = combine_strided_tensors(hidden_states, windows, half, limit, 0)
            if word_ids is not None:
                word_ids = combine_strided_tensors(word_ids, windows, half, limit, OUTSIDE)
        result: dict[str, torch.Tensor] = {}
        if self.document_embedding:
            result["document_embeddings"] = pool_documents(
                hidden_states, sub_token_lengths, self.cls_pooling, self.initial_cls_token
            )
        if self.token_embedding:
            assert word_ids is not None
            assert token_lengths is not None
            result["token_embeddings"] = pool_tokens(hidden_states, word_ids, token_lengths, self.subtoken_pooling)
        return result

    # -- inputs -------------------------------------------------------------------------------------------------------

    def _make_neighbours(self, sentences: list[Sentence]) -> None:
        """Sentences that know of no neighbours are each other's context, in the order given, from now on."""
        if self.context_length > 0:
            Sentence.set_context_for_sentences(sentences)

    def _context_of(self, sentence: Sentence) -> tuple[list[Token], list[Token]]:
        """The tokens before and after a sentence that the model may look at."""
        if self.context_length <= 0 or (self.training and random.random() < self.context_dropout):
            return [], []
        left = sentence.left_context(self.context_length, self.respect_document_boundaries)
        return left, sentence.right_context(self.context_length, self.respect_document_boundaries)

    def _expand_sentence_with_context(self, sentence: Sentence) -> tuple[list[Token], int]:
        """The sentence's tokens amid those of its context, and the index of its own first token."""
        left, right = self._context_of(sentence)
        if self.context_length > 0 and self.use_context_separator:
            left, right = [*left, Token(SENTENCE_BOUNDARY_TAG)], [Token(SENTENCE_BOUNDARY_TAG), *right]
        return [*left, *sentence.tokens, *right], len(left)

    def _texts(
        self, sentences: list[Sentence], contexts: list[tuple[list[Token], list[Token]]]
    ) -> tuple[list[list[str]], list[int]]:
        if not contexts:
            return [sentence._token_texts() for sentence in sentences], [0] * len(sentences)
        separator = [SENTENCE_BOUNDARY_TAG] * self._separators()
        texts, offsets = [], []
        for sentence, (left, right) in zip(sentences, contexts, strict=True):
            own = sentence._token_texts()
            offsets.append(len(left) + len(separator))
            texts.append([*(t.text for t in left), *separator, *own, *separator, *(t.text for t in right)])
        return texts, offsets

    def _separators(self) -> int:
        """How many tokens are between a sentence and its context."""
        return int(self.context_length > 0 and self.use_context_separator)

    def _reads_pages(self) -> bool:
        return self.tokenizer_needs_ocr_boxes or bool(self.needs_manual_ocr) or self.feature_extractor is not None

    def _boxes(self, sentence: Sentence, context: tuple[list[Token], list[Token]]) -> np.ndarray:
        """The places of all words of a text, ``[words, 4]``."""
        rules = layout.BoxRules.of(getattr(getattr(self, "model", None), "config", None))
        return layout.boxes_in_context(sentence, context, self._separators(), rules)

    def _max_length(self) -> int | None:
        """Positions of the longest row that the model takes, None without limit."""
        limit = self.tokenizer.model_max_length
        return int(limit) if limit is not None and limit < NO_LIMIT else None

    def _sub_tokens(self, sentences: list[Sentence]) -> list[SubTokens]:
        """Tokenise a batch; rows are cut or split where the model's limit asks for it."""
        contexts = [self._context_of(sentence) for sentence in sentences] if self.context_length > 0 else []
        texts, offsets = self._texts(sentences, contexts)
        with_boxes = self._reads_pages()
        limit = self._max_length() if self.truncate else None
        languages = self._languages(sentences)
        encoded = []
        for index, (ids, places) in enumerate(self._sub_tokenizer(texts, self.token_embedding or with_boxes)):
            count = len(sentences[index])
            rows, row_places = [ids], [] if places is None else [places]
            if limit is not None and len(ids) > limit:
                rows, row_places = self._sub_tokenizer.windows(ids, places, limit, self.stride)
            word_ids = [own_words(words, offsets[index], count) for words in row_places]
            # neighbouring windows share the stride, and give up a special token each where they are stitched together
            total = sum(map(len, rows)) - (len(rows) - 1) * (2 * (self.stride // 2) + 2)
            made = SubTokens(rows, word_ids, count, total, languages[index])
            if with_boxes:
                made.places = row_places
                made.boxes = self._boxes(sentences[index], contexts[index] if contexts else ([], []))
            encoded.append(made)
        return encoded

    def _languages(self, sentences: list[Sentence]) -> list[int]:
        if not self.use_lang_emb:
            return [0] * len(sentences)
        known: dict[str, int] = getattr(self.tokenizer, "lang2id", None) or {}
        return [known.get(sentence.get_language_code(), 0) for sentence in sentences]

    def _needs_sub_token_lengths(self) -> bool:
        return self.document_embedding and not (self.cls_pooling == "cls" and self.initial_cls_token)

    def _tensors(
        self,
        sentences: list[Sentence],
        encoded: list[SubTokens],
        device: torch.device,
        optional_mask: bool = False,
    ) -> dict[str, torch.Tensor]:
        """Padded tensors for tokenised sentences; ``optional_mask`` leaves out a mask that would hide nothing."""
        rows = [row for sub_tokens in encoded for row in sub_tokens.rows]
        lengths = [len(row) for row in rows]
        longest = max(lengths)
        limit = self._max_length()
        if self.force_max_length and limit is not None:
            longest = max(longest, limit)
        pad_id = self.tokenizer.pad_token_id
        tensors = {"input_ids": pad_rows(rows, longest, 0 if pad_id is None else pad_id)}
        if not (optional_mask and self._mask_is_optional() and min(lengths) == longest):
            positions = torch.arange(longest)
            tensors["attention_mask"] = (positions < torch.tensor(lengths).unsqueeze(1)).long()
        if self.stride > 0:
            mapping = [index for index, sub_tokens in enumerate(encoded) for _ in sub_tokens.rows]
            tensors["overflow_to_sample_mapping"] = torch.tensor(mapping)
        if self._needs_sub_token_lengths():
            tensors["sub_token_lengths"] = torch.tensor([sub_tokens.sub_token_count for sub_tokens in encoded])
        if self.token_embedding:
            tensors["token_lengths"] = torch.tensor([sub_tokens.token_count for sub_tokens in encoded])
            words = [word_ids for sub_tokens in encoded for word_ids in sub_tokens.word_ids]
            tensors["word_ids"] = pad_rows(words, longest, OUTSIDE)
        if self.use_lang_emb:
            languages = torch.tensor([sub_tokens.language for sub_tokens in encoded for _ in sub_tokens.rows])
            tensors["langs"] = languages.unsqueeze(1).expand(-1, longest).contiguous()
        if self._reads_pages():
            tensors.update(layout.page_tensors(sentences, encoded, longest, self.tokenizer, self.feature_extractor))
        return {key: value.to(device, non_blocking=True) for key, value in tensors.items()}

    def _packs(self) -> bool:
        """Whether the network runs without padding, so that nothing is won by chunks of similar length."""
        return False

    def _mask_is_optional(self) -> bool:
        """Whether the network takes a missing attention mask for one that hides nothing."""
        return False

    # -- parameters ---------------------------------------------------------------------------------------------------

    def to_args(self) -> dict[str, Any]:
        """The arguments of :class:`TransformerBaseEmbeddings` that give an embedding with the same inputs."""
        return {
            "is_token_embedding": self.token_embedding,
            "is_document_embedding": self.document_embedding,
            "allow_long_sentences": self.allow_long_sentences,
            "tokenizer": self.tokenizer,
            "context_length": self.context_length,
            "context_dropout": self.context_dropout,
            "respect_document_boundaries": self.respect_document_boundaries,
            "truncate": self.truncate,
            "stride": self.stride,
            "embedding_length": self.embedding_length_internal,
            "name": self.name,
            "fine_tune": self.fine_tune,
            "use_lang_emb": self.use_lang_emb,
            "force_max_length": self.force_max_length,
            "feature_extractor": self.feature_extractor,
            "use_context_separator": self.use_context_separator,
            "cls_pooling": self.cls_pooling,
            "needs_manual_ocr": self.needs_manual_ocr,
        }

    def to_params(self) -> dict[str, Any]:
        params = self.to_args()
        tokenizer, feature_extractor = params.pop("tokenizer"), params.pop("feature_extractor")
        params["tokenizer_data"] = pack(tokenizer)
        if feature_extractor is not None:
            params["feature_extractor_data"] = pack(feature_extractor)
        return params

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> TransformerBaseEmbeddings:
        params = dict(params)
        tokenizer = cls._tokenizer_from_bytes(params.pop("tokenizer_data"))
        feature_extractor = cls._feature_extractor_from_bytes(params.pop("feature_extractor_data", None))
        params.setdefault("cls_pooling", "cls")
        return cls.create_from_state(tokenizer=tokenizer, feature_extractor=feature_extractor, **params)

    @classmethod
    def _tokenizer_from_bytes(cls, zip_data: Union[BytesIO, bytes]) -> Any:
        return tokenizer_from_bytes(zip_data)

    @classmethod
    def _feature_extractor_from_bytes(cls, zip_data: Union[BytesIO, bytes, None]) -> Any:
        return image_processor_from_bytes(zip_data)

    @classmethod
    def create_from_state(cls, **state: Any) -> TransformerBaseEmbeddings:
        """Call the constructor with saved arguments; subclasses drop those that their class fixes."""
        return cls(**state)


def exported_tokenizer(embedding: TransformerBaseEmbeddings) -> Any:
    """The tokenizer for an export, with the limit of the embedding: prompt tuning takes positions away."""
    limit = embedding._max_length()
    if limit == TransformerBaseEmbeddings._max_length(embedding):
        return embedding.tokenizer
    tokenizer = copy.deepcopy(embedding.tokenizer)
    tokenizer.model_max_length = limit
    return tokenizer


def meet_again(windows: torch.Tensor) -> bool:
    """Whether a sentence has more than one row. A traced network must be prepared for it, whatever its example has."""
    return torch.jit.is_tracing() or bool((windows[1:] == windows[:-1]).any())
