"""Malicious contents of model files: pickles that call something, and states that ask a library to run code."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Attack = Callable[[dict[str, Any], Path], None]


def packed(pickled: bytes) -> bytes:
    """A torch archive around any pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data/0", b"\x00" * 64)
    return file.getvalue()


def released_file(pickled: bytes) -> bytes:
    """A torch file from before 1.6 around any pickle."""
    from flair.checkpoint.torch_file import LEGACY_MAGICS

    head = [pickle.dumps(value, 2) for value in (1001, {"little_endian": True})]
    return b"".join([LEGACY_MAGICS[0], *head, pickled, pickle.dumps([], 2)])


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def payloads(sentinel: str) -> dict[str, bytes]:
    """A call of os.system by each road a pickle has."""
    command = text(f"touch {sentinel}")
    classic = b"cos\nsystem\n"
    end = b"."
    return {
        "GLOBAL REDUCE": b"\x80\x02" + classic + command + b"\x85R" + end,
        "STACK_GLOBAL": b"\x80\x04" + text("os") + text("system") + b"\x93" + command + b"\x85R" + end,
        "INST": b"(" + command + b"ios\nsystem\n" + end,
        "OBJ": b"(" + classic + command + b"o" + end,
        "NEWOBJ": b"\x80\x02" + classic + command + b"\x85\x81" + end,
        "NEWOBJ_EX": b"\x80\x04" + classic + command + b"\x85}\x92" + end,
        "BUILD": b"\x80\x02cbuiltins\nexec\n)R}" + text("x") + command + b"sb" + end,
        "EXT1": b"\x80\x02\x82\x01" + command + b"\x85R" + end,
        "EXT2": b"\x80\x02\x83\x01\x00" + command + b"\x85R" + end,
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00" + command + b"\x85R" + end,
        "PERSID": b"Pos.system\n.",
        "BINPERSID of a call": classic + command + b"\x85RQ.",
        "dotted": b"\x80\x04" + text("collections") + text("abc.sys.modules") + b"\x93.",
        "getattr": b"cbuiltins\ngetattr\n(cos\n__dict__\nX\x01\x00\x00\x00xtR.",
        "inside a dict": b"}" + text("state_dict") + classic + command + b"\x85Rs.",
        "unpickler in disguise": b"ctorch.storage\n_load_from_bytes\nC\x01.\x85R.",
        "load": b"ctorch\nload\n" + command + b"\x85R.",
        "listed name, unlisted use": b"ctorch.nn.modules.linear\nLinear\n" + command + b"\x85R.",
        "method as attribute": b"ctorch.nn.modules.linear\nLinear\n)\x81}" + text("forward") + classic + b"sb.",
    }


def zipped(files: dict[str, str | bytes]) -> io.BytesIO:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    data.seek(0)
    return data


def _embeddings(state: dict[str, Any]) -> dict[str, Any]:
    return state["document_embeddings"]


def _setting(**values: Any) -> Attack:
    """Replace settings of the embedding; ``HERE`` is a folder with code."""

    def attack(state: dict[str, Any], payload: Path) -> None:
        for name, value in values.items():
            _embeddings(state)[name] = str(payload) if value == "HERE" else value

    return attack


def _config(**values: Any) -> Attack:
    """Replace settings of the transformer's configuration."""

    def attack(state: dict[str, Any], payload: Path) -> None:
        for name, value in values.items():
            _embeddings(state)["config_state_dict"][name] = str(payload) if value == "HERE" else value

    return attack


def _by_name(**values: Any) -> Attack:
    """The transformer is to be loaded from a folder with code, since the file describes none."""

    def attack(state: dict[str, Any], payload: Path) -> None:
        embeddings = _embeddings(state)
        for name in ("config_state_dict", "tokenizer_data"):
            embeddings.pop(name, None)
        embeddings.update(model=str(payload), **values)

    return attack


def _tokenizer(files: dict[str, str | bytes], name: str = "tokenizer_data", **settings: Any) -> Attack:
    def attack(state: dict[str, Any], payload: Path) -> None:
        _embeddings(state)[name] = zipped({**{f: (payload / f).read_text() for f in ("evil.py",)}, **files})
        _embeddings(state)["config_state_dict"].update(settings)

    return attack


def _other_embedding(**params: Any) -> Attack:
    def attack(state: dict[str, Any], payload: Path) -> None:
        state["document_embeddings"] = {
            name: str(payload / value[5:]) if isinstance(value, str) and value.startswith("HERE/") else value
            for name, value in params.items()
        }

    return attack


def _corpus_tokenizer(**info: Any) -> Attack:
    return lambda state, payload: state.update(tokenizer_info=info)


def _base(state: dict[str, Any], payload: Path) -> None:
    description = {"name": str(payload), "revision": None, "fingerprint": "0", "dtypes": "float32", "rows": {}}
    state["base_models"] = {"embeddings": {**description, "keys": {"model.decoder.weight": "decoder.weight"}}}


def _adapter(**values: Any) -> Attack:
    def attack(state: dict[str, Any], payload: Path) -> None:
        lora = {"peft_type": "LORA", "r": 4, "target_modules": ["query", "value"], **values}
        _embeddings(state)["peft_config"] = {"adapters": {"default": lora}, "active": ["default"]}

    return attack


