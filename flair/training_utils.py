"""Small things that training and evaluation need: results, metrics, plateau annealing, storage of embeddings."""

from __future__ import annotations

import logging
import math
import random
from collections import defaultdict
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, Optional, Union

import torch
from torch.optim import Optimizer
from torch.utils.data import Dataset

from flair.class_utils import StringLike
from flair.data.dictionary import Dictionary
from flair.data.sentence import Sentence
from flair.data.units import DT, DataPoint, Span, Token

EmbeddingStorageMode = Literal["none", "cpu", "gpu"]
MinMax = Literal["min", "max"]


class Result:
    """What an evaluation found."""

    def __init__(
        self,
        main_score: float,
        detailed_results: str,
        scores: Optional[dict] = None,
        classification_report: Optional[dict] = None,
    ) -> None:
        """Collect scores.

        Args:
            main_score: the one number to compare models by.
            detailed_results: a report to read.
            scores: all numbers, among them "loss".
            classification_report: numbers per class. The other order of the two, that of 0.15.1, works too.

        Raises:
            ValueError: the scores have no "loss".
        """
        if "loss" not in (scores or {}) and "loss" in (classification_report or {}):
            scores, classification_report = classification_report, scores  # the order of arguments up to 0.15.1
        if scores is None or "loss" not in scores:
            raise ValueError(f"A Result needs the key 'loss' among its scores; got {sorted(map(str, scores or {}))}.")
        self.main_score = main_score
        self.scores = scores
        self.detailed_results = detailed_results
        self.classification_report = classification_report if classification_report is not None else {}

    @property
    def loss(self) -> float:
        return self.scores["loss"]

    def __str__(self) -> str:
        return f"{self.detailed_results!s}\nLoss: {self.loss}'"


