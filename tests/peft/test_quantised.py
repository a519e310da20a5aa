"""LoRA on quantised transformers: training, files in all forms, copies."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from flair.checkpoint import load_state
from flair.models import TextClassifier
from tests.embeddings.tiny_transformers import make_model_folder
from tests.peft.adapted import QV, assert_equal, build, logits, train

pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")

LORA = {"peft_type": "LORA", "r": 4, **QV}
SCHEMES = ("bitsandbytes-8bit", "bitsandbytes-nf4", "torchao-int8")


def quantisation(scheme: str) -> Any:
    """The configuration of a scheme; skips the test where its library (flair[quantization]) is missing."""
    import transformers

    pytest.importorskip(scheme.partition("-")[0], reason="needs flair[quantization]")
    if scheme == "bitsandbytes-8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    if scheme == "bitsandbytes-nf4":
        return transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        )
    from torchao.quantization import Int8WeightOnlyConfig

    return transformers.TorchAoConfig(Int8WeightOnlyConfig())


def quantised(folder: Path, scheme: str, kind: str = "classifier", config: Any = LORA, dtype: str = "bfloat16") -> Any:
    options = {"quantization_config": quantisation(scheme)}
    return build(kind, folder, config, dtype, transformers_model_kwargs=options, use_context=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("quantised") / "bert", "bert", max_length=32)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_round_trip(folder: Path, tmp_path: Path, scheme: str, dtype: str) -> None:
    model = quantised(folder, scheme, dtype=dtype)
    before = logits(model)
    assert not torch.equal(before, logits(build("classifier", folder, LORA, dtype))), "the weights are coarser"
    train(model)
    assert not torch.equal(logits(model), before)
    for name, adapters_only in (("model.pt", False), ("model", False), ("adapters.pt", True)):
        model.save(tmp_path / name, adapters_only=adapters_only)
        config = load_state(tmp_path / name)["document_embeddings"]["config_state_dict"]["quantization_config"]
        assert config["quant_method"] == scheme.partition("-")[0]
        loaded = TextClassifier.load(tmp_path / name)
        assert_equal(loaded, model)
        query, original = (
            type(m.embeddings.base_model().encoder.layer[0].attention.self.query.base_layer.weight)
            for m in (loaded, model)
        )
        assert query is original
        assert query is not torch.nn.Parameter
    train(loaded, steps=1)
    torch.load(tmp_path / "model.pt", weights_only=True)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_tagger_a_copy_and_a_moved_base(folder: Path, tmp_path: Path, scheme: str) -> None:
    base = make_model_folder(tmp_path / "base", "bert", max_length=32)
    model = quantised(base, scheme, "linear")
    train(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_equal(copied, model)
    model.save(tmp_path / "adapters.pt", adapters_only=True)
    model.save(tmp_path / "model.pt")
    moved = base.rename(tmp_path / "moved")
    assert_equal(type(model).load(tmp_path / "model.pt"), model)
    assert_equal(type(model).load(tmp_path / "adapters.pt", base_model=moved), model)
    expected = logits(model)
    state = copy.deepcopy(model.state_dict())
    train(model, steps=1)
    model.load_state_dict(state)
    assert torch.equal(logits(model), expected), "an in-memory state brings back what was trained"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_adapters_and_merging(folder: Path, tmp_path: Path, scheme: str) -> None:
    model = quantised(folder, scheme, config=None)
    model.save(tmp_path / "model.pt")
    assert_equal(TextClassifier.load(tmp_path / "model.pt"), model)
    model.embeddings.add_adapter(LORA)
    with pytest.raises(ValueError, match="quantised"):
        model.embeddings.merge_adapters()
