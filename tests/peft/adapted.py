"""Models with adapters, tiny enough to train in a test: every method of peft, and a way to compare two models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import flair
from flair.data import Dictionary, Sentence
from flair.embeddings import TransformerDocumentEmbeddings, TransformerWordEmbeddings
from flair.models import SequenceTagger, TextClassifier, TokenClassifier
from flair.nn import DefaultClassifier

QV: dict[str, Any] = {"target_modules": ["query", "value"]}

METHODS: dict[str, dict[str, Any]] = {
    "LORA": {"r": 4, "lora_alpha": 16, **QV},
    "ADALORA": {"total_step": 100, "init_r": 6, "target_r": 4, **QV},
    "ADAMSS": {"r": 8, "num_subspaces": 4, "subspace_rank": 2, **QV},
    "BEFT": {"target_modules": ["value"]},
    "BOFT": {"boft_block_size": 4, **QV},
    "C3A": {"block_size": 8, **QV},
    "CARTRIDGE": {"num_virtual_tokens": 4},
    "DEFT": {"r": 4, **QV},
    "DELORA": {"r": 4, **QV},
    "FOURIERFT": {"n_frequency": 20, **QV},
    "FROD": {"progressbar": False, **QV},
    "GLORA": {"r": 4, **QV},
    "GRALORA": {"r": 4, "alpha": 8, "gralora_k": 2, **QV},
    "HIRA": {"r": 4, **QV},
    "HRA": {"r": 4, **QV},
    "IA3": {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]},
    "LILY": {"r": 4, **QV},
    "LN_TUNING": {"target_modules": ["LayerNorm"]},
    "LOHA": {"r": 4, **QV},
    "LOKR": {"r": 4, **QV},
    "MISS": {"r": 4, **QV},
    "OFT": {"oft_block_size": 4, **QV},
    "SHIRA": {"r": 4, **QV},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "OSF": {"effective_rank": 0.9, **QV},
    "P_TUNING": {"num_virtual_tokens": 4, "encoder_hidden_size": 8},
    "PEANUT": {"r": 4, **QV},
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "PSOFT": {"r": 4, "psoft_alpha": 4, **QV},
    "PVERA": {"r": 8, **QV},
    "RANDLORA": {"r": 8, "randlora_alpha": 16, **QV},
    "ROAD": {"variant": "road_1", "group_size": 8, **QV},
    "SHADOW": {"target_modules": r".*encoder\.layer\.\d+$", "r": 4},
    "SUPERTUNING": {"sparsity": 0.9, **QV},
    "TINYLORA": {"r": 2, "u": 8, **QV},
    "TRAINABLE_TOKENS": {"token_indices": [2, 3, 20], "target_modules": ["word_embeddings"]},
    "UNILORA": {"r": 4, "theta_d_length": 32, **QV},
    "VBLORA": {"r": 4, "num_vectors": 16, "vector_length": 8, **QV},
    "VERA": {"r": 8, **QV},
    "WAVEFT": {"n_frequency": 20, **QV},
}
"""Peft type -> arguments that fit a BERT with 16 dimensions."""

TAGGERS: dict[str, dict[str, Any]] = {
    "crf": {"use_crf": True, "use_rnn": False, "reproject_embeddings": False},
    "rnn": {"use_crf": False, "use_rnn": True, "hidden_size": 6},
    "linear": {"use_crf": False, "use_rnn": False, "reproject_embeddings": False},
}
"""Kinds of sequence taggers -> constructor arguments."""

KINDS = ("classifier", "token classifier", *TAGGERS)
"""What :func:`build` can build."""

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "Berlin is the capital of Germany",
    "unbelievable internationalisation ; what a waste !",
    "I love it",
]


def config_of(method: str | None) -> dict[str, Any] | None:
    """The configuration of a method as a dict, None without; skips the test where the installed peft lacks it."""
    if method is None:
        return None
    return {"peft_type": require(method), **METHODS[method]}


def require(method: str, options: Mapping[str, Any] | None = None) -> str:
    """The name of a method; skips the test where the installed peft lacks it, or an option of its configuration."""
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    if method not in {str(kind.value) for kind in peft.PeftType}:
        pytest.skip(f"peft {peft.__version__} does not know {method}")
    taken = {field.name for field in fields(PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(method)])}
    unknown = sorted(set(options or ()) - taken)
    if unknown:
        pytest.skip(f"peft {peft.__version__} has no option {', '.join(unknown)} for {method}")
    return method


def dictionary(*names: str, spans: bool = False) -> Dictionary:
    made = Dictionary(add_unk=False)
    for name in names:
        made.add_item(name)
    made.span_labels = spans
    return made


def build(kind: str, folder: str | Path, config: Any, dtype: str | None = None, **embedding: Any) -> Any:
    """A model of one of the :data:`KINDS`, without dropout."""
    flair.set_seed(3)
    options = {"peft_config": config, "dtype": dtype, "fine_tune": True, **embedding}
    if kind == "classifier":
        embeddings = TransformerDocumentEmbeddings(str(folder), **options)
        return TextClassifier(embeddings, label_type="topic", label_dictionary=dictionary("A", "B", "C"))
    embeddings = TransformerWordEmbeddings(str(folder), **options)
    tags = dictionary("PER", "LOC", spans=True)
    off = {"dropout": 0.0, "word_dropout": 0.0, "locked_dropout": 0.0}
    if kind == "token classifier":
        return TokenClassifier(embeddings, tags, "ner", **off)
    return SequenceTagger(embeddings, tags, "ner", **off, **TAGGERS[kind])


def sentences() -> list[Sentence]:
    made = []
    for number, text in enumerate(TEXTS):
        sentence = Sentence(text).add_label("topic", "ABC"[number % 3])
        sentence[0:1].add_label("ner", "PER")
        sentence[1:3].add_label("ner", "LOC")
        made.append(sentence)
    return made


def train(model: Any, steps: int = 2) -> None:
    """Plain optimiser steps on everything that learns."""
    flair.set_seed(4)
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        model.forward_loss(sentences())[0].backward()
        optimizer.step()
    model.eval()


def logits(model: Any) -> torch.Tensor:
    """All scores of the test sentences in one tensor."""
    batch = sentences()
    with torch.no_grad():
        if isinstance(model, DefaultClassifier):
            points = [point for sentence in batch for point in model._get_data_points_from_sentence(sentence)]
            return model._decode(model._vectors(batch, points, False), points)
        features = model._features(batch)
        return features[0] if isinstance(features, tuple) else features


def predictions(model: Any) -> list[list[tuple[str, str, float]]]:
    """What users read after ``predict``."""
    points = [Sentence(text) for text in TEXTS]
    model.predict(points, label_name="p")
    return [[(label.data_point.text, label.value, label.score) for label in point.get_labels("p")] for point in points]


def trainable(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the weights that learn, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def dtypes(model: Any) -> dict[str, torch.dtype]:
    return {name: tensor.dtype for name, tensor in [*model.named_parameters(), *model.named_buffers()]}


def assert_equal(loaded: Any, model: Any, tolerance: float = 0.0) -> None:
    """Same scores (to the bit), same predictions, same trainable weights, same dtypes."""
    ours, theirs = logits(model), logits(loaded)
    assert ours.dtype == theirs.dtype
    if tolerance:
        torch.testing.assert_close(theirs, ours, atol=tolerance, rtol=tolerance)
    else:
        assert torch.equal(ours, theirs), f"scores differ by up to {(ours - theirs).abs().max():.1e}"
        assert predictions(loaded) == predictions(model)
    learning, restored = trainable(model), trainable(loaded)
    assert learning.keys() == restored.keys()
    for name, weight in learning.items():
        assert torch.equal(weight, restored[name]), name
    assert dtypes(loaded) == dtypes(model)
    assert loaded.dtype == model.dtype