class MetricRegression:
    """Errors and correlations between true and predicted numbers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.true: list[float] = []
        self.pred: list[float] = []

    def mean_squared_error(self) -> Any:
        from sklearn.metrics import mean_squared_error

        return mean_squared_error(self.true, self.pred)

    def mean_absolute_error(self) -> Any:
        from sklearn.metrics import mean_absolute_error

        return mean_absolute_error(self.true, self.pred)

    def pearsonr(self) -> Any:
        from scipy.stats import pearsonr

        return pearsonr(self.true, self.pred)[0]

    def spearmanr(self) -> Any:
        from scipy.stats import spearmanr

        return spearmanr(self.true, self.pred)[0]

    def to_tsv(self) -> str:
        return f"{self.mean_squared_error()}\t{self.mean_absolute_error()}\t{self.pearsonr()}\t{self.spearmanr()}"

    @staticmethod
    def tsv_header(prefix: Optional[StringLike] = None) -> str:
        names = ("MEAN_SQUARED_ERROR", "MEAN_ABSOLUTE_ERROR", "PEARSON", "SPEARMAN")
        return "\t".join(f"{prefix}_{name}" if prefix else name for name in names)

    @staticmethod
    def to_empty_tsv() -> str:
        return "\t_\t_\t_\t_"

    def __str__(self) -> str:
        return (
            f"mean squared error: {self.mean_squared_error():.4f} - mean absolute error: "
            f"{self.mean_absolute_error():.4f} - pearson: {self.pearsonr():.4f} - spearman: {self.spearmanr():.4f}"
        )


class EvaluationMetric(Enum):
    """Names of metrics, for older scripts."""

    MICRO_ACCURACY = "micro-average accuracy"
    MICRO_F1_SCORE = "micro-average f1-score"
    MACRO_ACCURACY = "macro-average accuracy"
    MACRO_F1_SCORE = "macro-average f1-score"
    MEAN_SQUARED_ERROR = "mean squared error"


class WeightExtractor:
    """Follows a few randomly chosen weights of every tensor through training, in ``weights.txt``."""

    def __init__(self, directory: Union[str, Path], number_of_weights: int = 10) -> None:
        """Start a file.

        Args:
            directory: where ``weights.txt`` is written.
            number_of_weights: weights per tensor.
        """
        self.weights_file = init_output_file(Path(directory), "weights.txt")
        self.weights_dict: dict[str, dict[int, tuple[int, ...]]] = defaultdict(dict)
        self.number_of_weights = number_of_weights

    def extract_weights(self, state_dict: dict[str, torch.Tensor], iteration: int) -> None:
        """Append the chosen weights: iteration, tensor name, number of the weight, value."""
        with open(self.weights_file, "a", encoding="utf-8") as file:
            for name, tensor in state_dict.items():
                if tensor.numel() == 0:
                    continue
                if name not in self.weights_dict:
                    self._choose(name, tensor)
                for number, index in self.weights_dict[name].items():
                    file.write(f"{iteration}\t{name}\t{number}\t{float(tensor[index])}\n")

    def _choose(self, name: str, tensor: torch.Tensor) -> None:
        count = min(self.number_of_weights, tensor.numel())
        chosen: dict[tuple[int, ...], None] = {}  # a set that keeps its order
        while len(chosen) < count:
            chosen[tuple(random.randrange(size) for size in tensor.shape)] = None
        self.weights_dict[name] = dict(enumerate(chosen))


class AnnealOnPlateau:
    """Lowers learning rates when a metric has not improved for some epochs; ties are broken by a second metric."""

    def __init__(
        self,
        optimizer: Optimizer,
        mode: MinMax = "min",
        aux_mode: MinMax = "min",
        factor: float = 0.1,
        patience: int = 10,
        initial_extra_patience: int = 0,
        verbose: bool = False,
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        """Watch a metric.

        Args:
            optimizer: whose learning rates are lowered.
            mode: whether smaller ("min") or larger ("max") metrics are better.
            aux_mode: the same for the second metric.
            factor: what learning rates are multiplied by, below 1.
            patience: bad epochs in a row that are tolerated.
            initial_extra_patience: further ones before the first reduction.
            verbose: accepted for compatibility.
            cooldown: epochs after a reduction in which nothing counts as bad.
            min_lr: lower bound, one for all parameter groups or a list.
            eps: smaller changes are not made.

        Raises:
            ValueError: a factor of 1 or more, an unknown mode, or a wrong number of bounds.
            TypeError: not an optimizer.
        """
        if factor >= 1.0:
            raise ValueError(f"Factor should be < 1.0, got {factor}.")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        for name, value in (("mode", mode), ("aux_mode", aux_mode)):
            if value not in ("min", "max"):
                raise ValueError(f"{name} {value!r} is unknown: use 'min' or 'max'.")
        if isinstance(min_lr, (list, tuple)):
            if len(min_lr) != len(optimizer.param_groups):
                raise ValueError(f"expected {len(optimizer.param_groups)} min_lrs, got {len(min_lr)}")
            self.min_lrs: list[float] = list(min_lr)
        else:
            self.min_lrs = [min_lr] * len(optimizer.param_groups)
        self.optimizer = optimizer
        self.mode = mode
        self.aux_mode = aux_mode
        self.factor = factor
        self.default_patience = patience
        self.effective_patience = patience + initial_extra_patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.eps = eps
        self.last_epoch = 0
        self._reset()

    def _reset(self) -> None:
        self.mode_worse = math.inf if self.mode == "min" else -math.inf
        self.best = self.mode_worse
        self.best_aux: Optional[float] = None
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    @staticmethod
    def _better(value: float, best: float, mode: str) -> bool:
        return value < best if mode == "min" else value > best

    def step(self, metric: float, auxiliary_metric: Optional[float] = None) -> bool:
        """Take note of an epoch's metrics; returns whether learning rates were reduced."""
        current = float(metric)
        self.last_epoch += 1
        is_better = self._better(current, self.best, self.mode)
        if current == self.best and auxiliary_metric is not None and self.best_aux is not None:
            is_better = self._better(float(auxiliary_metric), self.best_aux, self.aux_mode)
        if is_better:
            self.best = current
            if auxiliary_metric is not None:
                self.best_aux = float(auxiliary_metric)
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs <= self.effective_patience:
            return False
        self._reduce_lr()
        self.cooldown_counter = self.cooldown
        self.num_bad_epochs = 0
        self.effective_patience = self.default_patience
        return True

    def _reduce_lr(self) -> None:
        for bound, group in zip(self.min_lrs, self.optimizer.param_groups, strict=True):
            old = float(group["lr"])
            new = max(old * self.factor, bound)
            if old - new > self.eps:
                group["lr"] = new

    @property
    def in_cooldown(self) -> bool:
        return self.cooldown_counter > 0

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.__dict__.update(state_dict)


def init_output_file(base_path: Union[str, Path], file_name: str) -> Path:
    """A file in a folder, both made if needed. What an existing file holds stays."""
    folder = Path(base_path)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / file_name
    file.touch()
    return file


def convert_labels_to_one_hot(label_list: list[list[str]], label_dict: Dictionary) -> list[list[int]]:
    """0/1 rows over the labels of a dictionary."""
    return [[1 if label in labels else 0 for label in label_dict.get_items()] for labels in label_list]


def log_line(log: logging.Logger) -> None:
    """A line of 100 dashes. The caller's position is logged, not this function's."""
    log.info("-" * 100, stacklevel=3)


def add_file_handler(log: logging.Logger, output_file: Path) -> logging.FileHandler:
    """Also log to a file (overwritten)."""
    init_output_file(output_file.parents[0], output_file.name)
    handler = logging.FileHandler(output_file, mode="w", encoding="utf-8")
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)-15s %(message)s"))
    log.addHandler(handler)
    return handler


