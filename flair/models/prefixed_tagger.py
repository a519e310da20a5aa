"""Sequence tagging with a prompt: each sentence is put behind a prefix that says what to look for.

The taggers of HunFlair2 (Sänger et al. 2024, arXiv:2402.12372) are of this kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional, Union, cast

import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from flair import _runtime
from flair.data.corpus import Corpus
from flair.data.label import Label
from flair.data.loading import FlairDatapointDataset
from flair.data.sentence import Sentence
from flair.data.units import DataPoint, Relation, Span, Token
from flair.file_utils import hf_download
from flair.models.sequence_tagger_model import SequenceTagger
from flair.nn.model import listed
from flair.training_utils import EmbeddingStorageMode

_PRETRAINED = {"hunflair2": "hunflair/hunflair2-ner", "bioner": "hunflair/hunflair2-ner"}
"""Short name -> repository of the Hugging Face hub."""


class PrefixedSentence(Sentence):
    """A sentence behind a prefix."""


class SentenceAugmentationStrategy(ABC):
    """How sentences get a prefix, and how labels find their way back."""

    @abstractmethod
    def augment_sentence(
        self, sentence: Sentence, annotation_layers: Optional[Union[str, list[str]]] = None
    ) -> PrefixedSentence:
        """A new sentence with the prefix.

        Args:
            sentence: stays as it is.
            annotation_layers: the label types to take over; all of them if not given.
        """

    @abstractmethod
    def apply_predictions(
        self,
        augmented_sentence: Sentence,
        original_sentence: Sentence,
        source_annotation_layer: str,
        target_annotation_layer: str,
    ) -> None:
        """Copy labels of one type back to the sentence without prefix; labels of the prefix are left out.

        Args:
            augmented_sentence: what :meth:`augment_sentence` returned, with predicted labels.
            original_sentence: gets the labels.
            source_annotation_layer: the label type to read.
            target_annotation_layer: the label type to write.
        """

    @abstractmethod
    def _get_state_dict(self) -> dict[str, Any]:
        """The settings, for model files."""

    @classmethod
    def _init_strategy_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> SentenceAugmentationStrategy:
        """Rebuild the strategy from what :meth:`_get_state_dict` returned."""
        return cls(**state, **kwargs)

    def augment_dataset(
        self, dataset: Dataset[Sentence], annotation_layers: Optional[Union[str, list[str]]] = None
    ) -> FlairDatapointDataset[PrefixedSentence]:
        """A data set of the sentences with prefix; arguments as in :meth:`augment_sentence`."""
        indices = tqdm(range(len(dataset)), desc="Adding prefixes", delay=2)  # type: ignore[arg-type]
        return FlairDatapointDataset([self.augment_sentence(dataset[i], annotation_layers) for i in indices])

    def augment_corpus(
        self, corpus: Corpus[Sentence], annotation_layers: Optional[Union[str, list[str]]] = None
    ) -> Corpus[PrefixedSentence]:
        """A corpus of the sentences with prefix; arguments as in :meth:`augment_sentence`."""
        splits: dict[str, Any] = {
            name: None if split is None else self.augment_dataset(split, annotation_layers)
            for name, split in (("train", corpus.train), ("dev", corpus.dev), ("test", corpus.test))
        }
        return Corpus(**splits, name=corpus.name, sample_missing_splits=False)


class EntityTypeTaskPromptAugmentationStrategy(SentenceAugmentationStrategy):
    """The prefix names the entity types to look for: ``[ Tag genes, diseases and species ]``."""

    def __init__(self, entity_types: list[str]) -> None:
        """Choose the types.

        Args:
            entity_types: names of entity types, as they should stand in the prompt.

        Raises:
            AssertionError: an empty list.
        """
        if len(entity_types) == 0:
            raise AssertionError("entity_types is empty. Name at least one type, for example ['diseases'].")
        self.entity_types = list(entity_types)
        self.task_prompt = self._build_task_prompt(self.entity_types)

    @staticmethod
    def _build_task_prompt(entity_types: list[str]) -> list[str]:
        """The tokens of the prompt."""
        *others, last = entity_types
        listed = f"{', '.join(others)} and {last}" if others else last
        return f"[ Tag {listed} ]".split()

    def augment_sentence(
        self, sentence: Sentence, annotation_layers: Optional[Union[str, list[str]]] = None
    ) -> PrefixedSentence:
        augmented = PrefixedSentence([*self.task_prompt, *(token.text for token in sentence)])
        layers = [annotation_layers] if isinstance(annotation_layers, str) else annotation_layers
        for label_type in sentence.annotation_layers if layers is None else layers:
            _copy_labels(sentence, label_type, augmented, label_type, len(self.task_prompt))
        return augmented

    def apply_predictions(
        self,
        augmented_sentence: Sentence,
        original_sentence: Sentence,
        source_annotation_layer: str,
        target_annotation_layer: str,
    ) -> None:
        _copy_labels(
            augmented_sentence,
            source_annotation_layer,
            original_sentence,
            target_annotation_layer,
            -len(self.task_prompt),
        )

    def _get_state_dict(self) -> dict[str, Any]:
        return {"entity_types": self.entity_types}

    @classmethod
    def _init_strategy_with_state_dict(
        cls, state: dict[str, Any], **kwargs: Any
    ) -> EntityTypeTaskPromptAugmentationStrategy:
        return cls(state["entity_types"], **kwargs)


def _copy_labels(source: Sentence, label_type: str, target: Sentence, target_type: str, shift: int) -> None:
    """Copy labels to a sentence whose tokens are moved by ``shift``; those that reach outside of it are left out."""
    for label in source.get_labels(label_type):
        part = _moved(label.data_point, target, shift)
        if part is not None:
            part.add_label(target_type, label.value, label.score, **label.metadata)


def _moved(part: DataPoint, target: Sentence, shift: int) -> Optional[DataPoint]:
    """The part of a sentence that a part of another corresponds to."""
    if isinstance(part, Sentence):
        return target
    if isinstance(part, Relation):
        first, second = _moved(part.first, target, shift), _moved(part.second, target, shift)
        return Relation(first, second) if isinstance(first, Span) and isinstance(second, Span) else None
    tokens = part.tokens if isinstance(part, Span) else [cast(Token, part)]
    start, stop = tokens[0].idx - 1 + shift, tokens[-1].idx + shift
    if start < 0 or stop > len(target):
        return None
    return target[start:stop] if isinstance(part, Span) else target[start]


class PrefixedSequenceTagger(SequenceTagger):
    """A sequence tagger that puts a prefix before each sentence, in training and in prediction.

    Sentences that have one already (:class:`PrefixedSentence`) are taken as they are. Sentences with prefix have no
    context.
    """

    def __init__(
        self, *args: Any, augmentation_strategy: Optional[SentenceAugmentationStrategy], **kwargs: Any
    ) -> None:
        """Build a tagger with fresh weights.

        Args:
            args: as of :class:`SequenceTagger`.
            augmentation_strategy: how sentences get their prefix; may be None, and set later.
            kwargs: as of :class:`SequenceTagger`.
        """
        super().__init__(*args, **kwargs)
        if augmentation_strategy is None:
            _runtime.logger.warning("No augmentation strategy provided. Set model.augmentation_strategy before use.")
        self.augmentation_strategy = augmentation_strategy

    def augment_sentences(
        self, sentences: Union[Sentence, list[Sentence]], annotation_layers: Optional[Union[str, list[str]]] = None
    ) -> list[PrefixedSentence]:
        """The sentences with prefix.

        Args:
            sentences: one or several; those that have a prefix are returned themselves.
            annotation_layers: the label types to take over; all of them if not given.

        Raises:
            ValueError: the tagger has no augmentation strategy.
        """
        if self.augmentation_strategy is None:
            raise ValueError(
                "This tagger has no augmentation strategy. Set one: model.augmentation_strategy = "
                "EntityTypeTaskPromptAugmentationStrategy(['diseases'])."
            )
        strategy = self.augmentation_strategy
        return [
            sentence
            if isinstance(sentence, PrefixedSentence)
            else strategy.augment_sentence(sentence, annotation_layers)
            for sentence in ([sentences] if isinstance(sentences, Sentence) else sentences)
        ]

    def forward_loss(self, sentences: Union[list[Sentence], list[PrefixedSentence]]) -> tuple[torch.Tensor, int]:
        """The summed loss over all tokens, those of the prefixes included, and their number."""
        filled = [sentence for sentence in sentences if len(sentence) > 0]
        return super().forward_loss(cast(list[Sentence], self.augment_sentences(filled, self.label_type)))

    def predict(
        self,
        sentences: Union[list[Sentence], Sentence, list[PrefixedSentence], PrefixedSentence],
        mini_batch_size: int = 32,
        return_probabilities_for_all_classes: bool = False,
        verbose: bool = False,
        label_name: Optional[str] = None,
        return_loss: bool = False,
        embedding_storage_mode: EmbeddingStorageMode = "none",
        force_token_predictions: bool = False,
    ) -> Any:
        """Add predicted labels to sentences; arguments and result as of :meth:`SequenceTagger.predict`.

        Sentences without prefix get those labels that lie outside of the prefix.
        """
        label_name = label_name or self.label_type
        originals = listed(sentences)
        if not all(isinstance(sentence, Sentence) for sentence in originals):
            return super().predict(originals)  # which says what is wrong with them
        usable = self._filter_empty_sentences(originals)
        if not usable:
            return originals
        augmented: list[Any] = [*self.augment_sentences(usable, self.label_type if return_loss else [])]
        outcome = super().predict(
            augmented,
            mini_batch_size=mini_batch_size,
            return_probabilities_for_all_classes=return_probabilities_for_all_classes,
            verbose=verbose,
            label_name=label_name,
            return_loss=return_loss,
            embedding_storage_mode=embedding_storage_mode,
            force_token_predictions=force_token_predictions,
        )
        for sentence, prefixed in zip(usable, augmented, strict=True):
            if sentence is not prefixed:
                self._take_back(prefixed, sentence, label_name)
        return outcome

    def _take_back(self, prefixed: PrefixedSentence, sentence: Sentence, label_name: str) -> None:
        """Move what was predicted for a sentence with prefix to the sentence without."""
        assert self.augmentation_strategy is not None  # it has made the prefix
        sentence.remove_labels(label_name)
        self.augmentation_strategy.apply_predictions(prefixed, sentence, label_name, label_name)
        for token, source in zip(sentence, prefixed.tokens[len(prefixed) - len(sentence) :], strict=True):
            scores = source.get_tags_proba_dist(label_name)
            if scores:
                token.add_tags_proba_dist(label_name, [Label(token, label.value, label.score) for label in scores])
            for name, vector in source._embeddings.items():
                token.set_embedding(name, vector)

    def get_used_tokens(
        self, corpus: Corpus, context_length: int = 0, respect_document_boundaries: bool = True
    ) -> Iterable[list[str]]:
        """The token texts of every sentence of the corpus, with its prefix."""
        yield from super().get_used_tokens(corpus, context_length, respect_document_boundaries)
        data = corpus.get_all_sentences()
        for index in range(len(data)):
            yield [token.text for token in self.augment_sentences(data[index], [])[0]]

    def _get_state_dict(self) -> dict[str, Any]:
        return {**super()._get_state_dict(), "augmentation_strategy": self.augmentation_strategy}

    @classmethod
    def _init_model_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> PrefixedSequenceTagger:
        kwargs.setdefault("augmentation_strategy", state["augmentation_strategy"])
        return cast("PrefixedSequenceTagger", super()._init_model_with_state_dict(state, **kwargs))

    @staticmethod
    def _fetch_model(model_identifier: str) -> str:
        """A local path, a short name, or a repository of the Hugging Face hub (``owner/name[@revision]``)."""
        if model_identifier in _PRETRAINED and not Path(model_identifier).exists():
            return hf_download(_PRETRAINED[model_identifier])
        return SequenceTagger._fetch_model(model_identifier)

    @classmethod
    def load(cls, model_path: Union[str, Path, dict[str, Any]], **options: Any) -> PrefixedSequenceTagger:
        """Rebuild a tagger; see :meth:`flair.nn.Model.load` for the options."""
        return cast("PrefixedSequenceTagger", super().load(model_path=model_path, **options))
