"""Options of the methods: whatever they derive from seeds, data or base weights, files bring it back to the bit."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging import version

from tests.embeddings.tiny_transformers import make_model_folder
from tests.peft.adapted import METHODS, QV, assert_equal, build, logits, require, sentences, train

peft = pytest.importorskip("peft")

FULL = os.environ.get("FLAIR_TEST_FULL", "") not in ("", "0")
LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, **QV}

VARIANTS: dict[str, dict[str, Any]] = {
    "LORA-dora": {**LORA, "use_dora": True},
    "LORA-rslora": {**LORA, "use_rslora": True},
    "LORA-bias-all": {**LORA, "bias": "all"},
    "LORA-bias-lora_only": {**LORA, "bias": "lora_only"},
    "LORA-lora_bias": {**LORA, "lora_bias": True},
    "LORA-rank_pattern": {**LORA, "rank_pattern": {"query": 2}},
    "LORA-alpha_pattern": {**LORA, "alpha_pattern": {r"layer\.1.*value": 3}},
    "LORA-regex": {**LORA, "target_modules": r".*layer\.[01]\..*\.(query|key)"},
    "LORA-all-linear": {**LORA, "target_modules": "all-linear"},
    "LORA-exclude": {**LORA, "target_modules": "all-linear", "exclude_modules": ["pooler.dense"]},
    "LORA-layers": {**LORA, "layers_to_transform": [1], "layers_pattern": "layer"},
    "LORA-default-targets": {"r": 4},
    "LORA-saved-pooler": {**LORA, "modules_to_save": ["pooler"]},
    "LORA-saved-embeddings": {**LORA, "modules_to_save": ["word_embeddings"]},
    "LORA-tokens": {**LORA, "trainable_token_indices": [3, 5]},
    "LORA-tokens-dict": {**LORA, "trainable_token_indices": {"word_embeddings": [3, 5]}},
    "LORA-on-embeddings": {**LORA, "target_modules": ["word_embeddings", "query"]},
    "LORA-dora-on-embeddings": {**LORA, "target_modules": ["word_embeddings", "query"], "use_dora": True},
    "LORA-parameters": {"r": 4, "target_parameters": ["attention.self.query.weight"], "target_modules": []},
    "LORA-replication": {**LORA, "layer_replication": [[0, 2], [1, 3]]},
    "LORA-random": {**LORA, "init_lora_weights": False},
    "LORA-gaussian": {**LORA, "init_lora_weights": "gaussian"},
    "LORA-orthogonal": {**LORA, "init_lora_weights": "orthogonal"},
    "LORA-pissa": {**LORA, "init_lora_weights": "pissa"},
    "LORA-pissa_niter": {**LORA, "init_lora_weights": "pissa_niter_4"},
    "LORA-olora": {**LORA, "init_lora_weights": "olora"},
    "LORA-eva": {**LORA, "init_lora_weights": "eva", "eva_config": {"rho": 1.0}},
    "LORA-mica": {**LORA, "init_lora_weights": "mica"},
    "LORA-kasa": {**LORA, "kasa_config": {}},
    "LORA-velora": {**LORA, "velora_config": {"num_groups": 2}},
    "LORA-monteclora": {**LORA, "monteclora_config": {}},
    "LORA-bdlora": {
        **LORA,
        "use_bdlora": {"target_modules_bd_a": ["query"], "target_modules_bd_b": ["value"], "nblocks": 2},
    },
    "LORA-weight-tying": {**LORA, "target_modules": ["word_embeddings"], "ensure_weight_tying": True},
    "ADALORA-bias": {**METHODS["ADALORA"], "bias": "all"},
    "ADAMSS-orthogonal": {**METHODS["ADAMSS"], "init_weights": "orthogonal"},
    "ADAMSS-dynamic": {**METHODS["ADAMSS"], "use_dynamic_rank": True},
    "BOFT-factors": {
        "boft_block_size": 0,
        "boft_block_num": 4,
        "boft_n_butterfly_factor": 2,
        "bias": "boft_only",
        **QV,
    },
    "C3A-gaussian": {**METHODS["C3A"], "init_weights": "gaussian", "bias": "all"},
    "CARTRIDGE-frozen": {"num_virtual_tokens": 4, "num_frozen_tokens": 2},
    "DELORA-bias": {**METHODS["DELORA"], "bias": "all"},
    "FOURIERFT-bias": {**METHODS["FOURIERFT"], "bias": "all", "n_frequency_pattern": {"query": 7}},
    "FROD-projection": {**METHODS["FROD"], "save_projection": False},
    "GRALORA-hybrid": {**METHODS["GRALORA"], "hybrid_r": 2},
    "HRA-gram": {**METHODS["HRA"], "apply_GS": True, "init_weights": False},
    "LOHA-patterns": {**METHODS["LOHA"], "rank_pattern": {"query": 2}},
    "LOKR-decomposed": {**METHODS["LOKR"], "decompose_both": True, "decompose_factor": 2},
    "LOKR-lycoris": {**METHODS["LOKR"], "init_weights": "lycoris"},
    "MISS-bat": {**METHODS["MISS"], "init_weights": "bat"},
    "MISS-mini": {**METHODS["MISS"], "init_weights": "mini", "mini_r": 2},
    "OFT-coft": {"oft_block_size": 4, "coft": True, "eps": 1e-2, "use_cayley_neumann": False, **QV},
    "OFT-shared": {"oft_block_size": 4, "block_share": True, "bias": "oft_only", **QV},
    "OSF-rank": {"target_svd_config": None, "effective_rank": 4, **QV},
    "PREFIX_TUNING-projection": {"num_virtual_tokens": 4, "prefix_projection": True, "encoder_hidden_size": 8},
    "PREFIX_TUNING-zero": {"num_virtual_tokens": 4, "init_weights": "zero"},
    "PROMPT_TUNING-vocabulary": {"num_virtual_tokens": 4, "prompt_tuning_init": "SAMPLE_VOCAB"},
    "P_TUNING-lstm": {
        "num_virtual_tokens": 4,
        "encoder_hidden_size": 8,
        "encoder_reparameterization_type": "LSTM",
        "encoder_num_layers": 2,
    },
    "PSOFT-exact": {**METHODS["PSOFT"], "use_cayley_neumann": False},
    "PVERA-projection": {**METHODS["PVERA"], "save_projection": False},
    "RANDLORA-projection": {**METHODS["RANDLORA"], "save_projection": False},
    "RANDLORA-sparse": {**METHODS["RANDLORA"], "sparse": True},
    "ROAD-2": {**METHODS["ROAD"], "variant": "road_2"},
    "ROAD-4": {**METHODS["ROAD"], "variant": "road_4"},
    "SHIRA-seed": {**METHODS["SHIRA"], "random_seed": 5},
    "SUPERTUNING-indices": {**METHODS["SUPERTUNING"], "save_precomputed_indices": False},
    "TINYLORA-projection": {**METHODS["TINYLORA"], "save_projection": False},
    "TINYLORA-bias": {**METHODS["TINYLORA"], "bias": "all"},
    "UNILORA-bias": {**METHODS["UNILORA"], "bias": "all"},
    "VBLORA-topk": {**METHODS["VBLORA"], "save_only_topk_weights": True},
    "VERA-projection": {**METHODS["VERA"], "save_projection": False},
    "VERA-bias": {**METHODS["VERA"], "bias": "vera_only"},
    "WAVEFT-wavelet": {**METHODS["WAVEFT"], "use_idwt": False},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("variants") / "bert", "bert", max_length=32)


FORMS = {"model.pt": False, "adapters.pt": True, **({"model": False} if FULL else {})}
"""File name -> adapters_only. That folders hold what single files hold is tested with every method in test_matrix."""


def round_trips(model: Any, folder: Path) -> None:
    for name, adapters_only in FORMS.items():
        model.save(folder / name, adapters_only=adapters_only)
        assert_equal(type(model).load(folder / name), model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"] if FULL else ["float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip(folder: Path, tmp_path: Path, variant: str, dtype: str) -> None:
    method = require(variant.partition("-")[0], VARIANTS[variant])
    if variant == "LORA-mica" and version.parse(peft.__version__) < version.parse("0.19"):
        pytest.skip(f"peft {peft.__version__} has no initialisation 'mica'")
    # a context puts [FLERT] into the embedding matrix before the adapters come
    model = build("classifier", folder, {"peft_type": method, **VARIANTS[variant]}, dtype, use_context=True)
    scores = logits(model)
    train(model)
    assert not torch.equal(scores, logits(model))
    round_trips(model, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_initialisation_by_data(folder: Path, tmp_path: Path) -> None:
    """EVA gives every layer the rank that its inputs ask for, which only the configuration can tell."""
    model = build("classifier", folder, peft.LoraConfig(r=4, init_lora_weights="eva", **QV))
    tensors = model.embeddings.prepare_tensors(sentences())
    batches = [{key: tensors[key] for key in ("input_ids", "attention_mask")}] * 3
    peft.initialize_lora_eva_weights(model.embeddings.model, batches, show_progress_bar=False)
    ranks = model.embeddings.peft_config.rank_pattern
    train(model)
    round_trips(model, tmp_path)
    model.save(tmp_path / "again.pt")
    assert type(model).load(tmp_path / "again.pt").embeddings.peft_config.rank_pattern == ranks


def assert_plain_peft_agrees(model: Any, folder: Path, adapter: Path) -> None:
    """What ``save_adapter`` writes does the same around the published transformer."""
    from transformers import AutoModel

    model.embeddings.save_adapter(adapter)
    written = peft.PeftConfig.from_pretrained(str(adapter))
    assert written.init_lora_weights is True
    assert written.r == 2 * model.embeddings.peft_config.r
    base = AutoModel.from_pretrained(folder, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, str(adapter)).eval()
    inputs = model.embeddings.prepare_tensors(sentences())
    inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = model.embeddings.model(**inputs).last_hidden_state
        torch.testing.assert_close(theirs(**inputs).last_hidden_state, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {"lora_alpha": 12},
        {"use_rslora": True, "rank_pattern": {"value": 3}, "alpha_pattern": {"value": 6, "query": 2}},
        {"modules_to_save": ["pooler"]},
    ],
)
def test_adapters_of_a_randomised_initialisation_are_written_as_plain_lora(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    config = {"peft_type": "LORA", **LORA, "init_lora_weights": "pissa_niter_4", **options}
    model = build("classifier", folder, config, use_context_separator=False)
    train(model)
    assert_plain_peft_agrees(model, folder, tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore")
def test_writing_an_adapter_runs_no_code_beside_the_transformer(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the transformer may come from a file, and the folder of that name from whoever made the file."""
    config = {"peft_type": "LORA", **LORA, "init_lora_weights": "pissa_niter_4"}
    model = build("classifier", folder, config, use_context_separator=False)
    foreign = shutil.copytree(folder, tmp_path / "foreign")
    settings = json.loads((foreign / "config.json").read_text())
    settings["auto_map"] = {"AutoConfig": "code.Config", "AutoModel": "code.Network"}
    settings["model_type"] = "foreign"
    (foreign / "config.json").write_text(json.dumps(settings))
    (foreign / "code.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    model.embeddings.base_model_name = str(foreign)
    with pytest.raises(ValueError, match="cannot be written as a plain LoRA"):
        model.embeddings.save_adapter(tmp_path / "adapter")
    assert not (tmp_path / "executed").exists()


@pytest.mark.filterwarnings("ignore")
def test_adapters_that_are_no_plain_lora_say_so(folder: Path, tmp_path: Path) -> None:
    config = {"peft_type": "LORA", **LORA, "init_lora_weights": "pissa_niter_4"}
    model = build("classifier", folder, config, use_context_separator=False)
    layer = model.embeddings.base_model().encoder.layer[0].attention.self.query.base_layer
    with torch.no_grad():
        layer.weight.add_(0.1 * torch.randn_like(layer.weight))  # as LoftQ does, whose change has full rank
    with pytest.raises(ValueError, match=r"differs by more than rank 4.*adapters_only=True"):
        model.embeddings.save_adapter(tmp_path / "adapter")
    model.embeddings.base_model_name = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"nowhere"):
        model.embeddings.save_adapter(tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["corda", "lora_ga"])
