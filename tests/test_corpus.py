"""Corpora: sampled splits, label dictionaries, statistics, noise, several corpora as one, and the loader."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import SequentialSampler, Subset

from flair.data import (
    ConcatFlairDataset,
    Corpus,
    DataPair,
    MultiCorpus,
    Relation,
    Sentence,
    randomly_split_into_two_datasets,
)
from flair.datasets import DataLoader, FlairDatapointDataset, SentenceDataset, StringDataset


def numbered(count: int, label: str = "A") -> list[Sentence]:
    """Sentences "n0", "n1" ... with one label of type "topic"."""
    sentences = [Sentence(f"n{i}") for i in range(count)]
    for sentence in sentences:
        sentence.add_label("topic", label)
    return sentences


def labelled(values: str, label_type: str = "topic") -> list[Sentence]:
    """One sentence for each character, which is its label."""
    sentences = [Sentence("some text") for _ in values]
    for sentence, value in zip(sentences, values):
        sentence.add_label(label_type, value)
    return sentences


def tagged() -> list[Sentence]:
    """Two sentences with token labels "pos" and spans "ner"."""
    first, second = Sentence("George Washington went"), Sentence("He saw Berlin")
    for token, tag in zip([*first, *second], ["NNP", "NNP", "VBD", "PRP", "VBD", "NNP"]):
        token.add_label("pos", tag)
    first[0:2].add_label("ner", "PER")
    second[2:3].add_label("ner", "LOC")
    return [first, second]


def whole(data: list[Any]) -> Corpus:
    """A corpus that has only training data."""
    return Corpus(FlairDatapointDataset(data), sample_missing_splits=False)


def numbers(corpus: Corpus) -> list[list[int] | None]:
    """Which of the numbered sentences are in train, dev and test."""
    return [
        None if split is None else [int(split[i].text[1:]) for i in range(len(split))]
        for split in (corpus.train, corpus.dev, corpus.test)
    ]


# --- splitting ---

# What release 0.15.1 draws: (items, size of the first part, seed) -> first part.
DRAWN = {(10, 1, 42): [7], (25, 2, 0): [0, 14], (7, 1, 123456): [3]}


@pytest.mark.parametrize("case", DRAWN)
def test_a_seed_draws_what_it_drew_in_the_release(case: tuple[int, int, int]) -> None:
    count, size, seed = case
    first, second = randomly_split_into_two_datasets(list(range(count)), size, random_seed=seed)
    assert list(first.indices) == DRAWN[case]
    assert list(second.indices) == [i for i in range(count) if i not in DRAWN[case]]


@settings(deadline=None)
@given(count=st.integers(0, 60), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_a_split_keeps_every_item_once_and_in_order(count: int, share: float, seed: int) -> None:
    size = round(count * share)
    first, second = (list(part.indices) for part in randomly_split_into_two_datasets(list(range(count)), size, seed))
    assert len(first) == size
    assert first == sorted(first)
    assert second == sorted(second)
    assert sorted(first + second) == list(range(count))


@pytest.mark.parametrize(
    ("missing", "dev", "test"),
    [
        (True, [4, 16], [13, 18]),
        ("only_dev", [13, 18], None),
        ("only_test", None, [13, 18]),
        (False, None, None),
    ],
)
def test_missing_splits_are_sampled(missing: bool | str, dev: list[int] | None, test: list[int] | None) -> None:
    corpus = Corpus(FlairDatapointDataset(numbered(23)), random_seed=11, sample_missing_splits=missing)
    gone = {*(dev or ()), *(test or ())}
    assert numbers(corpus) == [[i for i in range(23) if i not in gone], dev, test]


@pytest.mark.parametrize(("count", "sizes"), [(5, (5, 0, 0)), (15, (12, 1, 2)), (16, (13, 1, 2)), (205, (167, 18, 20))])
def test_sizes_of_sampled_splits_are_rounded(count: int, sizes: tuple[int, int, int]) -> None:
    corpus = Corpus(FlairDatapointDataset(numbered(count)))
    assert tuple(len(split or ()) for split in (corpus.train, corpus.dev, corpus.test)) == sizes
    assert str(corpus) == "Corpus: {} train + {} dev + {} test sentences".format(*sizes)


def test_an_empty_train_split_is_not_sampled_from() -> None:
    corpus = Corpus(FlairDatapointDataset([]), test=FlairDatapointDataset(numbered(3)))
    assert numbers(corpus) == [[], None, [0, 1, 2]]


@pytest.mark.parametrize("splits", [{}, {"train": [], "dev": [], "test": []}])
def test_a_corpus_without_data_is_an_error(splits: dict[str, list[Sentence]]) -> None:
    with pytest.raises(RuntimeError, match="No data provided when initializing corpus object 'nothing'"):
        Corpus(**splits, name="nothing")


def test_downsampling() -> None:
    corpus = Corpus(FlairDatapointDataset(numbered(60)), random_seed=1)
    before = numbers(corpus)
    assert corpus.downsample(0.5, downsample_test=False, random_seed=9) is corpus
    train, dev, test = numbers(corpus)
    assert [len(train or ()), len(dev or ())] == [24, 2]
    assert set(train or ()) < set(before[0] or ())
    assert train == sorted(train or ())
    assert test == before[2]
    again = Corpus(FlairDatapointDataset(numbered(60)), random_seed=1).downsample(0.5, True, True, False, 9)
    assert numbers(again)[0] == train


def test_filters() -> None:
    corpus = whole([Sentence("a long sentence"), Sentence(""), Sentence("short")])
    corpus.filter_empty_sentences()
    assert [sentence.text for sentence in corpus.train] == ["a long sentence", "short"]
    corpus.filter_long_sentences(5)
    assert [sentence.text for sentence in corpus.train] == ["short"]


# --- dictionaries ---


def test_labels_are_ordered_by_frequency_and_ties_by_occurrence() -> None:
    dictionary = whole(labelled("ZAMAZMQ")).make_label_dictionary("topic")
    assert dictionary.get_items() == ["<unk>", "Z", "A", "M", "Q"]
    assert not dictionary.multi_label
    assert not dictionary.span_labels


@settings(deadline=None)
@given(values=st.text("ABCDE", min_size=1, max_size=30), min_count=st.integers(-1, 4))
def test_a_dictionary_has_the_labels_that_are_frequent_enough(values: str, min_count: int) -> None:
    frequent = {value for value, count in Counter(values).items() if count >= min_count}
    corpus = whole(labelled(values))
    if not frequent:
        with pytest.raises(ValueError, match="topic"):
            corpus.make_label_dictionary("topic", min_count=min_count)
        return
    items = corpus.make_label_dictionary("topic", min_count=min_count, add_unk=False).get_items()
    assert (items[0] == "<unk>") == (min_count > 0)
    items = [item for item in items if item != "<unk>"]
    assert set(items) == frequent
    counts = [values.count(item) for item in items]
    assert counts == sorted(counts, reverse=True)


def test_what_a_dictionary_says_about_its_labels() -> None:
    spans = whole(tagged()).make_label_dictionary("ner", add_unk=False, min_count=0)
    assert spans.get_items() == ["PER", "LOC"]
    assert spans.span_labels
    tokens = whole(tagged()).make_label_dictionary("pos")
    assert tokens.get_items() == ["<unk>", "NNP", "VBD", "PRP"]
    assert tokens.multi_label
    assert not tokens.span_labels
    several = Sentence("two labels").add_label("topic", "A").add_label("topic", "B")
    assert whole([several]).make_label_dictionary("topic").multi_label


def test_unlabelled_tokens_count_as_o() -> None:
    sentence = Sentence("a b c d")
    sentence[1].add_label("hit", "X")
    assert whole([sentence]).make_label_dictionary("hit").get_items() == ["<unk>", "O", "X"]


def test_labels_of_pairs_and_relations() -> None:
    pair = DataPair(Sentence("a"), Sentence("b"))
    pair.add_label("entailment", "yes")
    assert whole([pair]).make_label_dictionary("entailment").get_items() == ["<unk>", "yes"]
    sentence = Sentence("a b c")
    Relation(sentence[0:1], sentence[2:3]).add_label("relation", "R")
    assert whole([sentence]).make_label_dictionary("relation").get_items() == ["<unk>", "R"]


def test_dictionary_of_all_splits() -> None:
    corpus = Corpus(labelled("AAB"), labelled("C"), labelled("CCD"))
    assert corpus.make_label_dictionary("topic").get_items() == ["<unk>", "A", "B"]
    assert corpus.make_label_dictionary("topic", add_dev_test=True).get_items() == ["<unk>", "C", "A", "B", "D"]


def test_unknown_label_types_are_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"\(topik\).*\n'pos' \(in 2 sentences\), 'ner' \(in 2 sentences\)"):
        whole(tagged()).make_label_dictionary("topik")
    with pytest.raises(ValueError, match="min_count=5"):
        whole(labelled("AB")).make_label_dictionary("topic", min_count=5)
    with pytest.raises(ValueError, match=r"no training data.*add_dev_test"):
        Corpus(test=labelled("AB")).make_label_dictionary("topic")


@pytest.mark.parametrize(
    ("max_tokens", "min_freq", "expected"),
    [(-1, 1, ["b", "a", "c"]), (2, 1, ["b", "a"]), (-1, 2, ["b", "a"]), (0, 1, []), (1, -1, ["b"])],
)
def test_vocabulary(max_tokens: int, min_freq: int, expected: list[str]) -> None:
    corpus = whole([Sentence("a b b"), Sentence("c b a")])
    assert corpus.make_vocab_dictionary(max_tokens, min_freq).get_items() == ["<unk>", *expected]


def test_former_tag_dictionary() -> None:
    items = whole(tagged()).make_tag_dictionary("pos").get_items()
    assert items == ["O", "NNP", "VBD", "PRP", "<START>", "<STOP>"]


# --- statistics ---


def test_statistics() -> None:
    corpus = Corpus(tagged(), dev=labelled("AAB"), sample_missing_splits=False)
    text = corpus.obtain_statistics("pos")
    assert isinstance(text, str)
    assert text.startswith('{\n    "TRAIN": {\n        "dataset": "TRAIN",')
    statistics = json.loads(text)
    assert list(statistics) == ["TRAIN", "TEST", "DEV"]
    assert statistics == corpus.obtain_statistics("pos", pretty_print=False)
    assert statistics["TEST"] == {}
    assert statistics["TRAIN"] == {
        "dataset": "TRAIN",
        "total_number_of_documents": 2,
        "number_of_documents_per_class": {"NNP": 3, "VBD": 2, "PER": 1, "PRP": 1, "LOC": 1},
        "number_of_tokens_per_tag": {"NNP": 3, "VBD": 2, "PRP": 1},
        "number_of_tokens": {"total": 6, "min": 3, "max": 3, "avg": 3.0},
    }
    assert corpus.get_label_distribution() == {"NNP": 3, "VBD": 2, "PER": 1, "PRP": 1, "LOC": 1}


def test_all_sentences() -> None:
    corpus = Corpus(numbered(3), test=numbered(2), sample_missing_splits=False)
    assert [sentence.text for sentence in corpus.get_all_sentences()] == ["n0", "n1", "n2", "n0", "n1"]


# --- noise ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_share": -0.1}, "noise_share must be between 0 and 1"),
        ({"noise_share": 1.1}, "noise_share must be between 0 and 1"),
        ({"split": "training"}, "split must be either train, dev or test"),
        ({"split": "dev"}, "no dev split"),
        ({"noise_transition_matrix": {"A": [0.5, 0.5]}}, "'B'"),
        ({"noise_transition_matrix": {"A": [0.5, 0.5], "B": [1.0]}}, "'B'"),
    ],
)
def test_bad_noise(options: dict[str, Any], message: str) -> None:
    corpus = whole(labelled("AABB"))
    with pytest.raises(ValueError, match=message):
        corpus.add_label_noise("topic", ["A", "B"], **options)
    assert not any(sentence.has_label("topic_clean") for sentence in corpus.train)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (1.0, 600, 600), (0.3, 130, 230)])
def test_noise_changes_a_share_of_the_labels(share: float, least: int, most: int) -> None:
    corpus = whole(labelled("ABC" * 200))
    corpus.add_label_noise("topic", ["A", "B", "C"], noise_share=share)
    values = [(s.get_label("topic").value, s.get_label("topic_clean").value) for s in corpus.train]
    assert "".join(clean for _, clean in values) == "ABC" * 200
    assert least <= sum(noisy != clean for noisy, clean in values) <= most
    assert {noisy for noisy, _ in values} == set("ABC")


def test_noise_from_a_transition_matrix() -> None:
    corpus = whole(labelled("ABCABC"))
    matrix = {"A": [0.0, 1.0, 0.0], "B": [0.0, 0.0, 1.0], "C": [1.0, 0.0, 0.0]}
    corpus.add_label_noise("topic", ["A", "B", "C"], noise_transition_matrix=matrix)
    assert "".join(sentence.get_label("topic").value for sentence in corpus.train) == "BCABCA"


class MadeOnAccess(StringDataset):
    """A data set that makes labelled sentences anew at each access."""

    def __getitem__(self, index: int = 0) -> Sentence:
        return super().__getitem__(index).add_label("topic", "A")


def test_noise_is_not_lost_where_sentences_are_made_on_access() -> None:
    corpus = Corpus(MadeOnAccess(["a", "b"]), sample_missing_splits=False)
    corpus.add_label_noise("topic", ["A", "B"], noise_share=1.0)
    assert [sentence.get_label("topic").value for sentence in corpus.train] == ["B", "B"]


# --- several corpora ---


def test_items_of_a_multi_corpus_know_their_task() -> None:
    corpus = MultiCorpus([whole(numbered(2)), Corpus(numbered(3), numbered(1), numbered(1), name="second")])
    assert str(corpus) == (
        "MultiCorpus: 5 train + 1 dev + 1 test sentences\n"
        " - Corpus Corpus: 2 train + 0 dev + 0 test sentences - corpus\n"
        " - Corpus Corpus: 3 train + 1 dev + 1 test sentences - second"
    )
    tasks = [corpus.train[i].get_labels("multitask_id") for i in (0, 1, 2, 4, 4)]
    assert [[label.value for label in task] for task in tasks] == [["Task_0"]] * 2 + [["Task_1"]] * 3
    assert corpus.dev[0].get_label("multitask_id").value == "Task_1"


def test_task_ids() -> None:
    parts = [whole(numbered(1)), whole(numbered(1))]
    corpus = MultiCorpus(parts, task_ids=["left", "right"], sample_missing_splits=False)
    assert [corpus.train[i].get_label("multitask_id").value for i in range(2)] == ["left", "right"]
    assert corpus.dev is None
    with pytest.raises(ValueError, match=r"2 corpora .* got 1"):
        MultiCorpus(parts, task_ids=["left"])
    with pytest.raises(RuntimeError, match="No data"):
        MultiCorpus([])


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_concatenation_is_the_data_sets_one_after_the_other(sizes: list[int]) -> None:
    parts = [[Sentence(f"{part}-{item}", use_tokenizer=False) for item in range(n)] for part, n in enumerate(sizes)]
    data = ConcatFlairDataset(parts, [str(part) for part in range(len(sizes))])
    everything = [sentence for part in parts for sentence in part]
    assert len(data) == len(everything)
    assert data.cumulative_sizes == data.cummulative_sizes == [sum(sizes[: i + 1]) for i in range(len(sizes))]
    for index, sentence in enumerate(everything):
        assert data[index] is data[index - len(everything)] is sentence
        assert sentence.get_label("multitask_id").value == sentence.text.split("-")[0]
    for index in (len(everything), -len(everything) - 1):
        with pytest.raises(IndexError):
            data[index]


# --- data sets in memory, and the loader ---


@pytest.mark.parametrize("wrap", [list, FlairDatapointDataset])
def test_the_loader_yields_lists_of_data_points(wrap: Any) -> None:
    sentences = numbered(7)

    def batches(**options: Any) -> list[list[str]]:
        return [[sentence.text for sentence in batch] for batch in DataLoader(wrap(sentences), **options)]

    assert batches() == [[f"n{i}"] for i in range(7)]
    assert batches(batch_size=3) == [["n0", "n1", "n2"], ["n3", "n4", "n5"], ["n6"]]
    assert batches(batch_size=3, drop_last=True) == [["n0", "n1", "n2"], ["n3", "n4", "n5"]]
    assert batches(batch_sampler=[[0, 2], [5]]) == [["n0", "n2"], ["n5"]]
    assert batches(batch_size=7, sampler=SequentialSampler(sentences)) == [[f"n{i}" for i in range(7)]]
    shuffled = batches(batch_size=7, shuffle=True)
    assert sorted(shuffled[0]) == [f"n{i}" for i in range(7)]
    loader = DataLoader(wrap(sentences))
    assert loader.num_workers == 0
    assert next(iter(loader))[0] is sentences[0]


def test_data_sets_in_memory() -> None:
    sentence, pair = Sentence("a"), DataPair(Sentence("a"), Sentence("b"))
    for points, kept in ((sentence, [sentence]), ([sentence, sentence], [sentence] * 2), (pair, [pair])):
        data: FlairDatapointDataset = FlairDatapointDataset(points)
        assert data.datapoints == kept
        assert len(data) == len(kept)
        assert data.is_in_memory()
    assert SentenceDataset(sentence)[0] is sentence
    assert isinstance(Corpus(Subset([sentence], [0]), sample_missing_splits=False).train, Subset)


def test_data_sets_of_strings() -> None:
    data = StringDataset(["a b.", "c"])
    assert len(data) == 2
    assert [token.text for token in data[0]] == ["a", "b."]
    assert [token.text for token in StringDataset("a b.", use_tokenizer=True)[0]] == ["a", "b", "."]
