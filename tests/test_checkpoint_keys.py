"""Names of weights: what older and newer libraries call them, with and without adapters, and nothing dropped."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flair.checkpoint import CheckpointError, save_state
from flair.checkpoint.inferred_adapter import explain_missing_config
from flair.checkpoint.renames import fit_names, plain_name
from flair.data.sentence import Sentence
from flair.embeddings import DocumentPoolEmbeddings, StackedEmbeddings, TransformerWordEmbeddings
from flair.models import SequenceTagger, TextClassifier
from flair.nn import Model
from tests.embeddings.tiny_transformers import make_model_folder
from tests.peft.adapted import QV, assert_equal, build, dictionary, logits, train

GOLDEN = Path(__file__).parent / "golden" / "classifier_lora.pt"
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, **QV}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("keys") / "bert", "bert", max_length=32)


def adapted(folder: Path, config: dict[str, Any] | None = LORA) -> Any:
    if config is not None:
        pytest.importorskip("peft")
    model = build("classifier", folder, config)
    train(model)
    return model


def renamed(model: Any, **rules: str) -> dict[str, Any]:
    """The model's state with other names of weights."""
    state = model._get_state_dict()
    tensors = state["state_dict"]
    for old, new in rules.items():
        tensors = {re.sub(PATTERNS[old], new, name): tensor for name, tensor in tensors.items()}
    return {**state, "state_dict": tensors}


PATTERNS = {
    "base_layer": r"\.base_layer\.",
    "unnamed": r"\.(lora_[AB])\.default\.",
    "norm_weight": r"(LayerNorm)\.weight$",
    "norm_bias": r"(LayerNorm)\.bias$",
    "compiled": r"^embeddings\.model\.",
    "adapter": r"\.default\.",
}


# --- names of transformers ---


@pytest.mark.parametrize("kind", ["classifier", "crf", "pooled", "stacked"])
@pytest.mark.parametrize("suffix", [".pt", ""])
def test_old_names_of_transformers_under_any_prefix(folder: Path, tmp_path: Path, kind: str, suffix: str) -> None:
    if kind in ("pooled", "stacked"):
        words = [TransformerWordEmbeddings(str(folder), fine_tune=True, name=name) for name in ("one", "two")]
        stack = StackedEmbeddings(words)  # type: ignore[arg-type]
        if kind == "pooled":
            pool = DocumentPoolEmbeddings([stack])  # type: ignore[list-item]
            model: Any = TextClassifier(pool, label_type="topic", label_dictionary=dictionary("A", "B", "C"))
        else:
            model = SequenceTagger(stack, dictionary("PER", "LOC", spans=True), "ner", use_rnn=False)
    else:
        model = build(kind, folder, None)
    model.eval()
    state = renamed(model, norm_weight=r"\1.gamma", norm_bias=r"\1.beta")
    tensors = state["state_dict"]
    starts = {
        match.group() for match in (re.match(r".*\.model\.(?=embeddings\.word)", name) for name in tensors) if match
    }
    assert len(starts) == (2 if kind in ("pooled", "stacked") else 1)
    for start in starts:
        tensors[f"{start}embeddings.position_ids"] = torch.arange(64).unsqueeze(0)
    assert sum(name.endswith(".gamma") for name in tensors) == 7 * len(starts)
    save_state(state, tmp_path / f"old{suffix}")
    loaded: Any = Model.load(tmp_path / f"old{suffix}")
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    if kind != "pooled":
        assert torch.equal(logits(loaded), logits(model))


