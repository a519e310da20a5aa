"""Training in two processes, on CPUs."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from trainer_tools import sentences, tiny_corpus, tiny_model

import flair
from flair.data.corpus import Corpus
from flair.data.loading import FlairDatapointDataset
from flair.trainers import ModelTrainer
from flair.trainers.plugins import TrainerPlugin

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs torch.distributed with gloo")


class SeenTexts(TrainerPlugin):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    @TrainerPlugin.hook
    def before_training_batch(self, batch: list[Any], epoch: int, **kw: Any) -> None:
        if epoch == 1:
            self.texts.extend(sentence.text for sentence in batch)


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        flair.device = torch.device("cpu")
        model, seen = tiny_model(), SeenTexts()
        result = ModelTrainer(model, tiny_corpus()).train(
            f"{folder}/whole", max_epochs=3, mini_batch_size=4, mini_batch_chunk_size=3, multi_gpu=True,
            learning_rate=0.3, plugins=[seen],
        )  # fmt: skip
        stepped = tiny_model()
        corpus = Corpus(train=FlairDatapointDataset(sentences(8, 1)), sample_missing_splits=False)
        ModelTrainer(stepped, corpus).train_custom(
            f"{folder}/step", max_epochs=1, mini_batch_size=4, multi_gpu=True, learning_rate=0.1, max_grad_norm=None,
            shuffle=False, use_final_model_for_eval=True,
        )  # fmt: skip
        outcome = {
            "weights": model.state_dict(),
            "result": result,
            "texts": seen.texts,
            "stepped": stepped.state_dict(),
        }
        torch.save(outcome, f"{folder}/process{rank}.pt")
    finally:
        dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes trained; starting them is what takes time, so they do it once for all tests."""
    path = tmp_path_factory.mktemp("distributed")
    mp.spawn(work, args=(free_port(), str(path)), nprocs=2)
    return path


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"process{rank}.pt", weights_only=False) for rank in range(2)]


def test_two_processes_train_one_model(outcomes: list[dict[str, Any]]) -> None:
    first, second = outcomes
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert first["result"] == second["result"]


def test_each_process_sees_its_own_half(outcomes: list[dict[str, Any]]) -> None:
    first, second = outcomes
    assert len(first["texts"]) == len(second["texts"]) == 12
    assert sorted(first["texts"] + second["texts"]) == sorted(sentence.text for sentence in sentences(24, 1))


def test_only_the_main_process_writes(folder: Path) -> None:
    written = {file.name for file in (folder / "whole").iterdir()}
    assert written == {"loss.tsv", "training.log", "dev.tsv", "test.tsv", "best-model.pt", "final-model.pt"}
    assert len((folder / "whole" / "loss.tsv").read_text().splitlines()) == 4
    assert (folder / "whole" / "training.log").read_text().count("EPOCH 1 done") == 1


def test_gradients_are_averaged_over_processes(outcomes: list[dict[str, Any]]) -> None:
    model = tiny_model()
    model.forward_loss(sentences(8, 1))[0].backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(outcomes[0]["stepped"][name], parameter - 0.1 * parameter.grad / 2)
