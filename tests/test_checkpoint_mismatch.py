"""Files that lack a tensor, have one too many or one of another shape: refused, with an account of what and why."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flair.checkpoint import CheckpointError, load_state, save_state
from flair.models import TextClassifier
from flair.nn import Model
from tests.embeddings.tiny_transformers import make_model_folder
from tests.peft.adapted import QV, assert_equal, build, train

LORA = {"peft_type": "LORA", "r": 4, **QV}
KINDS = ("plain.pt", "plain", "adapted.pt", "adapted", "light.pt", "light", "tagger.pt", "tagger")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models in every form."""
    pytest.importorskip("peft")
    place = tmp_path_factory.mktemp("mismatch")
    folder = make_model_folder(place / "bert", "bert", max_length=32)
    models = {"plain": build("classifier", folder, None), "tagger": build("crf", folder, None)}
    models["adapted"] = build("classifier", folder, LORA)
    for model in models.values():
        train(model)
    for name, model in models.items():
        model.save(place / f"{name}.pt")
        model.save(place / name)
    models["adapted"].save(place / "light.pt", adapters_only=True)
    models["adapted"].save(place / "light", adapters_only=True)
    return place


def changed(saved: Path, kind: str, target: Path, change: Callable[[dict[str, Any]], None]) -> CheckpointError:
    """What loading says after the tensors of a file were changed."""
    state = load_state(saved / kind)
    del state["origin"]
    change(state["state_dict"])
    save_state(state, target / f"changed{Path(kind).suffix}")
    with pytest.raises(CheckpointError) as caught:
        Model.load(target / f"changed{Path(kind).suffix}")
    message = str(caught.value)
    assert len(message) < 3000
    assert f"File: {target / 'changed'}" in message
    assert re.search(r"saved with flair \S+, torch \S+, .*running flair \S+, torch \S+", message)
    return caught.value


def some(saved: Path, kind: str, count: int = 6) -> list[str]:
    names = list(load_state(saved / kind)["state_dict"])
    return random.Random(kind).sample(names, min(count, len(names)))


def module_of(name: str) -> str:
    """The innermost module that both a plain and an adapted transformer have."""
    return re.sub(r"(\.(base_layer|weight|bias|default|lora_[AB]))+$", "", name).rpartition(".")[2]


def test_the_unchanged_files_load(saved: Path) -> None:
    for kind in KINDS:
        Model.load(saved / kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_is_missing(saved: Path, tmp_path: Path, kind: str) -> None:
    for name in some(saved, kind):
        error = changed(saved, kind, tmp_path, lambda tensors, name=name: tensors.pop(name))
        assert module_of(name) in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_too_many(saved: Path, tmp_path: Path, kind: str) -> None:
    for name in some(saved, kind, 2):
        for extra in (f"{name}_", f"embeddings.model.{name}", "new", f"{name.rpartition('.')[0]}.new.weight"):
            error = changed(saved, kind, tmp_path, lambda tensors, extra=extra: tensors.update({extra: torch.zeros(2)}))
            assert "1 tensor of the file that the model has no place for:" in str(error)
            assert re.sub(r"\.\d+(?=\.)", ".*", extra) in re.sub(r"\.\d+(?=\.)", ".*", str(error))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_of_another_shape(saved: Path, tmp_path: Path, kind: str) -> None:
    for name in some(saved, kind, 4):

        def reshape(tensors: dict[str, Any], name: str = name) -> None:
            tensors[name] = torch.cat([tensors[name], tensors[name][:1]])

        error = changed(saved, kind, tmp_path, reshape)
        assert module_of(name) in str(error)


def test_the_account_is_short_and_grouped_by_module(saved: Path, tmp_path: Path) -> None:
    def halve(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if ".layer.2." in name]:
            tensors[name.replace(".layer.2.", ".layer.7.")] = tensors.pop(name)

    message = str(changed(saved, "plain.pt", tmp_path, halve))
    rows = [line for line in message.splitlines() if line.startswith("  ")]
    assert "16 tensors of the model that the file does not have:" in message
    assert "16 tensors of the file that the model has no place for:" in message
    assert len(rows) <= 16
    assert sum(int(count) for count in re.findall(r"\((\d+)×\)", message)) == 32
    assert all("embeddings.model.encoder.layer.*." in row for row in rows)
    assert "Likely cause: " in message


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            lambda t: t.update({"decoder.weight": torch.zeros(5, 16), "decoder.bias": torch.zeros(5)}),
            "number of labels",
        ),
        (
            lambda t: t.update({"embeddings.model.embeddings.word_embeddings.weight": torch.zeros(9, 16)}),
            "vocabularies of different sizes",
        ),
        (lambda t: t.pop("decoder.bias"), "incomplete"),
        (lambda t: t.update({"second.bias": torch.zeros(1)}), "more layers or another head"),
    ],
)
def test_likely_causes(saved: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], cause: str) -> None:
    assert cause in str(changed(saved, "plain.pt", tmp_path, change)).partition("Likely cause: ")[2]


def test_wrong_adapters(saved: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    for config, says in (
        (peft.LoraConfig(r=2, **QV), r"\(\[4, 16\] in the file, \[2, 16\] in the model\)|tensors of another shape"),
        (peft.LoraConfig(r=4, target_modules=["query"]), "no place for"),
        (peft.LoraConfig(r=4, target_modules=["query", "key", "value"]), "does not have"),
        (peft.LoHaConfig(r=4, **QV), "no place for"),
    ):
        for kind in ("adapted.pt", "light"):
            with pytest.raises(CheckpointError, match=says):
                TextClassifier.load(saved / kind, peft_config=config)


def test_dropped_constants_are_no_loss(saved: Path, tmp_path: Path) -> None:
    """What transformers computes may be in the file, or not."""
    state = load_state(saved / "adapted.pt")
    state["state_dict"]["embeddings.model.base_model.model.embeddings.position_ids"] = torch.arange(64)[None]
    save_state(state, tmp_path / "m.pt")
    assert_equal(TextClassifier.load(tmp_path / "m.pt"), TextClassifier.load(saved / "adapted.pt"))
