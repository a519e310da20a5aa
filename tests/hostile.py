"""Loads mutated and malicious model files in a process that watches what they do. See ``test_checkpoint_attacks.py``.

    python -m tests.hostile COUNT SEED FOLDER

Prints one line of JSON: how many files there were of each family, how they ended, and whatever went wrong.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import logging
import os
import pickletools
import random
import resource
import shutil
import signal
import struct
import sys
import sysconfig
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from flair.checkpoint import CheckpointError, load_state, save_state
from flair.nn import Model
from tests.attacks import ATTACKS, packed, payloads, released_file
from tests.embeddings.tiny_transformers import make_model_folder
from tests.peft.adapted import QV, build

MEMORY = 24 << 30
SECONDS = 30
GOLDEN = Path(__file__).parent / "golden"
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 2**31, 2**63, -(2**70), 1e308, -0.5, "", "x", "../../../evil", "/etc/passwd"),
    *("os.system", "\ud800", "float16", "flair", [], {}, [[]], [None], {"a": {}}, ["x"] * 50, {"__cls__": "X"}),
    *({"__flair__": "tensor", "value": "decoder.weight"}, {"__flair__": "tuple", "value": [1]}, {"__flair__": 1}),
    *({"__flair__": "object", "class": "os.system", "value": {}}, {"__flair__": "file", "value": "decoder.bias"}),
    *({"__flair__": "folder", "value": "..", "names": ["evil"]}, {"__flair__": "float", "value": "nan"}),
)


# --- the watch ---


class Watch:
    """An audit hook: notes what no loading of data does."""

    FORBIDDEN = (
        *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile", "pty.spawn"),
        *(
            "subprocess.Popen",
            "socket.connect",
            "socket.getaddrinfo",
            "socket.bind",
            "webbrowser.open",
            "ctypes.dlopen",
        ),
    )

    def __init__(self, scratch: Path) -> None:
        self.on = False
        self.seen: list[str] = []
        self.scratch = str(scratch)
        installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
        self.installed = tuple(str(Path(path).resolve()) for path in installed if path)
        self.own = str(Path(__file__).resolve().parents[1])
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in self.FORBIDDEN:
            if not (event == "ctypes.dlopen" and self._is_installed(arguments[0])):
                self.note(f"{event} {arguments!r:.200}")
        elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            path = os.path.abspath(os.fsdecode(arguments[0])) if not isinstance(arguments[0], int) else ""
            if path and not path.startswith((self.scratch, "/dev/null")) and "__pycache__" not in path:
                self.note(f"write to {path}")
        elif event == "exec":
            file = getattr(arguments[0], "co_filename", "")
            if os.path.isabs(file) and not self._is_installed(file):
                self.note(f"exec of {file}")
        elif event == "import" and arguments[0] in ("antigravity", "this", "evil", "hostile_module"):
            self.note(f"import of {arguments[0]}")
        elif event == "compile" and isinstance(arguments[1], str) and arguments[1].startswith(self.scratch):
            self.note(f"compile of {arguments[1]}")

    def note(self, what: str) -> None:
        self.seen.append(what)

    def _is_installed(self, file: Any) -> bool:
        return file is None or str(Path(str(file)).resolve()).startswith(
            (*self.installed, self.own, "/lib", "/usr/lib")
        )


# --- the files ---


class Files:
    """Whole models in each format, and the mutations."""

    def __init__(self, place: Path, chance: random.Random) -> None:
        self.place, self.chance = place, chance
        transformer = make_model_folder(place / "transformer", "bert", max_length=32)
        lora = {"peft_type": "LORA", "r": 4, **QV}
        models = {
            "plain": build("classifier", transformer, None),
            "adapted": build("classifier", transformer, lora),
            "tagger": build("rnn", transformer, None),
        }
        self.ours: list[Path] = []
        for name, model in models.items():
            for suffix in (".pt", ""):
                model.save(place / f"{name}{suffix}")
                self.ours.append(place / f"{name}{suffix}")
        for suffix in (".pt", ""):
            models["adapted"].save(place / f"light{suffix}", adapters_only=True)
            self.ours.append(place / f"light{suffix}")
        self.released = sorted(GOLDEN.glob("*.pt"))
        self.released.remove(GOLDEN / "classifier_lora.pt")
        self.old = place / "old.pt"
        state = torch.load(GOLDEN / "classifier_transformer.pt", weights_only=False)
        torch.save(state, self.old, _use_new_zipfile_serialization=False, pickle_protocol=4)

    def single(self) -> list[Path]:
        return [path for path in self.ours if path.suffix]

    def folders(self) -> list[Path]:
        return [path for path in self.ours if not path.suffix]

    def pick(self, options: Any) -> Any:
        return self.chance.choice(list(options))

    # each family gives the path of one new hostile file or folder

    def opcodes(self, target: Path) -> Path:
        """A call amid the pickle of a good file, by a random road at a random place."""
        source = self.pick([*self.released, *self.single()])
        members = read_members(source)
        name = next(name for name in members if name.endswith("/data.pkl"))
        pickled = members[name]
        boundaries = [position for _, _, position in pickletools.genops(pickled) if position is not None]
        road = self.pick(payloads(str(self.place / "executed")).values())
        inserted = road.removeprefix(b"\x80\x02").removeprefix(b"\x80\x04").removesuffix(b".")
        place = self.pick(boundaries[1:])
        members[name] = pickled[:place] + inserted + self.pick([b"0", b"", b"0", b"Q"]) + pickled[place:]
        return write_members(target.with_suffix(".pt"), members)

    def whole_pickles(self, target: Path) -> Path:
        target = target.with_suffix(".pt")
        road = self.pick(payloads(str(self.place / "executed")).values())
        target.write_bytes(self.pick([road, packed(road), released_file(road)]))
        return target

    def pickle_bytes(self, target: Path) -> Path:
        """Wrong bytes in the pickle, right checksums."""
        source = self.pick([*self.released, *self.single()])
        members = read_members(source)
        name = next(name for name in members if name.endswith("/data.pkl"))
        members[name] = self.mutated(members[name])
        return write_members(target.with_suffix(".pt"), members)

    def old_files(self, target: Path) -> Path:
        content = self.old.read_bytes()
        head, tail = content[:9000], content[9000:]
        target = target.with_suffix(".pt")
        target.write_bytes(self.mutated(head) + tail if self.chance.random() < 0.8 else self.mutated(content))
        return target

    def zip_bytes(self, target: Path) -> Path:
        """Flipped bits and cut ends anywhere in the archive, its directory in particular."""
        content = self.pick([*self.released, *self.single()]).read_bytes()
        target = target.with_suffix(".pt")
        if self.chance.random() < 0.5:
            cut = max(0, len(content) - self.chance.randrange(1, 3000))
            target.write_bytes(content[:cut] + self.mutated(content[cut:]))
        else:
            target.write_bytes(self.mutated(content))
        return target

    def zip_members(self, target: Path) -> Path:
        """Members twice, missing, swapped, compressed, of wrong sizes, or with names that lead elsewhere."""
        members = read_members(self.pick([*self.released, *self.single()]))
        names = list(members)
        one = self.pick(names)
        options: dict[str, Any] = {}
        kind = self.chance.randrange(7)
        if kind == 0:
            options["twice"] = one
        elif kind == 1:
            del members[one]
        elif kind == 2:
            members[one], members[names[0]] = members[names[0]], members[one]
        elif kind == 3:
            options["compressed"] = one
        elif kind == 4:
            members[self.pick(["../evil", "/tmp/evil", "a/../../evil", "archive/data/../../evil", "C:\\evil"])] = b"x"
        elif kind == 5:
            members[one] = members[one] * 3 if self.chance.random() < 0.5 else members[one][: len(members[one]) // 2]
        else:
            options["bomb"] = one
        return write_members(target.with_suffix(".pt"), members, **options)

    def documents(self, target: Path) -> Path:
        """Wrong values in the configuration of one file: a damaged description of a whole model."""
        source = self.pick(self.single())
        members = read_members(source)
        name = next(name for name in members if name.endswith("/data.pkl"))
        raw = torch.load(source, weights_only=True)
        document = json.loads(raw["config"])
        for _ in range(self.pick([1, 1, 1, 2, 4])):
            document = self.changed(document)
        with contextlib.suppress(ValueError):  # what JSON cannot hold
            raw["config"] = json.dumps(document, allow_nan=False)
        file = io.BytesIO()
        torch.save(raw, file)
        members = read_members(file)
        assert name.rpartition("/")[2] == "data.pkl"
        return write_members(target.with_suffix(".pt"), members)

    def released_states(self, target: Path) -> Path:
        """The same for files of released versions: any value of the pickled dict replaced."""
        source = self.pick(self.released)
        state = torch.load(source, weights_only=False)
        tensors = state["state_dict"]
        for _ in range(self.pick([1, 1, 2])):
            state = self.changed(state)
        if isinstance(state, dict) and self.chance.random() < 0.3:
            state["state_dict"] = tensors
        target = target.with_suffix(".pt")
        torch.save(state, target, pickle_protocol=4)
        return target

    def folder_documents(self, target: Path) -> Path:
        source = self.pick(self.folders())
        shutil.copytree(source, target)
        config = json.loads((target / "config.json").read_text())
        for _ in range(self.pick([1, 1, 2])):
            config = self.changed(config)
        (target / "config.json").write_text(json.dumps(config))
        return target

    def folder_files(self, target: Path) -> Path:
        """Damaged, missing, linked and added files in a folder."""
        source = self.pick(self.folders())
        shutil.copytree(source, target)
        files = sorted(path for path in target.rglob("*") if path.is_file())
        file = self.pick(files)
        kind = self.chance.randrange(6)
        if kind <= 2:
            content = file.read_bytes()
            head = content[:4000] if file.suffix == ".safetensors" else content
            file.write_bytes(self.mutated(head) + content[len(head) :])
        elif kind == 3:
            file.unlink()
        elif kind == 4:
            file.unlink()
            file.symlink_to(self.pick(["/etc/passwd", "/dev/zero", "..", str(self.place / "nowhere"), file.name]))
        else:
            file.unlink()
            file.mkdir()
            (file / "evil.py").write_text(evil(self.place))
        return target

    def attacks(self, target: Path) -> Path:
        """Well-formed files that ask a library below for something it should not do."""
        source = self.pick([path for path in self.ours if "tagger" not in path.name])
        state = load_state(source)
        del state["origin"]
        attack = self.pick(ATTACKS)
        where = self.place / "payload"
        if not where.exists():
            where.mkdir()
            lay_out_payload(where, self.place)
        attack(state, where)
        target = target.with_suffix(source.suffix)
        save_state(state, target)
        return target

    # -- building blocks

    def mutated(self, content: bytes) -> bytes:
        chance, data = self.chance, bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            if not data:
                break
            place, kind = chance.randrange(len(data)), chance.randrange(5)
            if kind == 0:
                data[place] ^= 1 << chance.randrange(8)
            elif kind == 1:
                data[place] = chance.choice(b'cR\x93\x81\x92iob\x82\x83\x84(.0tae}s\x94r\x8b\x96PQ{}[]",')
            elif kind == 2:
                size = min(4, len(data) - place)
                data[place : place + size] = struct.pack("<I", chance.choice((0, 1, 255, 2**31 - 1, 2**32 - 1)))[:size]
            elif kind == 3:
                del data[place : place + chance.choice((1, 1, 8, 100))]
            else:
                data[place:place] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 4, 50))))
        return bytes(data[: chance.randrange(len(data))]) if data and chance.random() < 0.1 else bytes(data)

    def changed(self, document: Any) -> Any:
        """One random value of a document replaced, removed, renamed or moved."""
        spots = list(spots_of(document))
        if not spots:
            return document
        container, key = self.pick(spots)
        kind = self.chance.randrange(6)
        if kind <= 2:
            container[key] = self.pick(VALUES)
        elif kind == 3:
            del container[key]
        elif kind == 4:
            other, place = self.pick(spots)
            with contextlib.suppress(KeyError, IndexError):
                if not isinstance(other[place], (dict, list)):
                    container[key] = other[place]
        elif isinstance(container, dict):
            container[f"{key}_"] = container.pop(key)
        return document


def spots_of(document: Any) -> Iterator[tuple[Any, Any]]:
    todo = [document]
    while todo:
        item = todo.pop()
        if isinstance(item, (dict, list)) and len(item) < 3000:
            places = list(item) if isinstance(item, dict) else range(len(item))
            for place in places:
                yield item, place
                todo.append(item[place])


def read_members(file: Any) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(
    target: Path, members: dict[str, bytes], twice: str = "", compressed: str = "", bomb: str = ""
) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            if name == bomb:
                content = b"\0" * 50_000_000
            kind = zipfile.ZIP_DEFLATED if name in (compressed, bomb) else zipfile.ZIP_STORED
            archive.writestr(name, content, kind)
            if name == twice:
                archive.writestr(name, content[::-1])
    return target


def evil(place: Path) -> str:
    return f"open({str(place / 'executed')!r}, 'w').close()\nclass Evil:\n    pass\n"


def lay_out_payload(where: Path, place: Path) -> None:
    """A folder on this machine with code that a hostile file may point at."""
    for name in ("modeling_evil.py", "hostile_module.py", "evil.py", "tokenization_evil.py", "configuration_evil.py"):
        (where / name).write_text(evil(place))
    auto = {
        name: f"modeling_evil.{name}" for name in ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoImageProcessor")
    }
    (where / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto, "hidden_size": 16}))
    tokens = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["modeling_evil.Evil", None]}}
    (where / "tokenizer_config.json").write_text(json.dumps(tokens))
    (where / "preprocessor_config.json").write_text(json.dumps({"auto_map": auto}))
    (where / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "modeling_evil.Evil"}]))
    pickled = payloads(str(place / "executed"))["GLOBAL REDUCE"]
    for name in ("pytorch_model.bin", "adapter_model.bin", "vectors.gensim", "vocab.pkl"):
        (where / name).write_bytes(packed(pickled))
    adapter = {"peft_type": "LORA", "r": 4, "target_modules": ["query"], "auto_mapping": {"base_model_class": "Evil"}}
    (where / "adapter_config.json").write_text(json.dumps(adapter))


FAMILIES: tuple[tuple[str, int], ...] = (
    ("opcodes", 4),
    ("whole_pickles", 1),
    ("pickle_bytes", 4),
    ("old_files", 2),
    ("zip_bytes", 3),
    ("zip_members", 3),
    ("documents", 6),
    ("released_states", 4),
    ("folder_documents", 5),
    ("folder_files", 5),
    ("attacks", 4),
)
"""Families of files, and how often each comes."""


# --- the run ---


def _too_slow(*_: object) -> None:
    raise TimeoutError("loading took too long")


def outcome_of(path: Path) -> tuple[str, str]:
    """How loading a file ended: "loaded", "refused", or "wrong" with the reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = Model.load(path)
        for parameter in model.parameters():
            if parameter.is_meta:
                return "wrong", "loaded with weights that were never filled"
        return "loaded", ""
    except (CheckpointError, FileNotFoundError):
        return "refused", ""
    except ImportError as error:
        if "pip install" in str(error):  # a package that is not installed here, called by its name
            return "refused", ""
        return "wrong", "".join(traceback.format_exception(error)[-3:])[-900:]
    except ValueError as error:
        if "needs a CUDA device" in str(error) or "does not support bfloat16" in str(error):
            return "refused", ""
        return "wrong", "".join(traceback.format_exception(error)[-3:])[-900:]
    except BaseException as error:
        return "wrong", f"{type(error).__name__}: " + "".join(traceback.format_exception(error)[-4:])[-900:]


