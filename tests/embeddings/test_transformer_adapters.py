"""Adapters (PEFT) on transformer embeddings: training, files, handling, exchange with peft, merging."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import sys
from pathlib import Path

import pytest
import torch

from flair.data.sentence import Sentence
from flair.embeddings._transformer.loading import checkpoints_activations
from flair.embeddings.base import load_embeddings
from flair.embeddings.document import TransformerDocumentEmbeddings

peft = pytest.importorskip("peft")
sys.path.insert(0, str(Path(__file__).parent))
from tiny_transformers import make_model_folder  # noqa: E402

QUERY_VALUE = {"target_modules": ["query", "value"]}
METHODS = {
    "LORA": {"r": 4, **QUERY_VALUE},
    "LORA-dora": {"r": 4, "use_dora": True, "use_rslora": True, "bias": "lora_only", **QUERY_VALUE},
    "LORA-pissa": {"r": 4, "init_lora_weights": "pissa", **QUERY_VALUE},
    "LORA-saved-modules": {"r": 4, "modules_to_save": ["word_embeddings"], **QUERY_VALUE},
    "IA3": {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]},
    "LOKR": {"r": 4, **QUERY_VALUE},
    "LN_TUNING": {"target_modules": ["LayerNorm"]},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "FROD": {"progressbar": False, **QUERY_VALUE},
    "PVERA": {"r": 8, **QUERY_VALUE},
}
"""A selection; tests/peft has every method, in models."""


def config(name: str) -> dict:
    return {"peft_type": name.partition("-")[0], **METHODS[name]}


def available(name: str) -> bool:
    return name.partition("-")[0] in {kind.value for kind in peft.PeftType}


def batch() -> list[Sentence]:
    return [Sentence("The quick fox"), Sentence("unbelievable internationalisation of Berlin ; what a waste !")]


def train(embedding, steps: int = 2) -> None:
    embedding.train()
    optimizer = torch.optim.Adam([p for p in embedding.parameters() if p.requires_grad], lr=0.02)
    for _ in range(steps):
        embedding.encode_documents(batch()).float().pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    embedding.eval()


def trainable(embedding) -> set[str]:
    return {name for name, parameter in embedding.named_parameters() if parameter.requires_grad}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(make_model_folder(tmp_path_factory.mktemp("adapters") / "bert", "bert", max_length=32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", METHODS)
def test_trained_adapters_survive_saving_to_the_bit(folder, name, dtype):
    if not available(name):
        pytest.skip(f"this peft does not know {name}")
    torch.manual_seed(0)
    embedding = TransformerDocumentEmbeddings(folder, peft_config=config(name), dtype=dtype, layers="-1,-2")
    untrained = embedding.encode_documents(batch())
    train(embedding)
    expected = embedding.encode_documents(batch())
    assert not torch.equal(untrained, expected)
    saved = embedding.save_embeddings()
    json.dumps(saved["peft_config"])
    torch.manual_seed(1)
    loaded = load_embeddings(saved)
    assert torch.equal(loaded.encode_documents(batch()), expected)
    assert trainable(loaded) == trainable(embedding)
    assert {k: v.dtype for k, v in loaded.state_dict().items()} == {
        k: v.dtype for k, v in embedding.state_dict().items()
    }
    train(loaded, steps=1)


@pytest.mark.parametrize("name", ["LORA", "PROMPT_TUNING", "PVERA"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_keep_adapters(folder, name, copied):
    if not available(name):
        pytest.skip(f"this peft does not know {name}")
    embedding = TransformerDocumentEmbeddings(folder, peft_config=config(name))
    train(embedding)
    assert torch.equal(copied(embedding).encode_documents(batch()), embedding.encode_documents(batch()))


@pytest.mark.parametrize("method", ["ADAPTION_PROMPT", "CPT", "MULTITASK_PROMPT_TUNING", "POLY", "XLORA"])
def test_methods_that_do_not_apply_say_why(folder, method):
    with pytest.raises(ValueError, match=f"{method} cannot be used with TransformerEmbeddings: it"):
        TransformerDocumentEmbeddings(folder, peft_config={"peft_type": method})


def test_unknown_method_and_odd_types(folder):
    with pytest.raises(ValueError, match=r"NO_SUCH.*LORA"):
        TransformerDocumentEmbeddings(folder, peft_config={"peft_type": "NO_SUCH"})
    with pytest.raises(TypeError, match="int"):
        TransformerDocumentEmbeddings(folder, peft_config=3)


def test_missing_targets_list_the_linear_modules(folder):
    with pytest.raises(ValueError, match="dense, key, query, value"):
        TransformerDocumentEmbeddings(folder, peft_config=peft.LoraConfig(target_modules=["q_proj"]))


def test_wrong_task_type_is_corrected(folder, caplog):
    logging.getLogger("flair").propagate = True
    try:
        embedding = TransformerDocumentEmbeddings(
            folder, peft_config=peft.LoraConfig(task_type="SEQ_CLS", **QUERY_VALUE)
        )
    finally:
        logging.getLogger("flair").propagate = False
    assert embedding.peft_config.task_type == "FEATURE_EXTRACTION"
    assert "SEQ_CLS" in caplog.text


def test_virtual_tokens_leave_room_and_vanish(folder):
    from flair.embeddings._transformer.word import TransformerWordEmbeddings

    embedding = TransformerWordEmbeddings(folder, peft_config=config("PROMPT_TUNING"), is_document_embedding=True)
    long = Sentence("George Washington went to Washington and never came back ; " * 3)
    tensors = embedding.prepare_tensors([long])
    assert tensors["input_ids"].shape[1] <= 28
    tokens, lengths = embedding.encode_tokens([long])
    assert tokens.shape[1] == len(long) == lengths[0]
    assert bool(tokens.any(dim=2).all())


def test_several_adapters(folder, tmp_path):
    embedding = TransformerDocumentEmbeddings(folder)
    plain = embedding.encode_documents(batch())
    assert embedding.active_adapters() == []
    embedding.add_adapter(peft.LoraConfig(r=4, **QUERY_VALUE), "one")
    train(embedding)
    one = embedding.encode_documents(batch())
    embedding.add_adapter(peft.LoraConfig(r=2, **QUERY_VALUE), "two")
    assert embedding.active_adapters() == ["two"]
    torch.testing.assert_close(embedding.encode_documents(batch()), plain)
    train(embedding)
    two = embedding.encode_documents(batch())
    embedding.set_adapter("one")
    assert torch.equal(embedding.encode_documents(batch()), one)
    embedding.disable_adapters()
    assert torch.equal(embedding.encode_documents(batch()), plain)
    embedding.enable_adapters()
    assert torch.equal(embedding.encode_documents(batch()), one)

    loaded = load_embeddings(embedding.save_embeddings())
    assert loaded.active_adapters() == ["one"]
    assert torch.equal(loaded.encode_documents(batch()), one)
    loaded.set_adapter("two")
    assert torch.equal(loaded.encode_documents(batch()), two)

    embedding.save_adapter(tmp_path / "two", "two")
    fresh = TransformerDocumentEmbeddings(folder, peft_config=str(tmp_path / "two"))
    assert torch.equal(fresh.encode_documents(batch()), two)
    with pytest.raises(ValueError, match="'one'"):
        embedding.add_adapter(peft.LoraConfig(**QUERY_VALUE), "one")
    with pytest.raises(ValueError, match=r"three.*one, two"):
        embedding.set_adapter("three")
    embedding.delete_adapter("one")
    assert embedding.active_adapters() == ["two"]
    embedding.delete_adapter("two")
    assert embedding.active_adapters() == []
    assert torch.equal(embedding.encode_documents(batch()), plain)
    assert embedding.to_params()["peft_config"] is None
    with pytest.raises(ValueError, match="no adapters"):
        embedding.disable_adapters()
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json"):
        embedding.load_adapter(tmp_path)


def test_plain_peft_reads_saved_adapters_and_we_read_peft(folder, tmp_path):
    from transformers import AutoModel

    embedding = TransformerDocumentEmbeddings(folder, peft_config=config("LORA"), use_context_separator=False)
    train(embedding)
    embedding.save_adapter(tmp_path / "ours")
    model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(folder), str(tmp_path / "ours")).eval()
    tensors = embedding.prepare_tensors(batch())
    with torch.no_grad():
        theirs = model(**tensors, output_hidden_states=True).hidden_states[-1]
        ours = embedding.model(**tensors, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(theirs, ours)
    model.save_pretrained(str(tmp_path / "theirs"))
    again = TransformerDocumentEmbeddings(folder, use_context_separator=False)
    again.load_adapter(tmp_path / "theirs")
    assert torch.equal(again.encode_documents(batch()), embedding.encode_documents(batch()))


@pytest.mark.parametrize("name", ["LORA", "LORA-dora", "IA3", "LOKR"])
def test_merged_adapters_are_a_plain_transformer(folder, name):
    embedding = TransformerDocumentEmbeddings(folder, peft_config=config(name))
    train(embedding)
    before = embedding.encode_documents(batch())
    assert embedding.merge_adapters() < 1e-4
    torch.testing.assert_close(embedding.encode_documents(batch()), before, atol=1e-4, rtol=1e-4)
    assert embedding.to_params()["peft_config"] is None
    assert set(embedding.state_dict()) == set(TransformerDocumentEmbeddings(folder).state_dict())
    loaded = load_embeddings(embedding.save_embeddings())
    assert torch.equal(loaded.encode_documents(batch()), embedding.encode_documents(batch()))


def test_merging_refuses(folder):
    embedding = TransformerDocumentEmbeddings(folder, peft_config=config("LORA"), dtype="bfloat16")
    train(embedding)
    expected = embedding.encode_documents(batch())
    with pytest.raises(ValueError, match="more than the tolerance"):
        embedding.merge_adapters(tolerance=0.0)
    assert torch.equal(embedding.encode_documents(batch()), expected)
    prompt = TransformerDocumentEmbeddings(folder, peft_config=config("PROMPT_TUNING"))
    with pytest.raises(ValueError, match="cannot be merged"):
        prompt.merge_adapters()


def test_gradient_checkpointing(folder):
    embedding = TransformerDocumentEmbeddings(
        folder, peft_config=config("LORA"), peft_gradient_checkpointing_kwargs={"use_reentrant": False}
    )
    assert checkpoints_activations(embedding.base_model())
    train(embedding)