def test_newer_names_where_the_network_has_older_ones() -> None:
    """And constants that the network holds and the file does not: they are computed, not stored."""

    class Norm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = torch.nn.Parameter(torch.ones(3))
            self.beta = torch.nn.Parameter(torch.zeros(3))
            self.register_buffer("position_ids", torch.arange(4))

    weights = {"weight": torch.full((3,), 2.0), "bias": torch.full((3,), 3.0)}
    fitted = fit_names(weights, Norm().state_dict())
    assert {name: tensor.tolist() for name, tensor in fitted.items()} == {
        "gamma": [2.0] * 3,
        "beta": [3.0] * 3,
        "position_ids": [0, 1, 2, 3],
    }
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 3)).state_dict()
    old = {"bias": torch.ones(3), "weight_g": torch.ones(3, 1), "weight_v": torch.ones(3, 2)}
    assert fit_names(old, normed).keys() == normed.keys()
    assert fit_names(normed, old).keys() == old.keys()


def test_only_constants_of_their_own_place_are_left_out(folder: Path) -> None:
    """GPT-2 of transformers 4 computes a mask called "bias"; parameters of that name elsewhere are none."""
    embedding = TransformerWordEmbeddings(str(folder), use_context_separator=False)
    embedding.model.encoder.layer[0].attention.register_buffer("bias", torch.ones(3), persistent=False)
    kept = ("encoder.layer.0.output.dense.bias", "base_model.model.encoder.layer.0.output.dense.base_layer.bias")
    left_out = (
        *("encoder.layer.0.attention.bias", "base_model.model.encoder.layer.0.attention.bias"),
        *("embeddings.position_ids", "base_model.model.embeddings.position_ids", "other.masked_bias"),
    )
    incoming = dict.fromkeys([*kept, "another.bias", *left_out], torch.ones(3))
    assert embedding._obsolete_buffers(incoming) == list(left_out)


def test_names_are_never_guessed() -> None:
    own = {"a.weight": torch.zeros(2), "b.base_layer.weight": torch.zeros(2), "b.weight": torch.zeros(2)}
    other_shape = {"a.gamma": torch.zeros(3)}
    assert fit_names(other_shape, own) == other_shape
    two = {
        "b.original_module.weight": torch.ones(2),
        "a.gamma": torch.ones(2),
        "a.original_module.weight": torch.ones(2),
    }
    assert fit_names(two, own).keys() == two.keys()


parts = st.sampled_from(["encoder", "layer", "0", "11", "query", "LayerNorm", "model", "embeddings", "lora", "weights"])
plain_names = st.lists(parts, min_size=1, max_size=6).map(lambda path: ".".join([*path, "weight"]))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(plain_names, min_size=1, max_size=6, unique=True),
    st.sampled_from(["", "base_model.model.", "_orig_mod.", "_orig_mod.base_model.model."]),
    st.sampled_from(["", ".base_layer", ".original_module"]),
)
def test_wrapping_names_and_unwrapping_them_are_inverse(names: list[str], prefix: str, inside: str) -> None:
    wrapped = {name: f"{prefix}{name.rpartition('.')[0]}{inside}.weight" for name in names}
    assert {plain_name(name) for name in wrapped.values()} == {plain_name(name) for name in names}
    bare = {name: torch.full((2,), float(number)) for number, name in enumerate(names)}
    around = {wrapped[name]: tensor for name, tensor in bare.items()}
    assert fit_names(bare, around) == around
    assert fit_names(around, bare) == bare


# --- names of peft ---


@pytest.mark.parametrize("suffix", [".pt", ""])
@pytest.mark.parametrize(
    "rules",
    [
        {"base_layer": "."},
        {"unnamed": r".\1."},
        {"base_layer": ".", "unnamed": r".\1."},
        {"compiled": "embeddings.model._orig_mod."},
        {"adapter": ".mine."},
    ],
    ids=["before base_layer", "before named adapters", "both", "compiled", "other adapter name"],
)
def test_older_names_of_adapters(folder: Path, tmp_path: Path, rules: dict[str, str], suffix: str) -> None:
    model = adapted(folder)
    state = renamed(model, **rules)
    assert state["state_dict"].keys() != model.state_dict().keys()
    save_state(state, tmp_path / f"old{suffix}")
    assert_equal(TextClassifier.load(tmp_path / f"old{suffix}"), model)


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_a_module_trained_whole_beside_adapters(folder: Path, tmp_path: Path, prefix: str) -> None:
    model = adapted(folder, {**LORA, "modules_to_save": ["pooler"]})
    names = [name for name in model.state_dict() if ".modules_to_save.default." in name]
    assert len(names) == 2
    state = model._get_state_dict()
    state["state_dict"] = {
        name.replace(".modules_to_save.default.", ".modules_to_save.first."): tensor
        for name, tensor in state["state_dict"].items()
    }
    save_state(state, tmp_path / "m.pt")
    assert_equal(TextClassifier.load(tmp_path / "m.pt"), model)


