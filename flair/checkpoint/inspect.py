"""What is in a model file, without executing or even building anything from it."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from flair.checkpoint import folder, torch_file
from flair.checkpoint.codec import TAG
from flair.checkpoint.errors import CheckpointError
from flair.checkpoint.files import check_head
from flair.checkpoint.legacy import NAMES, STORAGE_NAMES
from flair.checkpoint.migrations import recognised_class
from flair.checkpoint.storage import Archive, Source
from flair.checkpoint.unpickle import Global, PersistentId, Record


def inspect_file(path: str | Path) -> dict[str, Any]:
    """Describe a model file or folder; unsafe files too, for nothing in them runs.

    Returns:
        ``format``, ``class``, ``versions``, ``dtype`` (elements by type), ``parameters`` (number of elements in
        ``state_dict``), ``tensors``, ``bytes``, ``labels`` (by dictionary), ``adapters`` (by place), ``globals`` (the
        names in the pickle), ``unsafe`` (those of them that make loading refuse), and ``damaged`` (members whose
        checksum is wrong).

    Raises:
        FileNotFoundError: there is nothing at the path.
        CheckpointError: it is no model, or too damaged to read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No model file or folder at {str(path)!r}.")
    return _inspect_folder(path) if path.is_dir() else _inspect_torch_file(path)


def _inspect_folder(path: Path) -> dict[str, Any]:
    config, tensors, _ = folder.read(path)
    shapes = {name: (str(tensor.dtype).removeprefix("torch."), tensor.numel()) for name, tensor in tensors.items()}
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    files = {str(file.relative_to(path)): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()}
    found = _describe(config["state"], shapes, config.get("metadata") or {})
    return {"format": f"flair folder, version {config['flair_format']}", "bytes": size, "files": files, **found}


def _inspect_torch_file(path: Path) -> dict[str, Any]:

    names: dict[str, None] = {}
    source = Source(path, mmap=False)
    try:
        check_head(source, str(path))
        raw, _ = torch_file.read_raw(source, names.setdefault)
        archived = source.read(0, 4) == b"PK\x03\x04"
        damaged = Archive(source).damaged_members() if archived else []
    except CheckpointError as error:
        if str(error).startswith("It "):
            raise CheckpointError(f"{path} is no readable model file. {error}") from error
        raise
    finally:
        source.close()
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds a {type(raw).__name__}, not the state of a model.")
    common = {
        "bytes": path.stat().st_size,
        "globals": sorted(names),
        "unsafe": sorted(name for name in names if name not in NAMES),
        "damaged": damaged,
    }
    if "flair_format" in raw:
        try:
            document = json.loads(raw["config"])
            weights = {**_shapes(raw["tensors"]), **_shapes(raw["state_dict"])}
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: its configuration cannot be read ({error}).") from error
        own = _describe(document, weights, raw.get("metadata") or {})
        return {"format": f"flair file, version {raw['flair_format']}", **own, **common}
    kind = "released flair, torch zip" if archived else "released flair, torch before 1.6"
    return {"format": kind, **_describe(raw, _shapes(raw.get("state_dict")), _released_metadata(raw)), **common}


def _released_metadata(raw: dict[str, Any]) -> dict[str, Any]:
    card = raw.get("model_card")
    pairs = (("flair", "flair_version"), ("torch", "pytorch_version"), ("transformers", "transformers_version"))
    versions = {name: _text(card[key]) for name, key in pairs if key in card} if isinstance(card, dict) else {}
    return {"versions": versions, "class": recognised_class(raw, guess=True)}


def _text(value: Any) -> str:
    """A version, which released files hold as a string or as an object made of one."""
    return str(value.args[0]) if isinstance(value, Record) and value.args else str(value)


def _entries(value: Any) -> dict[Any, Any]:
    """The entries of a dict, or of a record that stands for one."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Record):
        return dict(pair for pair in value.items if isinstance(pair, tuple) and len(pair) == 2)
    return {}


def _shapes(tensors: Any) -> dict[str, tuple[str, int]]:
    """Type and number of elements of unread tensors."""
    found = {}
    for name, value in _entries(tensors).items():
        tensor = value.args[0] if isinstance(value, Record) and "_rebuild_parameter" in value.name else value
        if not isinstance(tensor, Record) or not tensor.name.startswith("torch._utils._rebuild_tensor"):
            continue
        shape = tensor.args[2] if len(tensor.args) > 2 and isinstance(tensor.args[2], tuple) else ()
        count = math.prod(size for size in shape if isinstance(size, int))
        found[str(name)] = (_storage_dtype(tensor.args[0]), count)
    return found


def _storage_dtype(storage: Any) -> str:
    key = storage.key if isinstance(storage, PersistentId) else None
    if isinstance(key, tuple) and len(key) > 1 and isinstance(key[1], Global) and key[1].name in STORAGE_NAMES:
        return str(STORAGE_NAMES[key[1].name]).removeprefix("torch.")
    return "unknown"


def _describe(state: Any, shapes: dict[str, tuple[str, int]], metadata: Any) -> dict[str, Any]:
    metadata = metadata if isinstance(metadata, dict) else {}
    sizes: Counter[str] = Counter()
    for name, (dtype, count) in shapes.items():
        if not name.startswith("/"):
            sizes[dtype] += count
    labels: dict[str, list[str]] = {}
    adapters: dict[str, Any] = {}
    _walk(state, "", labels, adapters)
    return {
        "class": metadata.get("class") or (state.get("__cls__") if isinstance(state, dict) else None),
        "versions": metadata.get("versions") or {},
        "dtype": dict(sizes),
        "parameters": sum(sizes.values()),
        "tensors": len(shapes),
        "labels": labels,
        "adapters": adapters,
    }


def _walk(value: Any, path: str, labels: dict[str, list[str]], adapters: dict[str, Any]) -> None:
    """Find dictionaries of labels and adapter configurations, in documents and in unread pickles."""
    todo: list[tuple[Any, str]] = [(value, path)]
    seen: set[int] = set()
    while todo:
        item, place = todo.pop()
        if not isinstance(item, (dict, list, tuple, Record)) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, (list, tuple)):
            todo.extend((inner, f"{place}/{index}") for index, inner in enumerate(item))
            continue
        entries = _entries(item)
        name = place.rpartition("/")[2]
        if isinstance(item, Record) and item.name == "flair.data.Dictionary" and isinstance(item.state, dict):
            items = item.state.get("idx2item")
            raw = items if isinstance(items, list) else []
            labels[place] = [text.decode("utf-8", "replace") for text in raw if isinstance(text, bytes)]
        elif entries.get(TAG) == "Dictionary" and isinstance(entries.get("value"), dict):
            labels[place] = [str(text) for text in entries["value"].get("items", [])]
        elif name == "peft_config" and entries:
            adapters[place] = sorted(map(str, entries.get("adapters", {}))) or [
                str(entries.get("peft_type", "unknown"))
            ]
        else:
            todo.extend((inner, f"{place}/{key}".lstrip("/")) for key, inner in entries.items())