def store_embeddings(
    data_points: Union[list[DT], Dataset],
    storage_mode: EmbeddingStorageMode,
    dynamic_embeddings: Optional[list[str]] = None,
) -> None:
    """Decide what happens to computed embeddings after use.

    Args:
        data_points: where they are stored.
        storage_mode: "none" drops all, "cpu" and "gpu" keep those that training does not change.
        dynamic_embeddings: names of those that change; found by their gradients if not given.
    """
    points: list[Any] = data_points if isinstance(data_points, list) else list(data_points)  # type: ignore[call-overload]
    if storage_mode == "none":
        for data_point in points:
            data_point.clear_embeddings()
        return
    if dynamic_embeddings is None:
        dynamic_embeddings = identify_dynamic_embeddings(points)
    for data_point in points:
        if dynamic_embeddings:
            data_point.clear_embeddings(dynamic_embeddings)
        if storage_mode == "cpu":
            data_point.to("cpu", pin_memory=torch.cuda.is_available())


def identify_dynamic_embeddings(data_points: list[DT]) -> Optional[list[str]]:
    """Names of the embeddings that carry gradients; None if nothing is embedded."""
    dynamic: set[str] = set()
    embedded = False
    for data_point in data_points:
        dynamic |= data_point._get_dynamic_embedding_names()
        embedded = embedded or bool(data_point._get_all_embedding_names())
    return list(dynamic) if embedded else None


class TokenEntity(NamedTuple):
    """An entity by token indices, the end exclusive."""

    start_token_idx: int
    end_token_idx: int
    label: str
    value: str = ""
    score: float = 1.0


class CharEntity(NamedTuple):
    """An entity by character offsets, the end exclusive."""

    start_char_idx: int
    end_char_idx: int
    label: str
    value: str
    score: float = 1.0


def create_labeled_sentence_from_tokens(
    tokens: list[Token], token_entities: list[TokenEntity], type_name: str = "ner"
) -> Sentence:
    """A sentence of copies of the tokens, with the entities as labelled spans."""
    copies = [Token(token.text, token.head_id, token.whitespace_after, token.start_position) for token in tokens]
    sentence = Sentence(copies, use_tokenizer=True)
    for entity in token_entities:
        sentence[entity.start_token_idx : entity.end_token_idx].add_label(type_name, entity.label, score=entity.score)
    return sentence


def create_labeled_sentence_from_entity_offsets(
    text: str, entities: list[CharEntity], token_limit: float = math.inf
) -> Sentence:
    """A sentence over the text, with the entities as labelled spans of type "ner".

    Args:
        text: the text.
        entities: character offsets in it. A token that an entity begins or ends in is split there.
        token_limit: the sentence is cut after so many tokens; entities that reach beyond are dropped.

    Raises:
        ValueError: an entity covers no token.
    """
    sentence = Sentence(text)
    cuts = sorted({offset for entity in entities for offset in (entity.start_char_idx, entity.end_char_idx)})
    pieces = [piece for token in sentence for piece in _split_token(token, cuts)]
    if len(pieces) > len(sentence):
        sentence.tokens = pieces
        for number, piece in enumerate(pieces, 1):
            piece._internal_index = number
    for entity in entities:
        start, end = entity.start_char_idx, entity.end_char_idx
        inside = [token for token in sentence if token.start_position >= start and token.end_position <= end]
        if start < 0 or not inside:
            raise ValueError(f"{entity} covers no token of the text ({len(text)} characters): {text[:200]!r}.")
        Span(inside).add_label("ner", entity.label, score=entity.score)
    if len(sentence) > token_limit:
        sentence.truncate(int(token_limit))
    return sentence


def _split_token(token: Token, cuts: list[int]) -> list[Token]:
    """The token itself, or new tokens if it has cuts (character offsets) inside."""
    inside = [cut for cut in cuts if token.start_position < cut < token.end_position]
    if not inside:
        return [token]
    borders = [token.start_position, *inside, token.end_position]
    return [
        Token(
            token.text[start - borders[0] : end - borders[0]],
            whitespace_after=token.whitespace_after if end == borders[-1] else 0,
            start_position=start,
            sentence=token.sentence,
        )
        for start, end in pairwise(borders)
    ]


__all__ = [
    "AnnealOnPlateau",
    "CharEntity",
    "DataPoint",
    "EmbeddingStorageMode",
    "EvaluationMetric",
    "MetricRegression",
    "MinMax",
    "Result",
    "TokenEntity",
    "WeightExtractor",
    "add_file_handler",
    "convert_labels_to_one_hot",
    "create_labeled_sentence_from_entity_offsets",
    "create_labeled_sentence_from_tokens",
    "identify_dynamic_embeddings",
    "init_output_file",
    "log_line",
    "store_embeddings",
]
