"""Model files: what is saved comes back, whatever the format, and writing is atomic."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flair.checkpoint import CheckpointError, atomic, inspect_file, load_state, register_codec, save_state
from flair.checkpoint.migrations import ROWS, migrate
from flair.data.dictionary import Dictionary
from flair.tokenization import SegtokTokenizer

KILLS = int(os.environ.get("FLAIR_TEST_KILLS", "20"))


def tokenizer_zip() -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("tokenizer.json", '{"model": 1}')
        archive.writestr("vocab.txt", "a\nb\n")
    return packed


def sample() -> dict:
    labels = Dictionary()
    labels.add_item("PER")
    labels.add_item("ü\udc80")
    weight = torch.arange(20.0).reshape(4, 5)
    return {
        "state_dict": {"a.weight": weight, "tied": weight, "half": torch.ones(3, dtype=torch.bfloat16)[1:]},
        "__cls__": "TextClassifier",
        "label_dictionary": labels,
        "document_embeddings": {"tokenizer_data": tokenizer_zip(), "layers": "-1"},
        "model_states": {"t": {"state_dict": {"w": weight[:1].clone()}, "__cls__": "TextClassifier"}},
        "optimizer_state_dict": {
            "state": {0: {"exp_avg": torch.zeros(2), "step": torch.tensor(3.0)}},
            "param_groups": [],
        },
        "pairs": {("PER", "LOC"), ("LOC", "PER")},
        "path": Path("some/where"),
        "dtype_": torch.float16,
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "scalar": np.float32(0.5),
        "raw": b"\x00\xff",
        "tokenizer": SegtokTokenizer(),
        "odd": {"__flair__": "tuple", "value": [1]},
        "big": 2**70,
        "limits": (float("inf"), -0.0, None, True),
    }


def targets(tmp_path: Path) -> list:
    return [tmp_path / "model.pt", tmp_path / "model", io.BytesIO()]


def roundtrip(state: dict, target) -> dict:
    save_state(state, target)
    if isinstance(target, io.BytesIO):
        target.seek(0)
    loaded = load_state(target)
    assert "File:" in loaded.pop("origin")
    return loaded


@pytest.mark.parametrize("kind", range(3), ids=["file", "folder", "memory"])
def test_roundtrip_of_every_kind_of_value(tmp_path, kind):
    state, target = sample(), targets(tmp_path)[kind]
    loaded = roundtrip(state, target)
    assert list(loaded) == list(state)
    for name, tensor in state["state_dict"].items():
        assert torch.equal(loaded["state_dict"][name], tensor)
        assert loaded["state_dict"][name].dtype == tensor.dtype
    assert loaded["state_dict"]["a.weight"] is loaded["state_dict"]["tied"]
    assert torch.equal(loaded["model_states"]["t"]["state_dict"]["w"], state["model_states"]["t"]["state_dict"]["w"])
    assert loaded["optimizer_state_dict"]["state"][0]["step"] == 3
    with zipfile.ZipFile(loaded["document_embeddings"]["tokenizer_data"]) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "tokenizer.json": b'{"model": 1}',
            "vocab.txt": b"a\nb\n",
        }
    assert np.array_equal(loaded["array"], state["array"])
    assert loaded["array"].dtype == np.int16
    plain = [
        k
        for k in state
        if k not in ("state_dict", "model_states", "optimizer_state_dict", "array", "document_embeddings")
    ]
    assert {k: loaded[k] for k in plain} == {k: state[k] for k in plain}
    assert type(loaded["scalar"]) is np.float32


def test_files_need_no_allow_list_and_folders_are_open_formats(tmp_path):
    from safetensors.torch import load_file

    save_state(sample(), tmp_path / "m.pt")
    raw = torch.load(tmp_path / "m.pt", weights_only=True)
    assert set(raw["state_dict"]) == {"a.weight", "tied", "half"}
    save_state(sample(), tmp_path / "m")
    assert "a.weight" in load_file(tmp_path / "m" / "model.safetensors")
    assert (tmp_path / "m" / "tokenizer" / "vocab.txt").read_text() == "a\nb\n"
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["metadata"]["class"] == "TextClassifier"
    assert config["metadata"]["versions"]["torch"] == torch.__version__


def test_a_view_does_not_drag_its_whole_memory_along(tmp_path):
    save_state({"state_dict": {"row": torch.zeros(1000, 1000)[:1]}}, tmp_path / "m.pt")
    assert (tmp_path / "m.pt").stat().st_size < 10_000


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.just("__flair__"), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "origin"), values, max_size=5))
def test_roundtrip_of_any_data(data):
    assert roundtrip({**data, "state_dict": {}}, io.BytesIO()) == {**data, "state_dict": {}}


def test_modules_come_back_without_their_constructor(tmp_path):
    decoder = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    decoder[0].weight.requires_grad = False
    for target in targets(tmp_path):
        loaded = roundtrip({"state_dict": decoder.state_dict(), "decoder": decoder}, target)["decoder"]
        inputs = torch.randn(5, 3)
        assert torch.equal(loaded(inputs), decoder(inputs))
        assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in decoder.parameters()]


class Strange:
    def __init__(self, value: int) -> None:
        self.value = value


def test_unknown_objects_are_named_and_can_be_registered():
    state = {"state_dict": {}, "settings": {"strategy": [Strange(3)]}}
    with pytest.raises(CheckpointError, match=r"settings/strategy/0.*Strange.*register_codec"):
        save_state(state, io.BytesIO())
    register_codec(Strange, "test.Strange", lambda strange: {"value": strange.value}, lambda data: Strange(**data))
    assert roundtrip(state, io.BytesIO())["settings"]["strategy"][0].value == 3
    with pytest.raises(ValueError, match="already registered"):
        register_codec(int, "test.Strange", int, int)


def test_containers_that_hold_themselves_are_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(CheckpointError, match="holds itself"):
        save_state({"state_dict": {}, "loop": loop}, io.BytesIO())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404", "HTML"),
        (b"hello there\nthis is text", "text file"),
        (bytes(range(128, 250)), "looks like"),
        (b"\x00" * 2000, "zeros"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ((40).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "safetensors"),
        (b"PK\x03\x04 and then nothing", "damaged or cut-off zip"),
    ],
)
def test_other_files_are_recognised(tmp_path, content, says):
    file = tmp_path / "x.pt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        load_state(file)


def test_a_zip_of_something_else_and_bare_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme.txt", "hi")
    with pytest.raises(CheckpointError, match=r"readme\.txt"):
        load_state(tmp_path / "x.pt")
    torch.save({"w": torch.zeros(2)}, tmp_path / "y.pt")
    with pytest.raises(CheckpointError, match="bare weights"):
        load_state(tmp_path / "y.pt")
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "nothing.pt")


def test_every_truncation_is_an_error(tmp_path):
    save_state(sample(), tmp_path / "m.pt")
    whole = (tmp_path / "m.pt").read_bytes()
    for size in range(0, len(whole) - 1, 97):
        (tmp_path / "cut.pt").write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            load_state(tmp_path / "cut.pt")


@pytest.mark.parametrize("protocol", [2, 4])
def test_files_of_torch_before_1_6(tmp_path, protocol):
    state = {"state_dict": {"w": torch.arange(6.0).reshape(2, 3), "i": torch.arange(3)}, "x": {1, 2}}
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    loaded = load_state(tmp_path / "old.pt")
    assert torch.equal(loaded["state_dict"]["w"], state["state_dict"]["w"])
    assert torch.equal(loaded["state_dict"]["i"], state["state_dict"]["i"])
    assert loaded["x"] == {1, 2}


def test_a_folder_of_other_things_is_never_overwritten(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"thesis\.tex"):
        save_state(sample(), tmp_path / "work")
    assert (tmp_path / "work" / "thesis.tex").read_text() == "years of work"


def test_files_beside_a_model_survive_saving(tmp_path):
    save_state(sample(), tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("mine")
    save_state(
        {"state_dict": {"new": torch.zeros(1)}}, tmp_path / "m", add_files=lambda f: (f / "extra").write_text("x")
    )
    assert (tmp_path / "m" / "README.md").read_text() == "mine"
    assert (tmp_path / "m" / "extra").read_text() == "x"
    assert not (tmp_path / "m" / "tokenizer").exists()
    assert set(load_state(tmp_path / "m")["state_dict"]) == {"new"}


@pytest.mark.parametrize("name", ["m.pt", "m"])
def test_a_failed_save_leaves_the_old_and_no_litter(tmp_path, name):
    save_state(sample(), tmp_path / name)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            save_state({"state_dict": {}}, tmp_path / name)
    assert set(load_state(tmp_path / name)["state_dict"]) == {"a.weight", "tied", "half"}
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_without_an_exchange_of_folders_two_renames_do(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    for value in range(3):
        save_state({"state_dict": {}, "n": value}, tmp_path / "m")
    assert load_state(tmp_path / "m")["n"] == 2
    # killed between the two renames
    (tmp_path / "m").rename(tmp_path / ".m.00000000-1-abcdef01.old")
    assert load_state(tmp_path / "m")["n"] == 2
    save_state({"state_dict": {}, "n": 7}, tmp_path / "m")
    assert load_state(tmp_path / "m")["n"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


SAVER = """
import os, random, signal, sys, time, torch
from flair.checkpoint import save_state
chance = random.Random(0)
state = {"state_dict": {"w": torch.zeros(50_000)}, "n": 0}
for path in sys.argv[1:]:
    save_state(state, path)