def run(count: int, seed: int, place: Path) -> dict[str, Any]:
    chance = random.Random(seed)
    place.mkdir(parents=True, exist_ok=True)
    (place / "scratch").mkdir()
    tempfile.tempdir = str(place / "scratch")
    files = Files(place, chance)
    for path in (*files.ours, *files.released, files.old):  # imports happen here, and these must load
        Model.load(path)
    with contextlib.suppress(ImportError):
        import urllib3  # noqa: F401 - tries whether there is IPv6, once, by binding a socket
    watch = Watch(place)
    builtins.input = lambda *_: watch.note("a question to the user")  # type: ignore[assignment,return-value]
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _too_slow)
    present = {path.name for path in place.iterdir()} | {"payload"}
    names = [name for name, weight in FAMILIES for _ in range(weight)]
    counts: dict[str, Counter[str]] = {name: Counter() for name, _ in FAMILIES}
    wrong: list[str] = []
    for number in range(count):
        family = names[number % len(names)]
        make: Callable[[Path], Path] = getattr(files, family)
        path = make(place / f"case{number}")
        watch.seen.clear()
        signal.alarm(SECONDS)
        watch.on = True
        result, reason = outcome_of(path)
        watch.on = False
        signal.alarm(0)
        counts[family][result] += 1
        new = {entry.name for entry in place.iterdir()} - present - {path.name}
        problems = [*watch.seen, *(f"left behind {name}" for name in new), *([reason] if result == "wrong" else [])]
        if problems:
            wrong.append(f"{family} #{number} (seed {seed}): {'; '.join(problems)}")
            for name in new:
                entry = place / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    left = [entry.name for entry in (place / "scratch").iterdir() if "torchinductor" not in entry.name]
    return {
        "files": count,
        "outcomes": {name: dict(found) for name, found in counts.items()},
        "wrong": wrong,
        "left": left,
    }


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    print("RESULT " + json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