def test_a_plain_state_into_a_model_that_has_adapters(folder: Path) -> None:
    """The weights go below the adapters, which stay; a module trained whole starts from the state's."""
    plain = adapted(folder, None)
    model = adapted(folder, {**LORA, "modules_to_save": ["pooler"]})
    adapters = {name: tensor.clone() for name, tensor in model.state_dict().items() if ".lora_" in name}
    model.load_state_dict(plain.state_dict())
    for name, tensor in adapters.items():
        assert torch.equal(model.state_dict()[name], tensor)
    pooler = plain.state_dict()["embeddings.model.pooler.dense.weight"]
    start = "embeddings.model.base_model.model.pooler"
    for place in ("original_module", "modules_to_save.default"):
        assert torch.equal(model.state_dict()[f"{start}.{place}.dense.weight"], pooler)
    model.embeddings.disable_adapters()
    torch.testing.assert_close(logits(model), logits(plain))


def test_a_state_with_adapters_into_a_plain_model(folder: Path, tmp_path: Path) -> None:
    """Its weights are merged on request; torch's own strict loading refuses adapters that have no place."""
    model = adapted(folder)
    for name, adapters_only in (("model.pt", False), ("model", False), ("adapters.pt", True)):
        model.save(tmp_path / name, adapters_only=adapters_only)
        merged: Any = TextClassifier.load(tmp_path / name, merge_adapters=True)
        assert not any("lora" in key or "base_" in key for key in merged.state_dict())
        torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=1e-5)
    plain = adapted(folder, None)
    with pytest.raises(RuntimeError, match=r"lora_A\.default\.weight"):
        plain.load_state_dict(model.state_dict())


# --- adapters without a configuration ---


def call_in(error: BaseException) -> ast.Call:
    """The call that an error shows, parsed."""
    (line,) = [line for line in str(error).splitlines() if ".load(" in line and "peft_config=" in line]
    (statement,) = ast.parse(line).body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Call)
    return statement.value


