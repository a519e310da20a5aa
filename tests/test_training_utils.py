"""Results, metrics, plateau annealing, weights on file, storage of embeddings and labelled sentences."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from flair.data import DataPair, Dictionary, Sentence, Token
from flair.datasets import FlairDatapointDataset
from flair.training_utils import (
    AnnealOnPlateau,
    CharEntity,
    EvaluationMetric,
    MetricRegression,
    Result,
    TokenEntity,
    WeightExtractor,
    add_file_handler,
    convert_labels_to_one_hot,
    create_labeled_sentence_from_entity_offsets,
    create_labeled_sentence_from_tokens,
    identify_dynamic_embeddings,
    init_output_file,
    log_line,
    store_embeddings,
)

# --- results and metrics ---


def test_result() -> None:
    result = Result(0.5, "fine", {"loss": 0.25, "accuracy": 1.0}, {"A": {}})
    assert (result.main_score, result.loss, result.classification_report) == (0.5, 0.25, {"A": {}})
    assert str(result) == "fine\nLoss: 0.25'"
    assert Result(0.5, "fine", {"loss": 0.25}).classification_report == {}


def test_result_takes_the_former_order_of_arguments() -> None:
    result = Result(0.5, "fine", {"A": {}}, {"loss": 0.25})
    assert (result.scores, result.classification_report) == ({"loss": 0.25}, {"A": {}})


@pytest.mark.parametrize("scores", [None, {}, {"accuracy": 1.0}])
def test_a_result_needs_a_loss(scores: Any) -> None:
    with pytest.raises(ValueError, match="'loss'"):
        Result(0.5, "fine", scores)


def test_regression_metrics() -> None:
    metric = MetricRegression("age")
    metric.true, metric.pred = [1.0, 2.0, 3.0, 4.5], [1.1, 1.9, 3.5, 4.0]
    assert metric.mean_squared_error() == pytest.approx(0.13)
    assert metric.mean_absolute_error() == pytest.approx(0.3)
    assert metric.pearsonr() == pytest.approx(0.9618730199109466)
    assert metric.spearmanr() == pytest.approx(1.0)
    assert [float(cell) for cell in metric.to_tsv().split("\t")] == pytest.approx([0.13, 0.3, 0.961873, 1.0], rel=1e-5)
    assert str(metric) == (
        "mean squared error: 0.1300 - mean absolute error: 0.3000 - pearson: 0.9619 - spearman: 1.0000"
    )
    assert metric.tsv_header() == "MEAN_SQUARED_ERROR\tMEAN_ABSOLUTE_ERROR\tPEARSON\tSPEARMAN"
    assert metric.tsv_header("DEV").split("\t")[0] == "DEV_MEAN_SQUARED_ERROR"
    assert metric.to_empty_tsv() == "\t_\t_\t_\t_"


def test_names_of_metrics() -> None:
    assert EvaluationMetric("micro-average f1-score") is EvaluationMetric.MICRO_F1_SCORE
    assert len(EvaluationMetric) == 5


def test_one_hot() -> None:
    dictionary = Dictionary()
    for label in "abc":
        dictionary.add_item(label)
    rows = convert_labels_to_one_hot([["a"], ["c", "b"], [], ["other"]], dictionary)
    assert rows == [[0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


# --- plateau annealing ---


def optimizer(*rates: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=1.0)


def rates(of: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in of.param_groups]


@settings(deadline=None)
@given(
    metrics=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), max_size=25),
    mode=st.sampled_from(["min", "max"]),
    factor=st.sampled_from([0.1, 0.5]),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 2),
    bound=st.sampled_from([0.0, 0.01, [0.05, 0.001]]),
)
def test_without_a_second_metric_it_is_torchs_scheduler(
    metrics: list[float], mode: Any, factor: float, patience: int, cooldown: int, bound: Any
) -> None:
    own, torchs = optimizer(1.0, 0.5), optimizer(1.0, 0.5)
    annealing = AnnealOnPlateau(own, mode, factor=factor, patience=patience, cooldown=cooldown, min_lr=bound)
    reference = ReduceLROnPlateau(
        torchs, mode, factor=factor, patience=patience, cooldown=cooldown, min_lr=bound, threshold=0.0
    )
    for metric in metrics:
        before = rates(own)
        reduced = annealing.step(metric)
        reference.step(metric)
        assert rates(own) == rates(torchs)
        assert (annealing.best, annealing.num_bad_epochs) == (reference.best, reference.num_bad_epochs)
        assert annealing.in_cooldown == reference.in_cooldown
        assert reduced or rates(own) == before


def test_step_says_whether_rates_were_reduced() -> None:
    own = optimizer(1.0)
    annealing = AnnealOnPlateau(own, "min", factor=0.5, patience=1)
    assert [annealing.step(value) for value in (1.0, 1.0, 1.0, 1.0, 1.0, 0.5)] == [
        False, False, True, False, True, False,
    ]  # fmt: skip
    assert rates(own) == [0.25]


def test_a_tie_is_broken_by_the_second_metric() -> None:
    annealing = AnnealOnPlateau(optimizer(1.0), "max", aux_mode="min", patience=1)
    # The score stays 0 at the start of a training while the loss falls: no bad epochs.
    assert [annealing.step(0.0, loss) for loss in (5.0, 4.0, 3.0, 2.0)] == [False] * 4
    assert (annealing.num_bad_epochs, annealing.best_aux) == (0, 2.0)
    annealing.step(0.0, 2.5)
    assert annealing.num_bad_epochs == 1
    annealing.step(0.1, 9.0)
    assert (annealing.num_bad_epochs, annealing.best, annealing.best_aux) == (0, 0.1, 9.0)


def test_the_second_metric_is_kept_where_it_is_not_given() -> None:
    annealing = AnnealOnPlateau(optimizer(1.0), "min")
    annealing.step(0.3, 0.1)
    annealing.step(0.2)
    assert annealing.best_aux == 0.1
    annealing.step(0.2, 0.05)
    assert (annealing.num_bad_epochs, annealing.best_aux) == (0, 0.05)


def test_extra_patience_holds_until_the_first_reduction() -> None:
    annealing = AnnealOnPlateau(optimizer(1.0), patience=1, initial_extra_patience=2)
    reductions = [annealing.step(1.0) for _ in range(10)]
    assert [epoch for epoch, reduced in enumerate(reductions, 1) if reduced] == [5, 7, 9]


def test_nan_is_never_better() -> None:
    annealing = AnnealOnPlateau(optimizer(1.0), patience=1)
    assert [annealing.step(math.nan) for _ in range(4)] == [False, True, False, True]


def test_plateau_state_survives() -> None:
    own = optimizer(1.0)
    annealing = AnnealOnPlateau(own, "max", patience=2, factor=0.5)
    for value in (0.1, 0.3, 0.2):
        annealing.step(value, 1.0)
    state = annealing.state_dict()
    assert "optimizer" not in state
    other = AnnealOnPlateau(optimizer(1.0), "min")
    other.load_state_dict(state)
    for value in (0.2, 0.3, 0.2, 0.1):
        assert other.step(value, 1.0) == annealing.step(value, 1.0)
    assert other.state_dict() == annealing.state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1.0}, "Factor should be < 1.0"),
        ({"mode": "best"}, "mode 'best' is unknown"),
        ({"aux_mode": "best"}, "aux_mode 'best' is unknown"),
        ({"min_lr": [0.1, 0.2]}, "expected 1 min_lrs, got 2"),
    ],
)
def test_bad_plateau_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnnealOnPlateau(optimizer(1.0), **options)


def test_only_optimizers_are_annealed() -> None:
    with pytest.raises(TypeError, match="str is not an Optimizer"):
        AnnealOnPlateau("sgd")  # type: ignore[arg-type]


# --- files and log ---


def test_output_files_keep_what_they_hold(tmp_path: Path) -> None:
    path = init_output_file(tmp_path / "a" / "b", "loss.tsv")
    assert path == tmp_path / "a" / "b" / "loss.tsv"
    assert path.read_text() == ""
    path.write_text("kept")
    assert init_output_file(str(tmp_path / "a" / "b"), "loss.tsv") == path
    assert path.read_text() == "kept"


def test_log_line_tells_the_place_of_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("some.logger")
    with caplog.at_level(logging.INFO, "some.logger"):
        log_line(logger)
    assert caplog.messages == ["-" * 100]
    assert caplog.records[0].funcName != "log_line"


def test_file_handler(tmp_path: Path) -> None:
    logger = logging.getLogger("other.logger")
    logger.setLevel(logging.DEBUG)
    path = tmp_path / "new" / "training.log"
    for message in ("first run", "second run \u00e4"):
        handler = add_file_handler(logger, path)
        logger.info(message)
        logger.debug("not this")
        logger.removeHandler(handler)
        handler.close()
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert line.endswith(" second run \u00e4")


def test_weights_on_file(tmp_path: Path) -> None:
    extractor = WeightExtractor(tmp_path)
    state = {"matrix": torch.arange(6.0).view(2, 3), "vector": torch.arange(20.0), "scalar": torch.tensor(2.0)}
    for iteration in (1, 2):
        extractor.extract_weights({**state, "none": torch.empty(0)}, iteration)
    lines = [line.split("\t") for line in (tmp_path / "weights.txt").read_text().splitlines()]
    first = [line[1:] for line in lines if line[0] == "1"]
    assert first == [line[1:] for line in lines if line[0] == "2"]  # the same weights each time
    values = {name: [float(value) for owner, _, value in first if owner == name] for name in state}
    assert sorted(values["matrix"]) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]  # a small tensor: all, none twice
    assert len(set(values["vector"])) == 10
    assert values["scalar"] == [2.0]
    assert [number for owner, number, _ in first if owner == "vector"] == [str(i) for i in range(10)]


# --- embeddings ---


def embedded() -> Sentence:
    """A sentence of two tokens, with embeddings that training changes ("d") and others ("s")."""
    sentence = Sentence("a b")
    sentence.set_embedding("d", torch.ones(2, requires_grad=True) * 2)
    sentence.set_embedding("s", torch.ones(3))
    sentence[0].set_embedding("token-d", torch.ones(2, requires_grad=True) * 2)
    for token in sentence:
        token.set_embedding("token-s", torch.ones(2))
    return sentence


def names(sentence: Sentence) -> list[list[str]]:
    return [sorted(point._embeddings) for point in (sentence, *sentence)]


@pytest.mark.parametrize("mode", ["cpu", "gpu"])
@pytest.mark.parametrize(
    ("dynamic", "kept"),
    [
        (None, [["s"], ["token-s"], ["token-s"]]),
        ([], [["d", "s"], ["token-d", "token-s"], ["token-s"]]),
        (["s"], [["d"], ["token-d", "token-s"], ["token-s"]]),
        (["d", "token-d"], [["s"], ["token-s"], ["token-s"]]),
    ],
)
def test_stored_embeddings(mode: Any, dynamic: list[str] | None, kept: list[list[str]]) -> None:
    sentence = embedded()
    store_embeddings([sentence], mode, dynamic)
    assert names(sentence) == kept


def test_storing_nothing() -> None:
    sentence, pair = embedded(), DataPair(embedded(), embedded())
    store_embeddings(FlairDatapointDataset([sentence]), "none")
    store_embeddings([pair], "none")
    assert names(sentence) == names(pair.first) == names(pair.second) == [[], [], []]


def test_pairs_keep_what_training_does_not_change() -> None:
    pair = DataPair(embedded(), embedded())
    store_embeddings([pair], "cpu")
    assert names(pair.first) == names(pair.second) == [["s"], ["token-s"], ["token-s"]]


def test_dynamic_embeddings_are_those_with_gradients() -> None:
    static = Sentence("a")
    static.set_embedding("s", torch.ones(1))
    assert identify_dynamic_embeddings([]) is None
    assert identify_dynamic_embeddings([Sentence("a")]) is None
    assert identify_dynamic_embeddings([static]) == []
    assert sorted(identify_dynamic_embeddings([Sentence("a"), static, embedded()]) or []) == ["d", "token-d"]


# --- labelled sentences ---

TEXT = "Ann Lee  met Bob-Smith (CEO) in N.Y. today."


def spans(sentence: Sentence, label_type: str = "ner") -> list[tuple[str, str, float]]:
    return [(label.data_point.text, label.value, label.score) for label in sentence.get_labels(label_type)]


def test_sentence_from_tokens() -> None:
    tokens = [Token(text) for text in ("George", "Washington", "lives", "in", "Berlin")]
    entities = [TokenEntity(0, 2, "PER"), TokenEntity(4, 5, "LOC", "unused", 0.5)]
    sentence = create_labeled_sentence_from_tokens(tokens, entities)
    assert sentence.text == "George Washington lives in Berlin"
    assert spans(sentence) == [("George Washington", "PER", 1.0), ("Berlin", "LOC", 0.5)]
    assert tokens[0].sentence is None
    # Tokens of a sentence may be used too, and keep the blanks between them.
    again = create_labeled_sentence_from_tokens(Sentence("Bonn, Rhein").tokens, [TokenEntity(0, 1, "LOC")], "place")
    assert again.text == "Bonn, Rhein"
    assert spans(again, "place") == [("Bonn", "LOC", 1.0)]


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([(0, 7)], ["Ann Lee"]),
        ([(13, 22), (0, 7)], ["Ann Lee", "Bob-Smith"]),
        ([(0, 7), (4, 12)], ["Ann Lee", "Lee  met"]),
        ([(0, 7), (0, 7)], ["Ann Lee", "Ann Lee"]),
        ([(0, 3), (3, 7)], ["Ann", "Lee"]),
        ([(7, 12)], ["met"]),
        ([(13, 16), (17, 22)], ["Bob", "Smith"]),
        ([(24, 27)], ["CEO"]),
        ([(32, 36)], ["N.Y."]),
        ([(1, 2)], ["n"]),
        ([(0, 500)], [TEXT]),
    ],
)
def test_sentence_from_character_offsets(offsets: list[tuple[int, int]], expected: list[str]) -> None:
    sentence = create_labeled_sentence_from_entity_offsets(TEXT, [CharEntity(*o, "X", "", 0.5) for o in offsets])
    assert sentence.text == TEXT
    assert spans(sentence) == [(text, "X", 0.5) for text in expected]
    assert [token.idx for token in sentence] == list(range(1, len(sentence) + 1))
    assert "".join(token.text + " " * token.whitespace_after for token in sentence) == TEXT


@settings(deadline=None)
@given(data=st.data(), text=st.text("ab. ,-'", min_size=1, max_size=20))
def test_entities_are_found_at_any_offsets(data: st.DataObject, text: str) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    entity = CharEntity(start, end, "X", "")
    if not text[start:end].strip():
        with pytest.raises(ValueError, match="covers no token"):
            create_labeled_sentence_from_entity_offsets(text, [entity])
        return
    sentence = create_labeled_sentence_from_entity_offsets(text, [entity])
    assert [found for found, _, _ in spans(sentence)] == [text[start:end].strip()]
    assert [token.text for token in sentence] == [text[t.start_position : t.end_position] for t in sentence]


@pytest.mark.parametrize(
    ("limit", "words", "expected"),
    [
        (2, 2, ["Ann Lee"]),
        (1, 1, []),
        (0, 0, []),
        (4, 4, ["Ann Lee", "Bob-Smith"]),
        (math.inf, 11, ["Ann Lee", "Bob-Smith"]),
    ],
)
def test_entities_beyond_the_limit_are_dropped(limit: float, words: int, expected: list[str]) -> None:
    entities = [CharEntity(0, 7, "PER", ""), CharEntity(13, 22, "PER", "")]
    sentence = create_labeled_sentence_from_entity_offsets(TEXT, entities, token_limit=limit)
    assert len(sentence) == words
    assert [text for text, _, _ in spans(sentence)] == expected


@pytest.mark.parametrize("offsets", [(100, 110), (7, 9), (5, 3), (3, 3), (-3, 3)])
def test_entities_that_cover_nothing(offsets: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"start_char_idx=.* covers no token of the text \(43 characters\)"):
        create_labeled_sentence_from_entity_offsets(TEXT, [CharEntity(*offsets, "X", "")])
