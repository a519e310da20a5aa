"""The corpus of the demo: everyday requests, written by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flair.datasets import ClassificationCorpus

FOLDER = Path(__file__).resolve().parent.parent / "resources" / "tasks" / "everyday_requests"
CLASSES = {"cooking", "health", "home_repair", "money", "pets", "travel"}
SPLITS = ("train", "dev", "test")


def rows(split: str) -> list[tuple[str, str]]:
    """Label and text of each line."""
    lines = (FOLDER / f"{split}.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines]
    return [(label.removeprefix("__label__"), text) for label, text in pairs]


@pytest.mark.parametrize("split", SPLITS)
def test_classes_are_balanced(split: str) -> None:
    counts = Counter(label for label, _ in rows(split))
    assert set(counts) == CLASSES
    assert max(counts.values()) - min(counts.values()) <= 1


def test_sizes() -> None:
    sizes = {split: len(rows(split)) for split in SPLITS}
    assert sum(sizes.values()) >= 660
    assert sizes["train"] / sum(sizes.values()) == pytest.approx(0.65, abs=0.02)
    assert sizes["test"] / sum(sizes.values()) == pytest.approx(0.20, abs=0.02)


def test_no_sentence_occurs_twice() -> None:
    texts = Counter(" ".join(text.lower().split()) for split in SPLITS for _, text in rows(split))
    assert [text for text, count in texts.items() if count > 1] == []


def test_sentences_are_not_made_from_templates() -> None:
    """Sentences with swapped words would share their first five words."""
    starts = Counter(tuple(text.lower().split()[:5]) for split in SPLITS for _, text in rows(split))
    assert max(starts.values()) <= 3


def test_lengths_vary() -> None:
    lengths = [len(text.split()) for split in SPLITS for _, text in rows(split)]
    assert min(lengths) <= 4
    assert max(lengths) >= 25
    assert len(set(lengths)) >= 20


def test_the_reader_reads_all_of_it() -> None:
    corpus = ClassificationCorpus(FOLDER, label_type="topic")
    for split, dataset in zip(SPLITS, (corpus.train, corpus.dev, corpus.test)):
        assert dataset is not None
        read = [(sentence.get_label("topic").value, sentence.to_original_text()) for sentence in dataset]
        assert sorted(read) == sorted(rows(split))