def test_initialisation_by_data_that_changes_the_base(folder: Path, tmp_path: Path, method: str) -> None:
    model = build("classifier", folder, None)
    before = model.embeddings.model.encoder.layer[0].attention.self.query.weight.clone()
    if method == "corda":
        pytest.importorskip("attr", reason="peft's CorDA imports attrs without asking for it")
        from peft.tuners.lora.config import CordaConfig
        from peft.tuners.lora.corda import preprocess_corda

        config = peft.LoraConfig(r=4, init_lora_weights="corda", corda_config=CordaConfig(), **QV)
        preprocess_corda(
            model.embeddings.model,
            config,
            run_model=lambda: [model.embeddings.encode_documents([s]) for s in sentences()],
        )
    else:
        loraga = pytest.importorskip("peft.tuners.lora.loraga")
        config = peft.LoraConfig(r=4, init_lora_weights="lora_ga", lora_ga_config=peft.LoraGAConfig(), **QV)
        model.train()

        def backward() -> None:
            model.forward_loss(sentences())[0].backward()

        loraga.preprocess_loraga(model.embeddings.model, config, backward)
    model.embeddings.add_adapter(config)
    train(model)
    after = model.embeddings.base_model().encoder.layer[0].attention.self.query.base_layer.weight
    assert not torch.equal(before, after)
    round_trips(model, tmp_path)
    assert_plain_peft_agrees(model, folder, tmp_path / "adapter")