for _ in sys.stdin:  # one line a round
    saver = os.fork()
    while saver == 0:
        state["n"] += 1
        state["state_dict"]["w"].fill_(state["n"])
        for path in sys.argv[1:]:
            save_state(state, path)
    time.sleep(chance.random() * 0.06)
    os.kill(saver, signal.SIGKILL)
    os.waitpid(saver, 0)
    print("killed", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_no_file_is_lost(tmp_path):
    paths = [tmp_path / "m.pt", tmp_path / "m"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", SAVER, *map(str, paths)]
    saver = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    assert saver.stdin is not None
    assert saver.stdout is not None
    with saver:
        for _ in range(KILLS):
            saver.stdin.write("next\n")
            saver.stdin.flush()
            assert saver.stdout.readline() == "killed\n"
            for path in paths:
                state = load_state(path)
                assert torch.all(state["state_dict"]["w"] == state["n"])
        saver.stdin.close()
    for path in paths:
        save_state({"state_dict": {}}, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "m.pt"]


TENSOR_EXAMPLES = {
    "TextClassifier": ("document_embeddings.w", "embeddings.w"),
    "SequenceTagger": ("transitions", "crf.transitions"),
    "SpanClassifier": ("word_embeddings.w", "embeddings.w"),
    "TARSClassifier": ("tars_model.document_embeddings.w", "tars_model.embeddings.w"),
    "TARSTagger": ("tars_model.transitions", "tars_model.crf.transitions"),
    "TextPairClassifier": ("document_embeddings.w", "embeddings.w"),
    "TextPairRegressor": ("document_embeddings.w", "embeddings.w"),
    "TextRegressor": ("document_embeddings.w", "embeddings.w"),
}
COMMON_EXAMPLES = {
    "position_ids": ("embeddings.model.embeddings.position_ids", None),
    "gamma": ("embeddings.model.x.LayerNorm.gamma", "embeddings.model.x.LayerNorm.weight"),
    "beta": ("embeddings.model.x.LayerNorm.beta", "embeddings.model.x.LayerNorm.bias"),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.classes.split()[0]}:{row.old}")
def test_each_row_of_the_migrations(row):
    name = row.classes.split()[0]
    if row.tensors:
        if name == "*":
            old, new = next(pair for word, pair in COMMON_EXAMPLES.items() if word in row.old)
        else:
            old, new = TENSOR_EXAMPLES[name]
        state = migrate({"__cls__": name, "state_dict": {old: torch.zeros(1), "decoder.weight": torch.ones(1)}})
        assert set(state["state_dict"]) == {"decoder.weight", *([new] if new else [])}
        other = migrate({"__cls__": "SomethingElse", "state_dict": {old: torch.zeros(1)}})
        assert (old in other["state_dict"]) == (name != "*")
    elif row.convert is not None:
        state = migrate({"__cls__": name, "state_dict": {}, row.old: 0.25})
        assert state[row.new] == {"default": 0.25}
        assert migrate(state)[row.new] == {"default": 0.25}
    elif row.old != row.new:
        state = migrate({"__cls__": name, "state_dict": {}, row.old: "value"})
        assert state[row.new] == "value"
        assert row.old not in state
    else:
        assert migrate({"__cls__": name, "state_dict": {}})[row.new] == row.default
        assert migrate({"__cls__": name, "state_dict": {}, row.new: "kept"})[row.new] == "kept"


def test_a_file_without_a_class_is_recognised():
    state = migrate({"state_dict": {"transitions": 1}, "tag_dictionary": 1, "use_crf": True, "embeddings": {}})
    assert state["__cls__"] == "SequenceTagger"
    assert state["state_dict"] == {"crf.transitions": 1}


def test_inspection(tmp_path):
    for path in (tmp_path / "m.pt", tmp_path / "m"):
        save_state(sample(), path)
        found = inspect_file(path)
        assert found["class"] == "TextClassifier"
        assert found["labels"]["label_dictionary"] == ["<unk>", "PER", "ü\udc80"]
        assert found["dtype"] == {"float32": 20, "bfloat16": 2} or found["dtype"] == {"float32": 40, "bfloat16": 2}
        json.dumps(found)
    whole = bytearray((tmp_path / "m.pt").read_bytes())
    place = whole.find(torch.arange(20.0).numpy().tobytes())
    whole[place] ^= 1
    (tmp_path / "m.pt").write_bytes(whole)
    assert len(inspect_file(tmp_path / "m.pt")["damaged"]) == 1
