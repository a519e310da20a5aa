"""Orders in which training goes through a data set."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, Optional

import torch
from torch.utils.data import Sampler

from flair import _runtime


class FlairSampler(Sampler):
    """A sampler that is given its data set by the trainer."""

    data_source: Any = None
    num_samples: int = 0

    def __init__(self) -> None:
        super().__init__()

    def set_dataset(self, data_source: Any) -> None:
        """Tell the sampler what it samples from."""
        self.data_source = data_source
        self.num_samples = len(data_source)

    def __len__(self) -> int:
        return self.num_samples


class ImbalancedClassificationDatasetSampler(FlairSampler):
    """Draws with replacement, items of rare classes as often as items of frequent ones.

    The first label of an item counts; items without label are not drawn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.indices: list[int] = []
        self.weights = torch.empty(0)

    def set_dataset(self, data_source: Any) -> None:
        """Compute the weights.

        Raises:
            ValueError: no item has a label.
        """
        super().set_dataset(data_source)
        self.indices = list(range(len(data_source)))
        counts: Counter[str] = Counter()
        firsts: list[Optional[str]] = []
        for item in _each(data_source):
            values = [label.value for label in item.labels]
            counts.update(values)
            firsts.append(values[0] if values else None)
        self.weights = torch.tensor([0.0 if value is None else 1 / counts[value] for value in firsts])
        unlabelled = firsts.count(None)
        if unlabelled == len(firsts):
            raise ValueError("ImbalancedClassificationDatasetSampler needs labelled items, and none has a label.")
        if unlabelled:
            _runtime.logger.warning(
                f"{unlabelled} of {len(firsts)} items have no label: "
                "ImbalancedClassificationDatasetSampler never draws them."
            )

    def __iter__(self) -> Iterator[int]:
        drawn = torch.multinomial(self.weights.double(), self.num_samples, replacement=True)
        return iter([self.indices[int(i)] for i in drawn])


def _each(data_source: Any) -> Iterator[Any]:
    return (data_source[index] for index in range(len(data_source)))


def _shuffled_blocks(count: int, block_size: int) -> list[int]:
    """Indices in blocks of neighbours: the blocks in random order, each in the order of the data."""
    indices = list(range(count))
    blocks = [indices[start : start + block_size] for start in range(0, count, block_size)]
    random.shuffle(blocks)
    return [index for block in blocks for index in block]


class ChunkSampler(FlairSampler):
    """Shuffles blocks of neighbouring items and keeps the order inside each block, as context needs it."""

    def __init__(self, block_size: int = 5, plus_window: int = 5) -> None:
        """Choose the block size: ``block_size`` plus a random number up to ``plus_window``, drawn for each epoch."""
        super().__init__()
        self.block_size = block_size
        self.plus_window = plus_window

    def __iter__(self) -> Iterator[int]:
        size = self.block_size + random.randint(0, self.plus_window)
        _runtime.logger.info(f"Chunk sampling with blocksize = {size} ({self.block_size} + {self.plus_window})")
        return iter(_shuffled_blocks(self.num_samples, size))


class ExpandingChunkSampler(FlairSampler):
    """Like :class:`ChunkSampler`, with blocks of one item that grow by one after every ``step`` epochs."""

    def __init__(self, step: int = 3) -> None:
        super().__init__()
        self.block_size = 1
        self.epoch_count = 0
        self.step = step

    def __iter__(self) -> Iterator[int]:
        self.epoch_count += 1
        _runtime.logger.info(f"Chunk sampling with blocksize = {self.block_size}")
        indices = _shuffled_blocks(self.num_samples, self.block_size)
        if self.epoch_count % self.step == 0:
            self.block_size += 1
        return iter(indices)
