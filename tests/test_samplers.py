"""Samplers: what they draw, and that they work in the loader."""

from __future__ import annotations

import logging
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flair.data import Sentence
from flair.datasets import DataLoader
from flair.samplers import ChunkSampler, ExpandingChunkSampler, FlairSampler, ImbalancedClassificationDatasetSampler

SAMPLERS = (ImbalancedClassificationDatasetSampler, ChunkSampler, ExpandingChunkSampler)


def sentences(*labels: str) -> list[Sentence]:
    """One sentence for each string, whose characters are its labels."""
    made = [Sentence(f"n{i}") for i in range(len(labels))]
    for sentence, values in zip(made, labels):
        for value in values:
            sentence.add_label("topic", value)
    return made


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_classes_and_instances_work_in_the_loader(sampler: type[FlairSampler]) -> None:
    data = sentences(*"AAABB")
    for given_sampler in (sampler, sampler()):
        batches = list(DataLoader(data, batch_size=2, sampler=given_sampler))
        assert [len(batch) for batch in batches] == [2, 2, 1]


def test_rare_classes_are_drawn_as_often_as_frequent_ones() -> None:
    data = sentences(*"A" * 90, *"B" * 10)
    sampler = ImbalancedClassificationDatasetSampler()
    sampler.set_dataset(data)
    assert len(sampler) == 100
    drawn = Counter(data[i].get_label("topic").value for _ in range(20) for i in sampler)
    assert sum(drawn.values()) == 2000
    assert 850 < drawn["A"] < 1150  # expected 1000, standard deviation 22


def test_the_first_label_gives_the_weight(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("flair")
    logger.addHandler(caplog.handler)
    try:
        sampler = ImbalancedClassificationDatasetSampler()
        sampler.set_dataset(sentences("AB", "A", "B", "CA", "A"))
        assert sampler.weights.tolist() == [0.25, 0.25, 0.5, 1.0, 0.25]
        assert not caplog.messages
        sampler.set_dataset(sentences("A", "", "B"))
        assert sampler.weights.tolist() == [1.0, 0.0, 1.0]
        assert caplog.messages == [
            "1 of 3 items have no label: ImbalancedClassificationDatasetSampler never draws them."
        ]
    finally:
        logger.removeHandler(caplog.handler)
    with pytest.raises(ValueError, match="none has a label"):
        sampler.set_dataset(sentences("", ""))


@settings(deadline=None)
@given(count=st.integers(0, 50), block=st.integers(1, 9), window=st.integers(0, 9), seed=st.integers())
def test_chunks_are_whole_and_in_order(count: int, block: int, window: int, seed: int) -> None:
    sampler = ChunkSampler(block, window)
    sampler.set_dataset(range(count))
    random.seed(seed)
    drawn = list(sampler)
    assert sorted(drawn) == list(range(count))
    random.seed(seed)
    size = block + random.randint(0, window)
    for start in range(0, count, size):
        place = drawn.index(start)
        chunk = list(range(start, min(start + size, count)))
        assert drawn[place : place + size][: len(chunk)] == chunk


def test_a_seed_gives_the_chunks_it_gave_in_the_release() -> None:
    sampler = ChunkSampler()
    sampler.set_dataset(range(30))
    random.seed(1)
    assert list(sampler) == [*range(12, 24), *range(6, 12), *range(6), *range(24, 30)]


def test_expanding_chunks_grow_after_every_step_epochs() -> None:
    sampler = ExpandingChunkSampler(step=2)
    sampler.set_dataset(range(12))
    random.seed(0)
    epochs = []
    for _ in range(6):
        epochs.append(list(sampler))
        assert sorted(epochs[-1]) == list(range(12))
    assert epochs[0] == [1, 9, 8, 5, 10, 2, 3, 7, 4, 0, 11, 6]
    assert epochs[2] == [6, 7, 8, 9, 2, 3, 4, 5, 0, 1, 10, 11]
    assert epochs[4] == [0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11]
    assert (sampler.block_size, sampler.epoch_count) == (4, 6)
