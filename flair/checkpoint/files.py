"""``save_state`` and ``load_state``: which format, which version, what if it is something else."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch

from flair import _runtime
from flair.checkpoint import folder, torch_file
from flair.checkpoint.atomic import recover, replacing_file
from flair.checkpoint.codec import Decoder, Encoder
from flair.checkpoint.errors import CheckpointError
from flair.checkpoint.limits import check_limits
from flair.checkpoint.migrations import migrate
from flair.checkpoint.storage import Source
from flair.nn.precision import common_dtype, dtype_name


def save_state(
    state: dict[str, Any], path: str | Path | IO[bytes], *, add_files: Callable[[Path], None] | None = None
) -> None:
    """Write a model's state, atomically: a killed process leaves the old file whole, or the new one.

    Args:
        state: what ``_get_state_dict()`` returned.
        path: with a suffix one file, without one a folder (safetensors and JSON); or an open binary file.
        add_files: called with the new folder before it takes its place, to write further files into it (adapters in
            peft's format); not used for single files.

    Raises:
        CheckpointError: some part of the state is no data, or a folder that is no model folder stands in the way.
    """
    encoder = Encoder()
    try:
        document = encoder.encode(dict(state))
    except RecursionError as error:
        raise CheckpointError("Cannot save the state: it is nested too deeply.") from error
    metadata = _metadata(state)
    if not isinstance(path, (str, os.PathLike)):
        torch_file.write(path, document, encoder.tensors, metadata)
        return
    target = Path(path)
    if target.suffix:
        if target.is_dir():
            raise CheckpointError(f"Cannot save a model file at {target}: there is a folder of that name.")
        with replacing_file(target) as file:
            torch_file.write(file, document, encoder.tensors, metadata)
    else:
        folder.write(target, document, encoder.tensors, metadata, add_files)


def _metadata(state: Mapping[str, Any]) -> dict[str, Any]:
    weights = state.get("state_dict")
    dtype = common_dtype(weights.values()) if isinstance(weights, Mapping) else None
    versions = {"flair": _runtime.__version__, "torch": torch.__version__}
    for name in ("transformers", "peft"):
        if name in sys.modules:
            versions[name] = str(getattr(sys.modules[name], "__version__", "unknown"))
    return {
        "versions": {name: str(version) for name, version in versions.items()},
        "class": state.get("__cls__"),
        "dtype": None if dtype is None else dtype_name(dtype),
    }


def load_state(
    path_or_dict: str | Path | IO[bytes] | dict[str, Any],
    *,
    map_location: Any = "cpu",
    allow_pickle: bool = False,
    mmap: bool = True,
) -> dict[str, Any]:
    """Read a model's state: our files and folders, and those of released versions. Nothing in them is executed.

    Args:
        path_or_dict: a path, an open binary file, what ``torch.load`` gives for our files, or an already decoded state
            (which is migrated only).
        map_location: the device of the tensors.
        allow_pickle: run the pickle of a released file as Python would. Only for files you trust.
        mmap: map the weights into memory instead of reading them. The mapping is private.

    Returns:
        The state as ``_get_state_dict()`` returned it, with rich objects decoded; ``origin`` is a line for messages
        that says where it came from.

    Raises:
        FileNotFoundError: there is nothing at the path.
        UnsafeCheckpointError: the file refers to code.
        CheckpointError: the file is damaged, or no model.
    """
    if isinstance(path_or_dict, dict):
        if "flair_format" in path_or_dict:
            return _decode_file(path_or_dict, "The dict")
        return migrate(dict(path_or_dict))
    if isinstance(path_or_dict, (str, os.PathLike)):
        path = recover(Path(path_or_dict))
        if not path.exists():
            raise FileNotFoundError(f"No model file or folder at {str(path_or_dict)!r}.")
        state = _read_folder(path) if path.is_dir() else _read_file(path, str(path), allow_pickle, mmap)
    else:
        stream = path_or_dict if path_or_dict.seekable() else io.BytesIO(path_or_dict.read())
        state = _read_file(cast(io.BytesIO, stream), "The data", allow_pickle, mmap)
    check_limits(state)
    return state if str(map_location) == "cpu" else _moved(state, map_location)


def _moved(value: Any, device: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if type(value) is dict:
        return {key: _moved(item, device) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_moved(item, device) for item in value)
    return value


def _read_folder(path: Path) -> dict[str, Any]:
    config, tensors, files = folder.read(path)
    _check_version(config["flair_format"], folder.FORMAT, str(path))
    return _decode(config["state"], tensors, files, config.get("metadata"), str(path))


def _read_file(file: Path | io.BytesIO, name: str, allow_pickle: bool, mmap: bool) -> dict[str, Any]:
    source = Source(file, mmap)
    try:
        check_head(source, name)
        if allow_pickle and not _is_ours(source):
            return _unpickled(source, name)
        value = torch_file.read(source, name)
    except CheckpointError as error:
        if str(error).startswith("It "):
            raise type(error)(f"{name} is no readable model file. {error}") from error
        raise
    except (MemoryError, OverflowError, RecursionError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{name} is damaged: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{name} is damaged: {type(error).__name__}: {error}") from error
    finally:
        source.close()
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} holds a {type(value).__name__}, not the state of a model.")
    if "flair_format" in value:
        return _decode_file(value, name)
    return _released(value, name)


def _decode_file(value: dict[str, Any], name: str) -> dict[str, Any]:
    _check_version(value["flair_format"], torch_file.FORMAT, name)
    try:
        document = json.loads(value["config"])
        tensors = {**value["tensors"], **value["state_dict"]}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is damaged: its configuration cannot be read ({error}).") from error
    return _decode(document, tensors, {}, value.get("metadata"), name)


def _decode(document: Any, tensors: Mapping[str, Any], files: Any, metadata: Any, name: str) -> dict[str, Any]:
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{name} is damaged: some of its tensors are none.")
    try:
        state = Decoder(tensors, files).decode(document)
    except RecursionError as error:
        raise CheckpointError(f"{name} is damaged: its configuration is nested too deeply.") from error
    except CheckpointError as error:
        raise type(error)(f"{name}: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{name} holds a {type(state).__name__}, not the state of a model.")
    state["origin"] = _origin(name, metadata)
    return state


def _check_version(found: Any, known: int, name: str) -> None:
    if not isinstance(found, int):
        raise CheckpointError(f"{name} is damaged: its format version is {found!r}.")
    if found > known:
        raise CheckpointError(f"{name} has format {found}; this version of flair reads up to {known}. Update flair.")


def _origin(name: str, metadata: Any) -> str:
    versions = metadata.get("versions") if isinstance(metadata, dict) else None
    saved = ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else "a released version"
    running = ", ".join(f"{k} {v}" for k, v in _metadata({})["versions"].items())
    return f"File: {name}; saved with {saved}; running {running}."


def path_in(origin: str) -> str | None:
    """The path in a line of :func:`load_state` about where a state came from."""
    path = origin.removeprefix("File: ").partition("; saved with ")[0]
    return path if origin.startswith("File: ") and path != "The data" else None


def _released(state: dict[str, Any], name: str) -> dict[str, Any]:
    if not any(key in state for key in ("state_dict", "model_states", "__cls__")):
        keys = ", ".join(str(key) for key in list(state)[:5]) or "nothing"
        hint = (
            "It looks like bare weights. " if state and all(isinstance(v, torch.Tensor) for v in state.values()) else ""
        )
        raise CheckpointError(
            f"{name} holds a dict without 'state_dict' (its keys: {keys}). {hint}It is no model file."
        )
    state = migrate(state)
    card = state.get("model_card")
    versions = {"flair": card.get("flair_version", "unknown")} if isinstance(card, dict) else None
    state["origin"] = _origin(name, {"versions": versions})
    return state


def _is_ours(source: Source) -> bool:
    try:
        raw, _ = torch_file.read_raw(source, lambda name: None)
    except CheckpointError:
        return False
    return isinstance(raw, dict) and "flair_format" in raw


def _unpickled(source: Source, name: str) -> dict[str, Any]:
    source.stream.seek(0)
    try:
        state = torch.load(source.stream, map_location="cpu", weights_only=False)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError, AttributeError, ImportError) as error:
        raise CheckpointError(f"{name} cannot be unpickled: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{name} holds a {type(state).__name__}, not the state of a model.")
    return _released(state, name)


def check_head(source: Source, name: str) -> None:
    """Raise for a file that is not even a torch file, saying what it looks like.

    Raises:
        CheckpointError: as said.
    """
    head = source.read(0, min(512, source.size))
    if head.startswith((b"PK\x03\x04", *torch_file.LEGACY_MAGICS)):
        return
    raise CheckpointError(
        f"{name} is no model file: it looks like {_description(head)}. Pass a file or folder that a model's save() "
        "wrote, or the name of a pretrained model."
    )


def _description(head: bytes) -> str:
    text = head.lstrip().lower()
    if not head:
        return "an empty file"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "an HTML page, probably an error message that was downloaded in place of the model"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; the model itself was not downloaded (git lfs pull)"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "a safetensors file; a model saved by flair is a folder with config.json beside model.safetensors"
    for magic, kind in (
        (b"PK", "a zip archive that is cut off or empty"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x89PNG", "a PNG picture"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"%PDF", "a PDF document"),
        (b"\x80", "a pickle, but not one that torch wrote"),
        (b"\x89HDF", "an HDF5 file"),
        (b"GGUF", "a GGUF file"),
    ):
        if head.startswith(magic):
            return kind
    if not any(head[:64]):
        return "zeros, probably a download that was never filled"
    try:
        sample = head.decode("utf-8")[:60]
        return f"a text file that begins with {sample!r}" if sample.isprintable() or "\n" in sample else "binary data"
    except UnicodeDecodeError:
        return "binary data of an unknown kind"