REMOTE = {"trust_remote_code": True}
AUTO = {name: f"modeling_evil.{name}" for name in ("AutoConfig", "AutoModel", "AutoTokenizer")}
TOKENS = '{"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}'

ATTACKS: tuple[Attack, ...] = (
    _setting(**REMOTE),
    _setting(transformers_model_kwargs=REMOTE, transformers_config_kwargs=REMOTE, transformers_tokenizer_kwargs=REMOTE),
    _by_name(),
    _by_name(**REMOTE),
    _by_name(transformers_model_kwargs=REMOTE, transformers_config_kwargs=REMOTE, transformers_tokenizer_kwargs=REMOTE),
    _by_name(state_dict={}),
    _config(model_type="evil", auto_map=AUTO, _name_or_path="HERE"),
    _config(auto_map=AUTO, architectures=["evil.Evil"], _name_or_path="HERE"),
    _config(attn_implementation="evil/kernel"),
    _config(_attn_implementation="evil/kernel", attn_implementation=None),
    _config(_attn_implementation_internal="evil/kernel:module"),
    _config(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}, model_type="evil"),
    _config(quantization_config={"quant_method": "evil.module"}),
    _config(quantization_config={"quant_method": "torchao", "quant_type": {"default": {"_type": "os.system"}}}),
    _setting(quantised_base="HERE"),
    _setting(model="HERE", quantised_base=None),
    _tokenizer({"tokenizer_config.json": TOKENS, "config.json": '{"model_type": "evil", "auto_map": {}}'}),
    _tokenizer({"tokenizer_config.json": TOKENS, "tokenizer.json": "{}"}),
    _tokenizer({"../evil.py": "", "tokenizer.json": "{}"}),
    _tokenizer({"/tmp/evil.py": "", "tokenizer.json": "{}"}),
    _tokenizer({"tokenizer.json": "[" * 100_000}),
    _tokenizer({"tokenizer.json": b"\x00" * 300_000_000}),
    _tokenizer({"tokenizer_config.json": '{"tokenizer_class": "TransfoXLTokenizer"}', "vocab.pkl": b"cos\nsystem\n."}),
    _tokenizer(
        {"preprocessor_config.json": '{"auto_map": {"AutoImageProcessor": "evil.Evil"}}'}, "feature_extractor_data"
    ),
    _tokenizer(
        {"preprocessor_config.json": '{"image_processor_type": "X", "auto_map": {"AutoImageProcessor": "evil.X"}}'},
        "feature_extractor_data",
        model_type="layoutlmv3",
    ),
    _corpus_tokenizer(class_module="os", class_name="system"),
    _corpus_tokenizer(class_module="flair.tokenization", class_name="SpacyTokenizer", model_name="antigravity"),
    _corpus_tokenizer(class_module="flair.tokenization", class_name="SpacyTokenizer", model_name="/etc"),
    _corpus_tokenizer(class_module="flair.tokenization", class_name="TokenizerWrapper", function_module="this"),
    _base,
    _adapter(megatron_config={"x": 1}, megatron_core="hostile_module"),
    _adapter(auto_mapping={"base_model_class": "Evil", "parent_library": "hostile_module"}),
    _adapter(init_lora_weights="corda", corda_config={"cache_file": "HERE/pytorch_model.bin"}),
    _adapter(loftq_config={"loftq_bits": 4}, init_lora_weights="loftq"),
    _adapter(target_modules="(a+)+$" * 3),
    _adapter(runtime_config={"ephemeral_gpu_offload": True}, lora_bias="os.system"),
    _setting(peft_config="HERE"),
    _setting(peft_config={"peft_type": "XLORA", "adapters": {"a": "HERE"}}),
    _setting(peft_config={"peft_type": "LORA", "megatron_config": {}, "megatron_core": "hostile_module"}),
    _other_embedding(__cls__="SentenceTransformerDocumentEmbeddings", model="HERE/", batch_size=1),
    _other_embedding(__cls__="FastTextEmbeddings", embeddings="HERE/vectors.gensim", use_local=True),
    _other_embedding(__cls__="FastTextEmbeddings", fasttext_binary=b"\x80\x02cos\nsystem\n."),
    _other_embedding(__cls__="WordEmbeddings", embeddings="HERE/vectors.gensim", name="x", embedding_length=3),
    _other_embedding(
        __cls__="BytePairEmbeddings", spm_model_binary=b"x", word2vec_binary=b"\x80\x02cos\nsystem\n.", name="x"
    ),
    _other_embedding(__cls__="FlairEmbeddings", model="HERE/pytorch_model.bin", model_params={}),
    _other_embedding(__cls__="TransformerJitDocumentEmbeddings", jit_model=b"PK\x03\x04", param_names=[]),
    _other_embedding(__cls__="TransformerOnnxDocumentEmbeddings", onnx_model="HERE/evil.py", providers=["Evil"]),
    _other_embedding(__cls__="NoSuchEmbeddings"),
    lambda state, payload: state.update(decoder={"__cls__": "os.system"}),
    lambda state, payload: state.update(__cls__="Model"),
    lambda state, payload: state.update(__cls__=["TextClassifier"]),
    lambda state, payload: state.update(dtype="float16"),
    lambda state, payload: state.update(dtype="os.system"),
)
"""Changes of a good classifier's state; ``payload`` is a folder with code in it."""
