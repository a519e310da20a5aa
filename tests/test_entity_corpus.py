"""The corpus of names in everyday sentences, written by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flair.data import get_spans_from_bio
from flair.datasets import ColumnCorpus

FOLDER = Path(__file__).resolve().parent.parent / "resources" / "tasks" / "everyday_entities"
TYPES = ("LOC", "ORG", "PER")
SPLITS = ("train", "dev", "test")
Row = tuple[str, str]


def sentences(split: str) -> list[list[Row]]:
    """Token and tag of each line, by sentence."""
    blocks = (FOLDER / f"{split}.txt").read_text(encoding="utf-8").strip("\n").split("\n\n")
    return [[(word, tag) for word, tag in (line.split(" ") for line in block.split("\n"))] for block in blocks]


def everything() -> list[list[Row]]:
    return [rows for split in SPLITS for rows in sentences(split)]


def test_sizes() -> None:
    sizes = {split: len(sentences(split)) for split in SPLITS}
    assert sizes == {"train": 360, "dev": 50, "test": 100}


@pytest.mark.parametrize("split", SPLITS)
def test_tags_are_valid(split: str) -> None:
    for rows in sentences(split):
        previous = "O"
        for word, tag in rows:
            assert word
            assert word == word.strip()
            assert tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:] in TYPES), (word, tag)
            if tag.startswith("I-"):
                assert previous[2:] == tag[2:], (rows, word)
            previous = tag


@pytest.mark.parametrize("split", SPLITS)
def test_all_types_are_in_all_splits(split: str) -> None:
    counts = Counter(tag[2:] for rows in sentences(split) for _, tag in rows if tag.startswith("B-"))
    assert set(counts) == set(TYPES)
    assert min(counts.values()) >= 15
    assert max(counts.values()) <= 2 * min(counts.values())


def test_some_sentences_have_no_names() -> None:
    share = sum(all(tag == "O" for _, tag in rows) for rows in everything()) / len(everything())
    assert 0.05 < share < 0.2


def test_no_sentence_occurs_twice() -> None:
    texts = Counter(" ".join(word.lower() for word, _ in rows) for rows in everything())
    assert [text for text, count in texts.items() if count > 1] == []


def test_sentences_are_not_made_from_templates() -> None:
    """With names taken out, sentences with swapped names would be the same, or start with the same five words."""
    bare = [tuple(tag if tag != "O" else word.lower() for word, tag in rows) for rows in everything()]
    assert max(Counter(bare).values()) == 1
    assert max(Counter(rows[:5] for rows in bare).values()) <= 3


def test_most_names_occur_once() -> None:
    names: Counter[str] = Counter()
    for rows in everything():
        for places, _, _ in get_spans_from_bio([tag for _, tag in rows]):
            names[" ".join(rows[place][0] for place in places)] += 1
    assert sum(count == 1 for count in names.values()) / len(names) > 0.85
    assert sum(" " in name for name in names) / len(names) > 0.25


def test_lengths_vary() -> None:
    lengths = [len(rows) for rows in everything()]
    assert min(lengths) <= 4
    assert max(lengths) >= 25
    assert len(set(lengths)) >= 20


def test_the_reader_reads_all_of_it() -> None:
    corpus = ColumnCorpus(FOLDER, {0: "text", 1: "ner"})
    for split, dataset in zip(SPLITS, (corpus.train, corpus.dev, corpus.test), strict=True):
        assert dataset is not None
        rows = sentences(split)
        assert len(dataset) == len(rows)  # type: ignore[arg-type]
        for i, expected in enumerate(rows):
            assert [token.text for token in dataset[i]] == [word for word, _ in expected]
            found = [(span[0].idx - 1, span.get_label("ner").value) for span in dataset[i].get_spans("ner")]
            assert found == [(places[0], label) for places, _, label in get_spans_from_bio([t for _, t in expected])]
    assert set(corpus.make_label_dictionary("ner", add_unk=False, min_count=-1).get_items()) == set(TYPES)
