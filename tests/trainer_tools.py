"""A corpus and a model that are small enough to train in milliseconds."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

import flair
from flair.data.corpus import Corpus
from flair.data.loading import FlairDatapointDataset
from flair.data.sentence import Sentence
from flair.nn.model import Model
from flair.training_utils import Result

WORDS = ["good", "bad", "film", "plot", "very", "the", "a", "was"]
LABELS = ["neg", "pos"]


def sentences(count: int, seed: int) -> list[Sentence]:
    draw = random.Random(seed)
    result = []
    for _ in range(count):
        label = draw.choice(LABELS)
        words = [draw.choice(WORDS[2:]) for _ in range(draw.randint(2, 5))]
        words.insert(draw.randint(0, len(words)), "good" if label == "pos" else "bad")
        sentence = Sentence(" ".join(words))
        sentence.add_label("class", label)
        result.append(sentence)
    return result


def tiny_corpus(train: int = 24, dev: int = 8, test: int = 8) -> Corpus:
    def split(count: int, seed: int) -> Any:
        return FlairDatapointDataset(sentences(count, seed)) if count else None

    return Corpus(
        train=split(train, 1), dev=split(dev, 2), test=split(test, 3), name="tiny", sample_missing_splits=False
    )


class TinyClassifier(Model):
    """Sums word vectors and puts a linear layer on top."""

    def __init__(self, length: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.length = length
        self.embeddings = nn.EmbeddingBag(len(WORDS), length, mode="sum")
        self.decoder = nn.Linear(length, len(LABELS))
        self.dropout = nn.Dropout(dropout)
        self.to(flair.device)

    @property
    def label_type(self) -> str:
        return "class"

    def scores(self, batch: list[Sentence]) -> torch.Tensor:
        device = self.decoder.weight.device
        ids = [[WORDS.index(word) for word in sentence.text.split()] for sentence in batch]
        offsets = torch.tensor([0, *(len(row) for row in ids[:-1])]).cumsum(0)
        flat = torch.tensor([index for row in ids for index in row])
        return self.decoder(self.dropout(self.embeddings(flat.to(device), offsets.to(device))))

    def gold(self, batch: list[Sentence]) -> torch.Tensor:
        values = [LABELS.index(sentence.get_label("class").value) for sentence in batch]
        return torch.tensor(values, device=self.decoder.weight.device)

    def forward_loss(self, data_points: list[Sentence]) -> tuple[torch.Tensor, int]:
        loss = nn.functional.cross_entropy(self.scores(data_points).float(), self.gold(data_points), reduction="sum")
        return loss, len(data_points)

    @torch.no_grad()
    def evaluate(self, data_points: Any, gold_label_type: str, out_path: Any = None, **kwargs: Any) -> Result:
        batch = [data_points[index] for index in range(len(data_points))]
        scores, gold = self.scores(batch).float(), self.gold(batch)
        predicted = scores.argmax(dim=1)
        accuracy = float((predicted == gold).float().mean())
        if out_path is not None:
            Path(out_path).write_text("\n".join(LABELS[index] for index in predicted.tolist()))
        names = [("micro avg", metric) for metric in ("f1-score", "precision", "recall")]
        return Result(
            main_score=accuracy,
            detailed_results=f"\nResults:\n- Accuracy {accuracy}",
            scores={
                **dict.fromkeys(names, accuracy),
                "accuracy": accuracy,
                "loss": float(nn.functional.cross_entropy(scores, gold)),
            },
            classification_report={},
        )

    def _get_state_dict(self) -> dict[str, Any]:
        return {**super()._get_state_dict(), "length": self.length}

    @classmethod
    def _init_model_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> Any:
        return super()._init_model_with_state_dict(state, length=state.get("length"), **kwargs)


def tiny_model(seed: int = 5, **options: Any) -> TinyClassifier:
    flair.set_seed(seed)
    return TinyClassifier(**options)


@contextmanager
def logged_lines() -> Iterator[list[str]]:
    """Collects what is logged."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Handler()
    flair.logger.addHandler(handler)
    try:
        yield lines
    finally:
        flair.logger.removeHandler(handler)
