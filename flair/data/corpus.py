"""Train, dev and test data that belong together."""

from __future__ import annotations

import bisect
import itertools
import json
import random
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Generic, Optional, TypeVar, Union

import numpy as np
from torch.utils.data import ConcatDataset, Dataset, Subset
from tqdm import tqdm

from flair import _runtime
from flair.data.dictionary import Dictionary
from flair.data.sentence import Sentence
from flair.data.units import Span, Token
from flair.tokenization import Tokenizer

T_co = TypeVar("T_co", covariant=True)

SPLIT_NAMES = ("train", "dev", "test")


def _each(dataset: Any) -> Iterable[Any]:
    """All items of a data set; some classes do not end their iteration by themselves."""
    return (dataset[index] for index in range(len(dataset))) if dataset is not None else ()


def randomly_split_into_two_datasets(
    dataset: Dataset, length_of_first: int, random_seed: Optional[int] = None
) -> tuple[Subset, Subset]:
    """Two disjoint parts of a data set, each in the original order.

    Args:
        dataset: what to split.
        length_of_first: number of items drawn for the first part.
        random_seed: makes the choice reproducible; otherwise Python's global generator decides.
    """
    indices = list(range(len(dataset)))  # type: ignore[arg-type]
    (random.Random(random_seed) if random_seed is not None else random).shuffle(indices)  # type: ignore[attr-defined]
    return Subset(dataset, sorted(indices[:length_of_first])), Subset(dataset, sorted(indices[length_of_first:]))


class FlairDataset(Dataset):
    """A data set that knows whether its data points stay in memory."""

    @abstractmethod
    def is_in_memory(self) -> bool:
        """Whether the data is held in memory, not read from disk on access."""
        raise NotImplementedError


