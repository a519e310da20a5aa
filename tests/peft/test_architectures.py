"""Adapters on every family of transformers: word and document vectors, files, virtual tokens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from flair.data import Sentence
from flair.embeddings import TransformerEmbeddings
from tests.embeddings.tiny_transformers import make_model_folder
from tests.peft.adapted import assert_equal, build, logits, require, train

peft = pytest.importorskip("peft")

FULL = os.environ.get("FLAIR_TEST_FULL", "") not in ("", "0")
ARCHITECTURES = {
    "bert": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "roberta": ["query", "value"],
    "xlm-roberta": ["query", "value"],
    "electra": ["query", "value"],
    "albert": ["query", "value"],
    "deberta-v2": ["query_proj", "value_proj"],
    "mpnet": ["q", "v"],
    "modernbert": ["Wqkv"],
    "t5": ["q", "v"],
    "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"],
    "qwen2": ["q_proj", "v_proj"],
}
"""Family -> the modules of its attention."""

PROMPTS = {
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "P_TUNING": {"num_virtual_tokens": 4, "encoder_hidden_size": 8},
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "CARTRIDGE": {"num_virtual_tokens": 4},
}
FORMS = {"model.pt": False, "adapters.pt": True, **({"model": False} if FULL else {})}
WITH_CACHE = ("PREFIX_TUNING", "CARTRIDGE")
WITHOUT_CACHE = ("distilbert", "albert", "deberta-v2", "mpnet", "modernbert", "t5")
"""Families whose layers know no cache of keys and values."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("architectures")
    return {kind: make_model_folder(root / kind, kind, max_length=32) for kind in ARCHITECTURES}


SOME = [("classifier", "attention", "float32"), ("linear", "all-linear", "bfloat16")]
ALL = [
    (kind, targets, dtype)
    for kind in ("classifier", "linear")
    for targets in ("attention", "all-linear")
    for dtype in ("float32", "bfloat16")
]


@pytest.mark.parametrize(("kind", "targets", "dtype"), ALL if FULL else SOME)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lora(folders: dict[str, Path], tmp_path: Path, architecture: str, kind: str, targets: str, dtype: str) -> None:
    modules = ARCHITECTURES[architecture] if targets == "attention" else targets
    config = peft.LoraConfig(r=2, target_modules=modules, fan_in_fan_out=architecture == "gpt2")
    model = build(kind, folders[architecture], config, dtype, use_context=kind == "linear")
    before = logits(model)
    train(model)
    assert not torch.equal(before, logits(model))
    for name, adapters_only in FORMS.items():
        model.save(tmp_path / name, adapters_only=adapters_only)
        loaded = type(model).load(tmp_path / name)
        assert_equal(loaded, model)
        assert len(list(loaded.parameters())) == len(list(model.parameters())), "shared weights must stay shared"


@pytest.mark.parametrize("method", PROMPTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_virtual_tokens(folders: dict[str, Path], tmp_path: Path, architecture: str, method: str) -> None:
    """Vectors of tokens and documents come from the text's own positions, and rows leave room for the virtual ones."""
    config = {"peft_type": require(method), **PROMPTS[method]}
    if method in WITH_CACHE and architecture in WITHOUT_CACHE:
        with pytest.raises(ValueError, match=f"{method} does not work with .*past_key_values"):
            build("classifier", folders[architecture], config)
        embedding = TransformerEmbeddings(str(folders[architecture]))
        expected = embedding.encode_documents([Sentence("the fox")])
        with pytest.raises(ValueError, match=method):
            embedding.add_adapter(config)
        assert embedding.peft_config is None
        assert all(parameter.requires_grad for parameter in embedding.parameters())
        assert torch.equal(embedding.encode_documents([Sentence("the fox")]), expected)
        return
    model = build("classifier", folders[architecture], config)
    before = logits(model)
    train(model)
    assert not torch.equal(before, logits(model))
    for name, adapters_only in (("model.pt", False), ("adapters.pt", True)):
        model.save(tmp_path / name, adapters_only=adapters_only)
        assert_equal(type(model).load(tmp_path / name), model)
    embedding = TransformerEmbeddings(
        str(folders[architecture]), cls_pooling="mean", allow_long_sentences=True, peft_config=config
    )
    long = Sentence("George Washington went to Washington and never came back ; " * 3)
    short = Sentence("the quick brown fox")
    tensors = embedding.prepare_tensors([long, short])
    assert tensors["input_ids"].shape[1] <= embedding.tokenizer.model_max_length - 4
    tokens, lengths = embedding.encode_tokens([long, short])
    assert tokens.shape[:2] == (2, len(long))
    assert lengths.tolist() == [len(long), len(short)]
    if architecture != "gpt2":  # windows give up a special token where they meet, and this family has none
        assert bool(tokens[0].any(dim=1).all()), "every token has a vector"
    # what pooling sees has the length of the text
    tensors = embedding.prepare_tensors([short])
    inputs = {key: tensors[key] for key in ("input_ids", "attention_mask")}
    (state,) = embedding._hidden_states(inputs)[-1:]
    assert state.shape[1] == tensors["input_ids"].shape[1]
    assert torch.allclose(embedding.encode_documents([short])[0], state[0].mean(dim=0), atol=1e-5)
