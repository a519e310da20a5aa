"""Files that flair 0.15.1 wrote (``golden/make_golden.py``): they load without unpickling, and predict the same."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import pytest
import torch

from flair.checkpoint import CheckpointError, inspect_file, load_state, save_state
from flair.data.sentence import Sentence

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.pt"))
MODULES = {
    "TextClassifier": "flair.models.text_classification_model",
    "PrefixedSequenceTagger": "flair.models.prefixed_tagger",
    "SequenceTagger": "flair.models.sequence_tagger_model",
    "TokenClassifier": "flair.models.word_tagger_model",
}
TOLERANCE = 1e-5


def recorded(file: Path) -> dict:
    return json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))


def available(file: Path) -> None:
    needed = [MODULES[recorded(file)["class"]]]
    needed += ["flair.nn.decoder"] if file.stem in ("classifier_prototypes", "classifier_deepncm") else []
    for module in needed:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not there yet")


def same_tensors(one: dict, other: dict) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_the_golden_files_are_there():
    assert len(GOLDEN) >= 10
    assert sum(file.stat().st_size for file in GOLDEN) < 3_000_000


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_states_load_and_convert(file, tmp_path):
    available(file)
    state = load_state(file)
    assert state["__cls__"] == recorded(file)["class"]
    weights = torch.load(file, weights_only=False)["state_dict"] if "decoder" not in state else state["state_dict"]
    assert same_tensors(state["state_dict"], dict(weights))
    for target in (tmp_path / "new.pt", tmp_path / "new", io.BytesIO()):
        save_state(state, target)
        if isinstance(target, io.BytesIO):
            target.seek(0)
        again = load_state(target)
        assert same_tensors(again["state_dict"], state["state_dict"])
        assert list(again) == list(state)
        for key in ("label_dictionary", "tag_dictionary", "model_card", "tag_format", "multi_label_threshold"):
            assert again.get(key) == state.get(key)


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_inspection(file):
    found = inspect_file(file)
    assert found["class"] == recorded(file)["class"]
    assert found["unsafe"] == []
    assert found["damaged"] == []
    assert json.loads(json.dumps(found)) == found
    assert any(labels for labels in found["labels"].values())


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_predictions_equal_those_of_the_release(file):
    available(file)
    from flair.nn.model import Model

    expected = recorded(file)
    if file.stem == "classifier_lora":
        with pytest.raises(CheckpointError, match="peft_config"):
            Model.load(file)
        from peft import LoraConfig, TaskType

        config = LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=4, lora_alpha=8, target_modules=["query", "value"])
        model = Model.load(file, peft_config=config)
    else:
        model = Model.load(file)
    sentences = [Sentence(text) for text in expected["sentences"]]
    model.predict(sentences, label_name="p")
    for sentence, labels in zip(sentences, expected["labels"], strict=True):
        found = [(label.data_point.text, label.value, label.score) for label in sentence.get_labels("p")]
        assert [row[:2] for row in found] == [tuple(row[:2]) for row in labels]
        assert [row[2] for row in found] == pytest.approx([row[2] for row in labels], abs=TOLERANCE)