class Corpus(Generic[T_co]):
    """Up to three data sets: train, dev and test."""

    def __init__(
        self,
        train: Optional[Dataset[T_co]] = None,
        dev: Optional[Dataset[T_co]] = None,
        test: Optional[Dataset[T_co]] = None,
        name: str = "corpus",
        sample_missing_splits: Union[bool, str] = True,
        random_seed: Optional[int] = None,
    ) -> None:
        """Put splits together.

        Args:
            train: training data.
            dev: data for model selection.
            test: data for the final score.
            name: shown in the log.
            sample_missing_splits: take a tenth of train for each missing split; "only_dev" and "only_test" limit it.
            random_seed: makes that choice reproducible.

        Raises:
            RuntimeError: no split holds anything.
        """
        self.name = name
        self.tokenizer: Optional[Tokenizer] = None
        if not any(split is not None and len(split) for split in (train, dev, test)):  # type: ignore[arg-type]
            raise RuntimeError(
                f"No data provided when initializing corpus object {name!r}: "
                "train, dev and test are all missing or empty."
            )
        if sample_missing_splits and train is not None and len(train):  # type: ignore[arg-type]
            if test is None and sample_missing_splits != "only_dev":
                train, test = self._sample("test", train, random_seed)
            if dev is None and sample_missing_splits != "only_test":
                train, dev = self._sample("dev", train, random_seed)
        self._train: Optional[Dataset[T_co]] = train
        self._dev: Optional[Dataset[T_co]] = dev
        self._test: Optional[Dataset[T_co]] = test

    @staticmethod
    def _sample(name: str, train: Any, random_seed: Optional[int]) -> tuple[Any, Any]:
        size = round(len(train) / 10)
        _runtime.logger.warning(
            f"No {name} split found. Using 10% (i.e. {size} samples) of the train split as {name} data"
        )
        sampled, rest = randomly_split_into_two_datasets(train, size, random_seed)
        return rest, sampled

    @property
    def train(self) -> Optional[Dataset[T_co]]:
        return self._train

    @property
    def dev(self) -> Optional[Dataset[T_co]]:
        return self._dev

    @property
    def test(self) -> Optional[Dataset[T_co]]:
        return self._test

    def _splits(self) -> list[Any]:
        return [split for split in (self._train, self._dev, self._test) if split is not None]

    @property
    def corpus_tokenizer(self) -> Optional[Tokenizer]:
        """The tokenizer that the data was read with, if all of it was read with one."""
        if self.tokenizer is not None:
            return self.tokenizer
        for split in self._splits():
            base = split
            while isinstance(base, Subset):
                base = base.dataset
            for attribute in ("tokenizer", "use_tokenizer"):
                found = getattr(base, attribute, None)
                if isinstance(found, Tokenizer):
                    return found
        return None

    # --- changing the data ---

    def downsample(
        self,
        percentage: float = 0.1,
        downsample_train: bool = True,
        downsample_dev: bool = True,
        downsample_test: bool = True,
        random_seed: Optional[int] = None,
    ) -> Corpus:
        """Keep a random share of the splits; returns the corpus itself."""
        for name, wanted in zip(SPLIT_NAMES, (downsample_train, downsample_dev, downsample_test), strict=True):
            split = getattr(self, f"_{name}")
            if wanted and split is not None:
                setattr(self, f"_{name}", self._downsample_to_proportion(split, percentage, random_seed))
        return self

    @staticmethod
    def _downsample_to_proportion(dataset: Dataset, proportion: float, random_seed: Optional[int] = None) -> Subset:
        size = round(len(dataset) * proportion)  # type: ignore[arg-type]
        return randomly_split_into_two_datasets(dataset, size, random_seed)[0]

    def filter_empty_sentences(self) -> None:
        """Drop sentences without tokens from all splits."""
        _runtime.logger.info("Filtering empty sentences")
        self._apply_to_splits(self._filter_empty_sentences)

    def filter_long_sentences(self, max_charlength: int) -> None:
        """Drop sentences of more than ``max_charlength`` characters from all splits."""
        _runtime.logger.info("Filtering long sentences")
        self._apply_to_splits(lambda split: self._filter_long_sentences(split, max_charlength))

    def _apply_to_splits(self, change: Any) -> None:
        for name in SPLIT_NAMES:
            split = getattr(self, f"_{name}")
            if split is not None:
                setattr(self, f"_{name}", change(split))
        _runtime.logger.info(self)

    @staticmethod
    def _filter_long_sentences(dataset: Dataset, max_charlength: int) -> Union[Dataset, Subset]:
        kept = [i for i, item in enumerate(_each(dataset)) if len(item.to_plain_string()) <= max_charlength]
        return Subset(dataset, kept)

    @staticmethod
    def _filter_empty_sentences(dataset: Any) -> Dataset:
        return Subset(dataset, [i for i, item in enumerate(_each(dataset)) if len(item) > 0])

    def add_label_noise(
        self,
        label_type: str,
        labels: list[str],
        noise_share: float = 0.2,
        split: str = "train",
        noise_transition_matrix: Optional[dict[str, list[float]]] = None,
    ) -> None:
        """Replace a share of the labels by wrong ones; the right ones stay under ``<label_type>_clean``.

        Args:
            label_type: the labels to disturb.
            labels: the values to choose from.
            noise_share: probability that a label is replaced by another, drawn evenly.
            split: "train", "dev" or "test".
            noise_transition_matrix: per label the probabilities of the value it becomes, in the order of ``labels``;
                used instead of ``noise_share``.

        A split whose items are made anew at each access is read into memory first: the changes would be lost.

        Raises:
            ValueError: a share outside 0..1, an unknown split, a split without data, or a matrix that lacks the row of
                a label or has one of another length than ``labels``.
        """
        if not 0 <= noise_share <= 1:
            raise ValueError(f"noise_share must be between 0 and 1, got {noise_share}.")
        if split not in SPLIT_NAMES:
            raise ValueError(f"split must be either train, dev or test, got {split!r}.")
        dataset = getattr(self, f"_{split}")
        if dataset is None:
            raise ValueError(f"This corpus has no {split} split to add noise to.")
        if len(dataset) and dataset[0] is not dataset[0]:
            dataset = Subset(list(_each(dataset)), range(len(dataset)))  # type: ignore[arg-type]
            setattr(self, f"_{split}", dataset)
        if noise_transition_matrix is not None:
            for value in {label.value for item in _each(dataset) for label in item.get_labels(label_type)}:
                row = noise_transition_matrix.get(value)
                if row is None or len(row) != len(labels):
                    raise ValueError(
                        f"noise_transition_matrix needs {len(labels)} probabilities for {value!r}, "
                        f"one for each of {labels}; it has {row}."
                    )
        corrupted = total = 0
        generator = np.random.default_rng(np.random.randint(2**31))
        for data_point in tqdm(_each(dataset), total=len(dataset), desc="Generating noisy labels", delay=2):
            for label in data_point.get_labels(label_type):
                total += 1
                original = label.value
                label.data_point.add_label(f"{label_type}_clean", original, label.score)
                if noise_transition_matrix is not None:
                    chosen = str(generator.choice(labels, p=noise_transition_matrix[original]))
                elif generator.random() < noise_share:
                    chosen = str(generator.choice([other for other in labels if other != original] or [original]))
                else:
                    chosen = original
                corrupted += chosen != original
                label.set_value(chosen, label.score)
        share = round(corrupted / total * 100, 2) if total else 0.0
        _runtime.logger.info(f"Total labels corrupted: {corrupted}. Resulting noise share: {share}%.")

    # --- dictionaries ---

    def make_vocab_dictionary(self, max_tokens: int = -1, min_freq: int = 1) -> Dictionary:
        """The most frequent tokens of the training data.

        Args:
            max_tokens: at most so many (-1: all).
            min_freq: only those that occur so often.
        """
        dictionary = Dictionary()
        for token in self._get_most_common_tokens(max_tokens, min_freq):
            dictionary.add_item(token)
        return dictionary

    def _get_most_common_tokens(self, max_tokens: int, min_freq: int) -> list[str]:
        counts = Counter(self._get_all_tokens()).most_common()
        frequent = [token for token, count in counts if min_freq == -1 or count >= min_freq]
        return frequent if max_tokens < 0 else frequent[:max_tokens]

    def _get_all_tokens(self) -> list[str]:
        return [token.text for sentence in _each(self._train) for token in sentence]

    def make_label_dictionary(
        self, label_type: str, min_count: int = 1, add_unk: bool = True, add_dev_test: bool = False
    ) -> Dictionary:
        """The values of a label type in the training data, the most frequent first.

        Args:
            label_type: which labels.
            min_count: rarer values are left out (and stand for ``<unk>``, which is then always added).
            add_unk: reserve an index for unknown values.
            add_dev_test: also look at dev and test data.

        Raises:
            ValueError: no value is left (the message lists the label types there are), or no data to look at.
        """
        if min_count > 0 and not add_unk:
            add_unk = True
            _runtime.logger.info("Adding <unk>-token to dictionary since min_count is set.")
        dictionary = Dictionary(add_unk=add_unk)
        datasets = [self._train, self._dev, self._test] if add_dev_test else [self._train]
        filled = [dataset for dataset in datasets if dataset is not None and len(dataset)]  # type: ignore[arg-type]
        if not filled:
            raise ValueError(
                f"{self} has no training data to take labels from. Pass add_dev_test=True to use the other splits."
            )
        data: ConcatDataset = ConcatDataset(filled)
        _runtime.logger.info("Computing label dictionary. Progress:")

        found: Counter[str] = Counter()
        types: Counter[str] = Counter()
        for item in tqdm(_each(data), total=len(data), disable=len(data) < 2000):
            types.update(layer for layer in item.annotation_layers if item.annotation_layers[layer])
            labels = item.get_labels(label_type)
            found.update(label.value for label in labels)
            if len(labels) > 1:  # of a sentence or of its parts: whoever makes a model says what it means
                dictionary.multi_label = True
            if any(isinstance(label.data_point, Span) for label in labels):
                dictionary.span_labels = True
            on_tokens = sum(isinstance(label.data_point, Token) for label in labels)
            if isinstance(item, Sentence) and on_tokens and on_tokens < len(item):
                found["O"] += len(item) - on_tokens

        kept = [(value, count) for value, count in found.most_common() if count >= min_count]
        for value, _ in kept:
            dictionary.add_item(value)
        if not kept:
            listing = ", ".join(f"'{name}' (in {count} sentences)" for name, count in types.most_common())
            reason = f" All {len(found)} of its values occur fewer than min_count={min_count} times." if found else ""
            raise ValueError(
                f"You specified a label type ({label_type}) that is not contained in the corpus:\n"
                f"{listing or 'the corpus has no labels at all'}{reason}"
            )
        counts = ", ".join(f"{value} (seen {count} times)" for value, count in found.most_common())
        _runtime.logger.info(f"Dictionary created for label '{label_type}' with {len(dictionary)} values: {counts}")
        if len(kept) < len(found):
            remaining = sum(count for _, count in kept)
            dropped = found.total() - remaining
            _runtime.logger.info(
                f" - at UNK threshold {min_count}, {dropped} instances are UNK'ed and {remaining} remain"
            )
        return dictionary

    def make_tag_dictionary(self, tag_type: str) -> Dictionary:
        """Former way to get the tags of token labels, with CRF start and stop tags. Use make_label_dictionary."""
        dictionary = Dictionary(add_unk=False)
        dictionary.add_item("O")
        for sentence in _each(self.get_all_sentences()):
            for token in sentence.tokens:
                dictionary.add_item(token.get_label(tag_type).value)
        dictionary.add_item("<START>")
        dictionary.add_item("<STOP>")
        return dictionary

    # --- looking at the data ---

    def obtain_statistics(self, label_type: Optional[str] = None, pretty_print: bool = True) -> Union[dict, str]:
        """Counts of documents, labels and tokens per split: JSON text, or a dict without ``pretty_print``."""
        statistics = {
            name.upper(): self._obtain_statistics_for(getattr(self, f"_{name}"), name.upper(), label_type)
            for name in ("train", "test", "dev")
        }
        return json.dumps(statistics, indent=4) if pretty_print else statistics

    @staticmethod
    def _obtain_statistics_for(dataset: Any, name: str, tag_type: Optional[str]) -> dict:
        if dataset is None or len(dataset) == 0:
            return {}
        sentences = list(_each(dataset))
        tokens = Corpus._get_tokens_per_sentence(sentences)
        return {
            "dataset": name,
            "total_number_of_documents": len(sentences),
            "number_of_documents_per_class": dict(Corpus._count_sentence_labels(sentences)),
            "number_of_tokens_per_tag": dict(Corpus._count_token_labels(sentences, tag_type)),
            "number_of_tokens": {
                "total": sum(tokens),
                "min": min(tokens),
                "max": max(tokens),
                "avg": sum(tokens) / len(sentences),
            },
        }

    @staticmethod
    def _get_tokens_per_sentence(sentences: Iterable[Sentence]) -> list[int]:
        return [len(sentence) for sentence in sentences]

    @staticmethod
    def _count_sentence_labels(sentences: Iterable[Sentence]) -> defaultdict[str, int]:
        counts: defaultdict[str, int] = defaultdict(int)
        for sentence in sentences:
            for label in sentence.labels:
                counts[label.value] += 1
        return counts

    @staticmethod
    def _count_token_labels(sentences: Iterable[Sentence], label_type: Optional[str]) -> defaultdict[str, int]:
        counts: defaultdict[str, int] = defaultdict(int)
        if label_type is None:
            return counts
        for sentence in sentences:
            for label in sentence.get_labels(label_type):
                if isinstance(label.data_point, Token):
                    counts[label.value] += 1
        return counts

    def get_label_distribution(self) -> defaultdict[str, int]:
        """How often each label value occurs in the training data."""
        return self._count_sentence_labels(_each(self._train))

    def get_all_sentences(self) -> ConcatDataset:
        """All splits, one after the other."""
        return ConcatDataset([split for split in self._splits() if len(split)])

    def __str__(self) -> str:
        sizes = [0 if split is None else len(split) for split in (self._train, self._dev, self._test)]  # type: ignore
        return "Corpus: {} train + {} dev + {} test sentences".format(*sizes)


