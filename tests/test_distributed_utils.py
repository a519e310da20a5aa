"""Helpers for training in several processes: two of them here, on CPUs, talking through gloo."""

from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.distributed as dist

import flair
from flair.data import Corpus, Sentence
from flair.datasets import FlairDatapointDataset
from flair.distributed_utils import aggregate, is_main_process, launch_distributed, validate_corpus_same_each_process

no_gloo = pytest.mark.skipif(
    not dist.is_gloo_available() or torch.cuda.is_available(), reason="needs gloo, and no CUDA devices"
)


def corpus_of(train: list[str], dev: list[str], test: list[str] | None = None) -> Corpus:
    def split(texts: list[str]) -> FlairDatapointDataset:
        return FlairDatapointDataset([Sentence(text) for text in texts])

    return Corpus(split(train), split(dev), split(test) if test else None, sample_missing_splits=False)


def complaint(corpus: Corpus) -> str:
    try:
        validate_corpus_same_each_process(corpus)
    except ValueError as error:
        return str(error)
    return ""


def work(offset: int, name: str = "") -> dict:
    torch.set_num_threads(1)
    rank = dist.get_rank()
    same = [f"text {number}" for number in range(30)]
    outcome = {
        "name": name,
        "world": dist.get_world_size(),
        "backend": dist.get_backend(),
        "main": is_main_process(),
        "all main": aggregate(is_main_process(), list),
        "logs": aggregate(len(flair.logger.handlers) > 0, list),
        "mean": aggregate(float(offset + rank)),
        "gathered": aggregate({"rank": rank}, list),
        "max": aggregate(rank, max),
        "equal": aggregate(complaint(corpus_of(same, same[:3], same[:4])), list),
        "one split missing": aggregate(complaint(corpus_of(same, same[:3])), list),
        "other dev": aggregate(complaint(corpus_of(same, [f"of {rank}", "same"])), list),
        "other order": aggregate(complaint(corpus_of(same if rank else same[::-1], ["same"])), list),
        "other size": aggregate(complaint(corpus_of(same[: 20 + rank], ["same"])), list),
    }
    if rank:
        return {"from": "a process that is not the main one"}
    return outcome


@pytest.fixture(scope="module")
def outcome() -> dict:
    """What two processes said; starting them is what takes time, so they do it once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAIR_WORLD_SIZE", "2")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        patch.setenv("MASTER_PORT", port)
        return launch_distributed(work, 10, name="by keyword")


@no_gloo
def test_the_main_process_s_result_comes_back(outcome: dict) -> None:
    assert (outcome["name"], outcome["world"], outcome["backend"]) == ("by keyword", 2, "gloo")


@no_gloo
def test_one_process_is_the_main_one_and_logs(outcome: dict) -> None:
    assert outcome["main"] is True
    assert outcome["all main"] == [True, False]
    assert outcome["logs"] == [True, False]


@no_gloo
def test_values_are_gathered_in_order_and_reduced(outcome: dict) -> None:
    assert outcome["mean"] == 10.5
    assert outcome["gathered"] == [{"rank": 0}, {"rank": 1}]
    assert outcome["max"] == 1


@no_gloo
def test_every_process_notices_unequal_corpora(outcome: dict) -> None:
    assert outcome["equal"] == outcome["one split missing"] == ["", ""]
    for difference, split in (("other dev", "dev"), ("other order", "train"), ("other size", "train")):
        first, second = outcome[difference]
        assert first == second
        assert f"The {split} split is not the same" in first
        assert "set_seed" in first


@pytest.mark.parametrize("wanted", ["0", "two", "-1", ""])
def test_a_number_of_processes_that_is_none(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("FLAIR_WORLD_SIZE", wanted)
    with pytest.raises(ValueError, match="FLAIR_WORLD_SIZE"):
        launch_distributed(work, 0)


def test_a_single_process_needs_no_launch() -> None:
    assert "RANK" not in os.environ
    assert is_main_process() is True
    assert aggregate([1, 2]) == [1, 2]
    assert complaint(corpus_of(["a"], ["b"])) == ""
