"""Every PEFT method survives saving to the bit: each model class, dtype and form of file.

Adapted models of each kind are trained, saved in all three forms, loaded and compared. The suite runs all methods on
text classifiers and some on models of tokens; FLAIR_TEST_FULL=1 runs the whole product (about four times as long).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.embeddings.tiny_transformers import make_model_folder
from tests.peft.adapted import KINDS, METHODS, assert_equal, build, config_of, logits, train, trainable

pytest.importorskip("peft")

FULL = os.environ.get("FLAIR_TEST_FULL", "") not in ("", "0")
FORMS = {"file": ("model.pt", False), "folder": ("model", False), "adapters": ("adapters.pt", True)}
NOISE = {"GLORA": 1e-4}
"""Methods whose own computation is not repeatable to the bit."""
ON_TOKENS = (None, "LORA", "PROMPT_TUNING", "VERA")
IN_BOTH_DTYPES = ("token classifier", "crf")
"""Of the models of tokens, those that also run in bfloat16 by default: one of each class."""

CASES = [
    pytest.param(kind, method, dtype, id=f"{kind.replace(' ', '-')}-{method or 'none'}-{dtype}")
    for kind in KINDS
    for method in (None, *METHODS)
    for dtype in ("float32", "bfloat16")
    if FULL or kind == "classifier" or (method in ON_TOKENS and (dtype == "float32" or kind in IN_BOTH_DTYPES))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("matrix") / "bert", "bert", max_length=32)


@pytest.mark.parametrize(("kind", "method", "dtype"), CASES)
def test_round_trip(folder: Path, tmp_path: Path, kind: str, method: str | None, dtype: str) -> None:
    model = build(kind, folder, config_of(method), dtype)
    before, scores = trainable(model), logits(model)
    train(model)
    after = trainable(model)
    assert after.keys() == before.keys()
    still = [name for name in after if torch.equal(after[name], before[name])]
    adapters = [name for name in after if name.startswith("embeddings.")]
    assert any(name not in still for name in adapters), "no weight of the adapters moved"
    assert not torch.equal(scores, logits(model))
    assert model.dtype == getattr(torch, dtype)

    for name, adapters_only in FORMS.values():
        if adapters_only and method is None:
            continue
        model.save(tmp_path / name, adapters_only=adapters_only)
        loaded = type(model).load(tmp_path / name)
        assert_equal(loaded, model, NOISE.get(method or "", 0.0))
        assert not loaded.training
    train(loaded, steps=1)