@pytest.mark.skipif(torch.cuda.is_available(), reason="LoftQ works with a GPU")
def test_loftq_says_what_it_needs(folder: Path) -> None:
    config = peft.LoraConfig(init_lora_weights="loftq", loftq_config={"loftq_bits": 4, "loftq_iter": 1}, **QV)
    with pytest.raises(ValueError, match="CUDA"):
        build("classifier", folder, config)


def test_adalora_after_its_ranks_were_allocated(folder: Path, tmp_path: Path) -> None:
    config = peft.AdaLoraConfig(total_step=12, tinit=1, tfinal=2, deltaT=1, init_r=6, target_r=2, **QV)
    model = build("classifier", folder, config)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    model.train()
    for step in range(12):
        optimizer.zero_grad()
        model.forward_loss(sentences())[0].backward()
        optimizer.step()
        model.embeddings.model.base_model.update_and_allocate(step)
    model.eval()
    round_trips(model, tmp_path)


def test_own_mask_of_shira(folder: Path, tmp_path: Path) -> None:
    """A function on the configuration is used, though no file can hold it."""
    require("SHIRA")
    config = peft.ShiraConfig(r=4, **QV)
    config.mask_fn = lambda layer, r, **options: (torch.arange(256) % 2).view(16, 16).float()
    model = build("classifier", folder, config)
    train(model)
    indices = next(tensor for name, tensor in model.state_dict().items() if "shira_indices" in name)
    assert set(indices[1].tolist()) == set(range(1, 16, 2))
    round_trips(model, tmp_path)
