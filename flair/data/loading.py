"""Data sets in memory, and the loader that cuts them into batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Union

import torch.utils.data
from torch.utils.data import Dataset, Sampler

from flair.data.corpus import FlairDataset
from flair.data.sentence import Sentence
from flair.data.units import DT
from flair.tokenization import SpaceTokenizer, Tokenizer


class DataLoader(torch.utils.data.DataLoader):
    """Yields lists of data points. Works in the main process: data points are Python objects."""

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Any = None,
    ) -> None:
        """See torch's class of the same name; ``sampler`` may also be a class that is made without arguments."""
        if isinstance(sampler, type) and issubclass(sampler, Sampler):
            sampler = sampler()  # type: ignore[call-arg]
        if hasattr(sampler, "set_dataset"):
            sampler.set_dataset(dataset)
        super().__init__(
            dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            sampler=sampler,
            batch_sampler=batch_sampler,
            num_workers=0,
            drop_last=drop_last,
            timeout=timeout,
            worker_init_fn=worker_init_fn,
            collate_fn=list,
        )


class FlairDatapointDataset(FlairDataset, Generic[DT]):
    """A data set over a list of data points."""

    def __init__(self, datapoints: Union[DT, list[DT]]) -> None:
        if not isinstance(datapoints, Iterable) or isinstance(datapoints, Sentence):
            datapoints = [datapoints]
        self.datapoints: list[DT] = datapoints if isinstance(datapoints, list) else list(datapoints)

    def is_in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.datapoints)

    def __getitem__(self, index: int = 0) -> DT:
        return self.datapoints[index]


class SentenceDataset(FlairDatapointDataset):
    """The former name of :class:`FlairDatapointDataset`."""

    def __init__(self, sentences: Union[Sentence, list[Sentence]]) -> None:
        super().__init__(sentences)


class StringDataset(FlairDataset):
    """Texts that become sentences when they are accessed."""

    def __init__(self, texts: Union[str, list[str]], use_tokenizer: Union[bool, Tokenizer] = SpaceTokenizer()) -> None:
        self.texts = [texts] if isinstance(texts, str) else list(texts)
        self.use_tokenizer = use_tokenizer

    def is_in_memory(self) -> bool:
        return True  # the texts are; the sentences are made anew

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int = 0) -> Sentence:
        return Sentence(self.texts[index], use_tokenizer=self.use_tokenizer)


def as_dataset(data_points: Any) -> Dataset:
    """A data set as it is; anything else as a list of data points."""
    return data_points if isinstance(data_points, Dataset) else FlairDatapointDataset(data_points)