class MultiCorpus(Corpus):
    """Several corpora as one. Every item carries a label ``multitask_id`` that says where it comes from."""

    def __init__(
        self,
        corpora: list[Corpus],
        task_ids: Optional[list[str]] = None,
        name: str = "multicorpus",
        **corpusargs: Any,
    ) -> None:
        """Join corpora.

        Args:
            corpora: the corpora.
            task_ids: one id each; default ``Task_0``, ``Task_1`` ...
            name: shown in the log.
            corpusargs: further arguments of :class:`Corpus`.

        Raises:
            ValueError: not one id for each corpus.
        """
        self.corpora = corpora
        ids = task_ids if task_ids else [f"Task_{i}" for i in range(len(corpora))]
        if len(ids) != len(corpora):
            raise ValueError(f"A MultiCorpus of {len(corpora)} corpora needs as many task_ids, got {len(ids)}: {ids}.")

        def join(split: str) -> Optional[ConcatFlairDataset]:
            present = [(getattr(corpus, split), i) for corpus, i in zip(corpora, ids, strict=True)]
            present = [(dataset, i) for dataset, i in present if dataset is not None and len(dataset)]
            return ConcatFlairDataset([dataset for dataset, _ in present], [i for _, i in present]) if present else None

        super().__init__(join("train"), join("dev"), join("test"), name=name, **corpusargs)

    def __str__(self) -> str:
        parts = [f" - {corpus.__class__.__name__} {corpus} - {corpus.name}" for corpus in self.corpora]
        return "\n".join([f"Multi{super().__str__()}", *parts])