def test_a_released_file_shows_the_call_that_loads_it(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    file = tmp_path / 'my "model".pt'
    shutil.copy(GOLDEN, file)
    with pytest.raises(CheckpointError, match=r"saved with flair 0\.15\.1; running flair") as caught:
        TextClassifier.load(file)
    assert "from peft import LoraConfig\n" in str(caught.value)
    call = call_in(caught.value)
    assert ast.unparse(call.func) == "TextClassifier.load"
    assert ast.literal_eval(call.args[0]) == str(file)
    config = call.keywords[0].value
    assert isinstance(config, ast.Call)
    given_values = {word.arg: ast.literal_eval(word.value) for word in config.keywords}
    assert given_values == {"r": 4, "lora_alpha": ..., "target_modules": ["query", "value"]}

    # as pasted it fails, filled in it predicts what the release predicted
    with pytest.raises((CheckpointError, TypeError, ValueError)):
        TextClassifier.load(file, peft_config=peft.LoraConfig(**given_values))
    model = TextClassifier.load(file, peft_config=peft.LoraConfig(**{**given_values, "lora_alpha": 8}))
    recorded = json.loads(GOLDEN.with_suffix(".json").read_text(encoding="utf-8"))
    for text, labels in zip(recorded["sentences"], recorded["labels"], strict=True):
        sentence = Sentence(text)
        model.predict(sentence, label_name="p")
        assert [label.value for label in sentence.get_labels("p")] == [row[1] for row in labels]
        assert [label.score for label in sentence.get_labels("p")] == pytest.approx(
            [row[2] for row in labels], abs=1e-5
        )


METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "LORA": ({"r": 2, **QV}, {"r": 2, "lora_alpha": ..., "target_modules": ["query", "value"]}),
    "DORA": (
        {"peft_type": "LORA", "r": 2, "use_dora": True, "target_modules": ["dense"]},
        {"r": 2, "lora_alpha": ..., "target_modules": ["dense"], "use_dora": True},
    ),
    "RANKS": (
        {
            "peft_type": "LORA",
            "r": 2,
            "rank_pattern": {"encoder.layer.1.attention.self.query": 3},
            "target_modules": ["query"],
        },
        {
            "r": 2,
            "lora_alpha": ...,
            "target_modules": ["query"],
            "rank_pattern": {"encoder.layer.1.attention.self.query": 3},
        },
    ),
    "SOME": (
        {"peft_type": "LORA", "r": 2, "target_modules": r".*layer\.[12]\.attention\.self\.query"},
        {
            "r": 2,
            "lora_alpha": ...,
            "target_modules": [f"encoder.layer.{number}.attention.self.query" for number in (1, 2)],
        },
    ),
    "WHOLE": (
        {"peft_type": "LORA", "r": 2, "modules_to_save": ["pooler"], **QV},
        {"r": 2, "lora_alpha": ..., "target_modules": ["query", "value"], "modules_to_save": ["pooler"]},
    ),
    "LOHA": ({"r": 2, **QV}, {"r": 2, "alpha": ..., "target_modules": ["query", "value"]}),
    "IA3": (
        {"target_modules": ["key", "output.dense"], "feedforward_modules": ["output.dense"]},
        {"target_modules": ["dense", "key"], "feedforward_modules": ["dense"]},
    ),
    "LN_TUNING": ({"target_modules": ["LayerNorm"]}, {"target_modules": ["LayerNorm"]}),
    "VERA": ({"r": 8, **QV}, {"r": 8, "target_modules": ["query", "value"]}),
    "OFT": ({"r": 0, "oft_block_size": 4, **QV}, {"r": 0, "oft_block_size": 4, "target_modules": ["query", "value"]}),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore")
def test_configurations_are_read_off_the_weights(folder: Path, tmp_path: Path, method: str) -> None:
    """What is read off rebuilds the same model, once the scale is filled in."""
    peft = pytest.importorskip("peft")
    options, expected = METHODS[method]
    model = adapted(folder, {"peft_type": method, **options})
    state = model._get_state_dict()
    state["document_embeddings"]["peft_config"] = None
    save_state(state, tmp_path / "m.pt")
    with pytest.raises(CheckpointError) as caught:
        TextClassifier.load(tmp_path / "m.pt")
    config = call_in(caught.value).keywords[0].value
    assert isinstance(config, ast.Call)
    found = {word.arg: ast.literal_eval(word.value) for word in config.keywords}
    if method != "IA3":
        assert found == expected
    kind = getattr(peft, ast.unparse(config.func))
    scale = {name: getattr(model.embeddings.peft_config, name) for name, value in found.items() if value is ...}
    loaded = TextClassifier.load(tmp_path / "m.pt", peft_config=kind(**{**found, **scale}))
    assert torch.equal(logits(loaded), logits(model))


def test_adapters_that_are_not_known_are_still_named() -> None:
    text = explain_missing_config({"x.base_model.model.a.hra_u.default": torch.zeros(2)}, "TextClassifier", "m.pt")
    assert text is not None
    assert "hra_u" in text
    assert 'TextClassifier.load("m.pt", peft_config=...)' in text
    assert explain_missing_config({"embeddings.a.weight": torch.zeros(2)}, "TextClassifier", "m.pt") is None
    prompt = explain_missing_config({"e.model.prompt_encoder.default.embedding.weight": torch.zeros(4, 2)}, "T", None)
    assert prompt is not None
    assert "prompt_encoder.embedding.weight" in prompt
