"""Hostile and damaged model files: nothing runs, and each ends in one of our errors or in a correct load."""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import struct
import zipfile

import pytest
import torch

from flair.checkpoint import CheckpointError, UnsafeCheckpointError, inspect_file, load_state, save_state
from flair.checkpoint.codec import Decoder
from flair.data.dictionary import Dictionary
from tests.attacks import packed, payloads

MUTATIONS = 1500


def test_no_opcode_runs_anything(tmp_path):
    sentinel = tmp_path / "executed"
    for road, pickled in payloads(str(sentinel)).items():
        file = tmp_path / "evil.pt"
        for content in (packed(pickled), pickled):
            file.write_bytes(content)
            with pytest.raises(CheckpointError):
                load_state(file)
            assert not sentinel.exists(), road


def test_the_error_names_what_was_refused_and_the_way_out(tmp_path):
    file = tmp_path / "evil.pt"
    file.write_bytes(packed(payloads("x")["GLOBAL REDUCE"]))
    with pytest.raises(UnsafeCheckpointError, match=r"evil\.pt refers to os\.system.*allow_pickle=True"):
        load_state(file)
    found = None
    with pytest.raises(CheckpointError, match="holds a Record"):
        found = inspect_file(file)
    assert found is None


def test_allow_pickle_is_the_way_out(tmp_path):
    state = {"state_dict": {}, "__cls__": "X", "when": __import__("datetime").date(2020, 1, 2)}
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(UnsafeCheckpointError, match=r"datetime\.date"):
        load_state(tmp_path / "m.pt")
    assert load_state(tmp_path / "m.pt", allow_pickle=True)["when"].year == 2020
    assert inspect_file(tmp_path / "m.pt")["unsafe"] == ["datetime.date"]


class _FakeTensor:
    def __init__(self, *args) -> None:
        self.args = args

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.args


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return ("storage", torch.FloatStorage, "0", "cpu", 16) if obj == "memory" else None


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (17,), (1,)),
        (10, (7,), (1,)),
        (0, (4,), (-1,)),
        (-1, (4,), (1,)),
        (0, (2**40,), (0,)),
        (0, (2**70,), (0,)),
        (0, (0, 2**61, 2**61), (1, 1, 1)),
        (0, (2,), (2**61,)),
        (0, (2, 2), (1,)),
        (0, ("a",), (1,)),
        (0, (True,), (1,)),
    ],
)
def test_tensors_stay_inside_their_memory(tmp_path, offset, shape, stride):
    raw = io.BytesIO()
    _Pickler(raw, 2).dump({"state_dict": {"w": _FakeTensor("memory", offset, shape, stride, False, None)}})
    (tmp_path / "m.pt").write_bytes(packed(raw.getvalue()))
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "m.pt")


def test_announced_sizes_take_no_memory(tmp_path):
    for pickled in (
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x8b\xff\xff\xff\x7f.",
        b"(" * 200_000 + b".",
        b"]" + b"]" * 100_000 + b"a" * 100_000 + b".",
        b"I" + b"9" * 9000 + b"\n.",
    ):
        (tmp_path / "m.pt").write_bytes(packed(pickled))
        with pytest.raises(CheckpointError):
            load_state(tmp_path / "m.pt")


def test_compressed_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"]" * 1_000_000)
    with pytest.raises(CheckpointError, match="compressed"):
        load_state(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "entry",
    [
        {"__flair__": "object", "class": "os.system", "value": {}},
        {"__flair__": "object", "class": "torch.nn.modules.linear.Linear", "value": {"attributes": {"forward": 1}}},
        {"__flair__": "tokenizer", "value": {"class_module": "os", "class_name": "system"}},
        {"__flair__": "dtype", "value": "load"},
        {"__flair__": "numpy", "dtype": "O", "value": 1},
        {"__flair__": "tensor", "value": "nowhere"},
        {"__flair__": "unheard of", "value": 1},
        {"__flair__": ["list"], "value": 1},
        {"__flair__": "dict", "value": [[[], 1]]},
        {"__flair__": "Dictionary", "value": {"items": 3}},
    ],
)
def test_documents_ask_for_nothing_unlisted(entry):
    with pytest.raises(CheckpointError):
        Decoder({}).decode(entry)


def released_bytes() -> bytes:
    labels = Dictionary()
    labels.add_item("PER")
    state = {
        "state_dict": torch.nn.Linear(3, 2).state_dict(),
        "__cls__": "TextClassifier",
        "tokenizer_data": io.BytesIO(b"zip"),
        "label_dictionary": labels,
        "pairs": {("a", "b")},
        "decoder": torch.nn.Linear(2, 2),
    }
    file = io.BytesIO()
    torch.save(state, file, pickle_protocol=4)
    return file.getvalue()


def our_bytes() -> bytes:
    file = io.BytesIO()
    save_state(load_state(io.BytesIO(released_bytes())), file)
    return file.getvalue()


def mutated(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    where = content.find(b"\x80", 1, 400)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        span = range(where, min(len(data), where + 2500)) if chance.random() < 0.7 else range(len(data))
        place = chance.choice(span)
        kind = chance.randrange(4)
        if kind == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place] = chance.choice(b"cR\x93\x81\x92iob\x82\x83\x84(.0tae}s\x94r\x8b\x96PQ")
        elif kind == 2:
            data[place : place + 4] = struct.pack("<I", chance.choice((0, 1, 255, 2**31 - 1, 2**32 - 1)))
        else:
            del data[chance.choice((place, len(data) - 1)) :][:1]
    return bytes(data[: chance.randrange(len(data))]) if chance.random() < 0.1 else bytes(data)


@pytest.mark.parametrize("make", [released_bytes, our_bytes], ids=["released", "ours"])
def test_mutated_files(tmp_path, make):
    chance = random.Random(7)
    content = make()
    file = tmp_path / "m.pt"
    outcomes = {"error": 0, "loaded": 0}
    for _ in range(MUTATIONS):
        file.write_bytes(mutated(content, chance))
        try:
            assert isinstance(load_state(file), dict)
            outcomes["loaded"] += 1
        except CheckpointError:
            outcomes["error"] += 1
    assert outcomes["error"] > MUTATIONS / 4
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_mutated_folders(tmp_path):
    chance = random.Random(8)
    path = tmp_path / "m"
    save_state(load_state(io.BytesIO(released_bytes())), path)
    originals = {name: (path / name).read_bytes() for name in ("config.json", "model.safetensors")}
    for _ in range(300):
        name = chance.choice(list(originals))
        data = bytearray(originals[name])
        for _ in range(chance.choice((1, 3))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (path / name).write_bytes(bytes(data[: chance.randrange(len(data))]) if chance.random() < 0.2 else bytes(data))
        with contextlib.suppress(CheckpointError):
            assert isinstance(load_state(path), dict)
        (path / name).write_bytes(originals[name])