class ConcatFlairDataset(Dataset):
    """Data sets one after the other, each item labelled with the id of its data set."""

    datasets: list[Dataset]
    cumulative_sizes: list[int]

    @staticmethod
    def cumsum(sequence: Sequence[Any]) -> list[int]:
        """Running totals of the lengths."""
        return list(itertools.accumulate(len(item) for item in sequence))

    def __init__(self, datasets: Iterable[Dataset], ids: Iterable[str]) -> None:
        super().__init__()
        self.datasets = list(datasets)
        self.ids = list(ids)
        if not self.datasets:
            raise ValueError("A ConcatFlairDataset needs at least one data set.")
        self.cumulative_sizes = self.cumsum(self.datasets)

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, idx: int) -> Sentence:
        if idx < 0:
            idx += len(self)
        if not 0 <= idx < len(self):
            raise IndexError(f"Index out of range: the data sets have {len(self)} items together.")
        which = bisect.bisect_right(self.cumulative_sizes, idx)
        offset = idx - (self.cumulative_sizes[which - 1] if which else 0)
        item = self.datasets[which][offset]
        item.set_label("multitask_id", self.ids[which])
        return item

    @property
    def cummulative_sizes(self) -> list[int]:
        """Former spelling of ``cumulative_sizes``."""
        return self.cumulative_sizes


for _public in (Corpus, MultiCorpus, FlairDataset, ConcatFlairDataset):
    _public.__module__ = "flair.data"
