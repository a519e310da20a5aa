"""Adapters between flair and plain peft, merged models without peft, and several tasks on one base in memory."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from flair.checkpoint import CheckpointError
from flair.embeddings import TransformerDocumentEmbeddings
from flair.models import TextClassifier
from flair.nn import Model
from tests.embeddings.tiny_transformers import make_model_folder
from tests.peft.adapted import (
    METHODS,
    QV,
    assert_equal,
    build,
    config_of,
    logits,
    predictions,
    sentences,
    train,
    trainable,
)

peft = pytest.importorskip("peft")

FULL = os.environ.get("FLAIR_TEST_FULL", "") not in ("", "0")
UNMERGEABLE = ("CARTRIDGE", "LILY", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "SHADOW")
OF_THEIR_OWN = (
    *("ADAMSS", "CARTRIDGE", "FROD", "GLORA", "OSF", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "PSOFT", "SHADOW"),
    *("SHIRA", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA", "VBLORA"),
)
"""Methods that keep their state in some way of their own."""
METHODS_TO_EXCHANGE = METHODS if FULL else ("LORA", "ADALORA", "IA3", "LN_TUNING", "VERA", *OF_THEIR_OWN)
METHODS_TO_MERGE = METHODS if FULL else ("LORA", "ADALORA", "IA3", "LN_TUNING", "OFT", "SHIRA", "PROMPT_TUNING", "LILY")
LORA = {"peft_type": "LORA", "r": 4, **QV}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("exchange") / "bert", "bert", max_length=32)


def hidden(model: Any, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    inputs = {key: tensors[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        return model(**inputs, output_hidden_states=True).hidden_states[-1]


def plain(folder: Path, adapter: Path, dtype: torch.dtype = torch.float32) -> Any:
    from transformers import AutoModel

    return peft.PeftModel.from_pretrained(AutoModel.from_pretrained(folder, dtype=dtype), str(adapter)).eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS_TO_EXCHANGE)
def test_plain_peft_reads_what_we_write_and_we_read_what_it_writes(folder: Path, tmp_path: Path, method: str) -> None:
    model = build("classifier", folder, config_of(method), use_context_separator=False)
    train(model)
    embedding = model.embeddings
    tensors = embedding.prepare_tensors(sentences())
    expected = hidden(embedding.model, tensors)
    embedding.save_adapter(tmp_path / "ours")
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {file.name for file in (tmp_path / "ours").iterdir()}
    theirs = plain(folder, tmp_path / "ours")
    close = 1e-5 if method == "GLORA" else 0.0
    torch.testing.assert_close(hidden(theirs, tensors), expected, atol=close, rtol=close)
    theirs.save_pretrained(str(tmp_path / "theirs"))

    documents = embedding.encode_documents(sentences())
    again = TransformerDocumentEmbeddings(
        str(folder), peft_config=str(tmp_path / "theirs"), use_context_separator=False
    )
    torch.testing.assert_close(again.encode_documents(sentences()), documents, atol=close, rtol=close)
    loaded = TransformerDocumentEmbeddings(str(folder), use_context_separator=False)
    loaded.load_adapter(tmp_path / "theirs", "imported")
    torch.testing.assert_close(loaded.encode_documents(sentences()), documents, atol=close, rtol=close)
    assert loaded.active_adapters() == ["imported"]
    assert any(parameter.requires_grad for parameter in loaded.parameters())
    saved = loaded.save_embeddings()
    torch.testing.assert_close(
        type(loaded).load_embedding(saved).encode_documents(sentences()), documents, atol=close, rtol=close
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("init", ["pissa", "olora", "orthogonal", "gaussian"])
def test_exchange_of_adapters_that_change_the_base(folder: Path, tmp_path: Path, init: str) -> None:
    """Also after a round trip through a file: readers repeat what the initialisation did to the base."""
    model = build("classifier", folder, {**LORA, "init_lora_weights": init}, use_context_separator=False)
    train(model)
    model.save(tmp_path / "model.pt")
    for number, source in enumerate((model, TextClassifier.load(tmp_path / "model.pt"))):
        source.embeddings.save_adapter(tmp_path / f"adapter{number}")
        tensors = model.embeddings.prepare_tensors(sentences())
        theirs = plain(folder, tmp_path / f"adapter{number}")
        torch.testing.assert_close(hidden(theirs, tensors), hidden(model.embeddings.model, tensors))


@pytest.mark.filterwarnings("ignore")
def test_adapters_of_a_task_model(folder: Path, tmp_path: Path) -> None:
    """An adapter trained under a transformers head is used without that head."""
    from transformers import AutoModelForSequenceClassification

    whole = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    config = peft.LoraConfig(r=4, task_type="SEQ_CLS", init_lora_weights=False, **QV)
    wrapped = peft.get_peft_model(whole, config).eval()
    wrapped.save_pretrained(str(tmp_path / "task"))
    embedding = TransformerDocumentEmbeddings(
        str(folder), peft_config=str(tmp_path / "task"), use_context_separator=False
    )
    tensors = embedding.prepare_tensors(sentences())
    inputs = {key: tensors[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = wrapped.base_model.model.bert(**inputs).last_hidden_state
    assert torch.equal(hidden(embedding.model, tensors), expected)


@pytest.mark.filterwarnings("ignore")
def test_adapters_inside_a_saved_model(folder: Path, tmp_path: Path) -> None:
    model = build("classifier", folder, LORA, use_context_separator=False)
    train(model)
    tensors = model.embeddings.prepare_tensors(sentences())
    expected = hidden(model.embeddings.model, tensors)
    model.embeddings.add_adapter({**LORA, "r": 2}, "second")
    for name, adapters_only in (("full", False), ("light", True)):
        model.save(tmp_path / name, adapters_only=adapters_only)
        assert sorted(path.name for path in (tmp_path / name / "adapters").iterdir()) == ["default", "second"]
        assert torch.equal(hidden(plain(folder, tmp_path / name / "adapters" / "default"), tensors), expected)
        assert_equal(TextClassifier.load(tmp_path / name), model)
    with_data = build("classifier", folder, {**LORA, "init_lora_weights": "pissa_niter_4"})
    with_data.save(tmp_path / "changed")
    assert not (tmp_path / "changed" / "adapters").exists()


def test_wrong_adapters_say_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    def using(config: Any) -> TransformerDocumentEmbeddings:
        return TransformerDocumentEmbeddings(str(folder), peft_config=config)

    with pytest.raises(FileNotFoundError, match=r"No adapter at '.*nowhere'.*adapter_config\.json"):
        using(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"'lora_alfa', which LoraConfig does not take. Did you mean 'lora_alpha'"):
        using({**LORA, "lora_alfa": 3})
    with pytest.raises(ValueError, match=r"(?s)NO_SUCH.*LORA"):
        using({"peft_type": "NO_SUCH"})
    with pytest.raises(ValueError, match=r"dense, key, query, value\. Other modules with weights: LayerNorm, "):
        using({**LORA, "target_modules": ["nothing"]})

    model = build("classifier", folder, LORA)
    model.embeddings.save_adapter(tmp_path / "good")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "adapter_config.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds a list"):
        using(str(bad))
    (bad / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="is no adapter configuration"):
        using(str(bad))
    values = json.loads((tmp_path / "good" / "adapter_config.json").read_text())
    (bad / "adapter_config.json").write_text(json.dumps({**values, "peft_type": "NO_SUCH"}))
    with pytest.raises(ValueError, match="'NO_SUCH'"):
        using(str(bad))
    weights = (tmp_path / "good" / "adapter_model.safetensors").read_bytes()
    (bad / "adapter_model.safetensors").write_bytes(weights)
    (bad / "adapter_config.json").write_text(json.dumps({**values, "target_modules": ["query"]}))
    with pytest.raises(ValueError, match=r"no place for: .*value\.lora_A"):
        using(str(bad))
    (bad / "adapter_config.json").write_text(json.dumps({**values, "target_modules": ["query", "key", "value"]}))
    with pytest.raises(ValueError, match=r"places without weights: .*key\.lora_A"):
        using(str(bad))
    (bad / "adapter_config.json").write_text(json.dumps({**values, "r": 2}))
    with pytest.raises(ValueError, match="does not fit this transformer"):
        using(str(bad))
    embedding = TransformerDocumentEmbeddings(str(folder))
    expected = embedding.encode_documents(sentences())
    for adapters in ([], ["good"]):
        for name in adapters:
            embedding.load_adapter(tmp_path / name, name)
        learns = [name for name, parameter in embedding.named_parameters() if parameter.requires_grad]
        with pytest.raises(ValueError, match="does not fit this transformer"):
            embedding.load_adapter(bad, "bad")
        assert embedding.active_adapters() == adapters, "what failed to load leaves nothing behind"
        assert [name for name, parameter in embedding.named_parameters() if parameter.requires_grad] == learns
        torch.testing.assert_close(embedding.encode_documents(sentences()), expected)


def test_saved_modules_that_the_model_lacks_are_mentioned(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logging.getLogger("flair").propagate = True
    try:
        build("classifier", folder, {**LORA, "modules_to_save": ["classifier"]})
    finally:
        logging.getLogger("flair").propagate = False
    assert "'classifier', which BertModel does not have" in caplog.text


def test_merged_model_needs_no_peft(folder: Path, tmp_path: Path) -> None:
    model = build("classifier", folder, {**LORA, "use_dora": True}, use_context=True)
    train(model)
    before = logits(model)
    assert model.embeddings.merge_adapters() < 1e-5
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)
    model.save(tmp_path / "merged.pt")
    model.save(tmp_path / "merged")
    expected = json.dumps(predictions(model))
    script = (
        "import sys, json; sys.modules['peft'] = None\n"
        "from flair.models import TextClassifier\n"
        "from tests.peft.adapted import predictions\n"
        "for path in sys.argv[1:]: print('RESULT', json.dumps(predictions(TextClassifier.load(path))))\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "merged.pt"), str(tmp_path / "merged")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT")]
    assert lines == [f"RESULT {expected}"] * 2, run.stderr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS_TO_MERGE)
def test_merging_succeeds_or_leaves_all_as_it_was(folder: Path, method: str) -> None:
    model = build("classifier", folder, config_of(method))
    train(model)
    before, learning = logits(model), trainable(model).keys()
    if method in UNMERGEABLE:
        with pytest.raises(ValueError, match=f"{method} adapters .*cannot be merged"):
            model.embeddings.merge_adapters()
        assert torch.equal(logits(model), before)
        assert trainable(model).keys() == learning
        return
    assert model.embeddings.merge_adapters() <= 1e-4
    torch.testing.assert_close(logits(model), before, atol=1e-3, rtol=1e-3)
    assert type(model.embeddings.model).__name__ == "BertModel"
    assert not any("default" in name for name in model.state_dict())


def test_merging_while_loading_equals_merging(folder: Path, tmp_path: Path) -> None:
    model = build("classifier", folder, LORA)
    train(model)
    for name, adapters_only in (("model.pt", False), ("adapters.pt", True)):
        model.save(tmp_path / name, adapters_only=adapters_only)
    model.embeddings.merge_adapters()
    for name in ("model.pt", "adapters.pt"):
        loaded = TextClassifier.load(tmp_path / name, merge_adapters=True)
        assert loaded.embeddings.peft_config is None
        assert torch.equal(logits(loaded), logits(model))


def test_new_adapters_on_a_plain_file(folder: Path, tmp_path: Path) -> None:
    plain_model = build("classifier", folder, None)
    adapted = build("classifier", folder, LORA)
    train(adapted)
    adapted.embeddings.save_adapter(tmp_path / "adapter")
    for name in ("plain.pt", "plain"):
        plain_model.save(tmp_path / name)
        for init in (True, "pissa"):
            config = peft.LoraConfig(r=4, init_lora_weights=init, **QV)
            loaded = TextClassifier.load(tmp_path / name, peft_config=config)
            torch.testing.assert_close(logits(loaded), logits(plain_model), atol=1e-5, rtol=1e-5)
            assert {key.rpartition(".lora_")[2][:1] for key in trainable(loaded) if "embeddings" in key} == {"A", "B"}
            train(loaded)
            loaded.save(tmp_path / "again.pt")
            assert_equal(TextClassifier.load(tmp_path / "again.pt"), loaded)
        loaded = TextClassifier.load(tmp_path / name, peft_config=tmp_path / "adapter")
        documents = adapted.embeddings.encode_documents(sentences())
        assert torch.equal(loaded.embeddings.encode_documents(sentences()), documents)


# --- several tasks, one base ---


def unique_bytes(*models: torch.nn.Module) -> int:
    """Memory of all weights, shared ones counted once."""
    tensors = [t for model in models for t in [*model.parameters(), *model.buffers()]]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("suffix", [".pt", ""])
@pytest.mark.parametrize("adapters_only", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_several_tasks_on_one_base(folder: Path, tmp_path: Path, dtype: str, adapters_only: bool, suffix: str) -> None:
    tasks = {
        "topic": build("classifier", folder, LORA, dtype, use_context=True),
        "names": build("crf", folder, {"peft_type": "LOHA", "r": 2, **QV}, dtype),
        "prompted": build("classifier", folder, config_of("PROMPT_TUNING"), dtype),
    }
    for name, model in tasks.items():
        train(model)
        model.save(tmp_path / f"{name}{suffix}", adapters_only=adapters_only)
    separate = {name: Model.load(tmp_path / f"{name}{suffix}") for name in tasks}
    first = Model.load(tmp_path / f"topic{suffix}")
    together = {"topic": first}
    for name in ("names", "prompted"):
        together[name] = Model.load(tmp_path / f"{name}{suffix}", base_model=first)

    def base_addresses(model: Any) -> dict[str, int]:
        weights = model.embeddings.base_model().state_dict()
        names = {name.replace(".base_layer.", "."): value for name, value in weights.items() if "lora_" not in name}
        return {name: value.data_ptr() for name, value in names.items() if "hada_" not in name}

    addresses = base_addresses(first)
    for name in ("names", "prompted"):
        assert base_addresses(together[name]) == addresses, "every weight of the base is the very same memory"
    alone = unique_bytes(first)
    base = sum(weight.numel() * weight.element_size() for weight in first.embeddings.base_model().parameters())
    assert unique_bytes(*together.values()) < alone + 0.6 * base, "tasks add what is theirs, not the base"
    assert unique_bytes(*separate.values()) > 3 * base * 0.9

    for _ in range(2):
        for name, model in together.items():
            assert_equal(model, separate[name])
            assert predictions(model) == predictions(tasks[name])


def test_a_base_may_be_embeddings_or_a_bare_transformer(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    model = build("classifier", folder, LORA, use_context_separator=False)
    train(model)
    model.save(tmp_path / "adapters.pt", adapters_only=True)
    bare = AutoModel.from_pretrained(folder, dtype=torch.float32)
    embedding = TransformerDocumentEmbeddings(str(folder), use_context_separator=False)
    for base in (bare, embedding):
        loaded = TextClassifier.load(tmp_path / "adapters.pt", base_model=base)
        assert_equal(loaded, model)
        inner = base if base is bare else embedding.model
        query = loaded.embeddings.base_model().encoder.layer[0].attention.self.query.base_layer.weight
        assert query.data_ptr() == inner.encoder.layer[0].attention.self.query.weight.data_ptr()
        assert inner.encoder.layer[0].attention.self.query.weight.requires_grad, "the base's own state stays as it was"
    # the base has a [FLERT] row of its own, this model's another value: it is not shared then, and not lost
    resized = build("classifier", folder, {**LORA, "modules_to_save": None}, use_context=True)
    with torch.no_grad():
        resized.embeddings.model.get_input_embeddings().weight[-1] += 1
    resized.save(tmp_path / "resized.pt", adapters_only=True)
    for base in (bare, build("classifier", folder, None, use_context=True)):
        assert_equal(TextClassifier.load(tmp_path / "resized.pt", base_model=base), resized)


def test_a_wrong_base_in_memory_is_refused(folder: Path, tmp_path: Path) -> None:
    model = build("classifier", folder, LORA)
    model.save(tmp_path / "adapters.pt", adapters_only=True)
    model.save(tmp_path / "full.pt")
    other = build("classifier", make_model_folder(tmp_path / "other", "bert", seed=5), None)
    with pytest.raises(CheckpointError, match="given TextClassifier is not the one"):
        TextClassifier.load(tmp_path / "adapters.pt", base_model=other)
    with pytest.raises(CheckpointError, match="no transformer in it"):
        TextClassifier.load(tmp_path / "adapters.pt", base_model=torch.nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match="no weight in common"):
        TextClassifier.load(tmp_path / "full.pt", base_model=build("classifier", folder, None, "bfloat16"))


# --- copies, and what users see ---


@pytest.mark.parametrize("method", [None, "LORA", "PROMPT_TUNING", "PVERA", "SHIRA", "OSF", "FROD"])
@pytest.mark.parametrize("kind", ["classifier", "rnn"])
def test_copies_of_models(folder: Path, kind: str, method: str | None) -> None:
    model = build(kind, folder, config_of(method))
    train(model)
    expected = logits(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_equal(copied, model)
        train(copied, steps=1)
        assert not torch.equal(logits(copied), expected)
        assert torch.equal(logits(model), expected), "a copy is independent"
        assert trainable(copied).keys() == trainable(model).keys()


def test_no_warnings_that_concern_nobody(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build("classifier", folder, LORA, peft_gradient_checkpointing_kwargs={"use_reentrant": False})
        train(model)
        model.save(tmp_path / "model.pt")
        model.embeddings.save_adapter(tmp_path / "adapter")
        model.embeddings.load_adapter(tmp_path / "adapter", "second")
        TextClassifier.load(tmp_path / "model.pt")
