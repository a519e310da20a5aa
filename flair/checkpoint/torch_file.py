"""The one-file format: a zip as ``torch.save`` writes it, which ``torch.load(weights_only=True)`` reads.

Our own files hold ``{"flair_format", "metadata", "config", "state_dict", "tensors"}``: the document as JSON text, the
model's weights by name, and the other tensors and binary data by the place where they stand. Released files hold a
pickled dict; older ones lack the zip around it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any

import torch

from flair.checkpoint.errors import CheckpointError
from flair.checkpoint.legacy import STORAGE_NAMES, Resolver, refuse_unlisted
from flair.checkpoint.storage import Archive, Source, Storages
from flair.checkpoint.unpickle import Global, PersistentId, Record, read_pickle

FORMAT = 1
LEGACY_MAGICS = tuple(pickle.dumps(0x1950A86A20F9469CFC6C, protocol) for protocol in (2, 3, 4, 5))
"""The first pickle of a torch file from before 1.6: a magic number. Released versions of flair used protocol 4."""


def write(
    file: IO[bytes], document: dict[str, Any], tensors: Mapping[str, torch.Tensor], metadata: dict[str, Any]
) -> None:
    """Write a document and its tensors."""
    entry = document.get("state_dict")
    weights: dict[str, torch.Tensor] = {}
    if isinstance(entry, dict) and "names" in entry:
        aliases = entry["aliases"]
        weights = {name: tensors[aliases.get(name, name)] for name in entry["names"]}
    others = {name: tensor for name, tensor in tensors.items() if name not in weights or weights[name] is not tensor}
    payload = {
        "flair_format": FORMAT,
        "metadata": metadata,
        "config": json.dumps(document, allow_nan=False),
        "state_dict": weights,
        "tensors": others,
    }
    torch.save(payload, file)


def read(source: Source, origin: str) -> Any:
    """The object in a torch file, as plain values and tensors.

    Raises:
        UnsafeCheckpointError: it refers to anything but data.
        CheckpointError: it is damaged.
    """
    raw, storages = read_raw(source, refuse_unlisted(origin))
    return Resolver(storages).resolve(raw)


def read_raw(source: Source, allow: Callable[[str], None]) -> tuple[Any, Storages]:
    """The pickle of a torch file, uninterpreted, and where its tensors are."""
    if source.read(0, min(64, source.size)).startswith(LEGACY_MAGICS):
        return _read_old(source, allow)
    archive = Archive(source)
    if "constants.pkl" in archive or "code" in archive:
        raise CheckpointError("It is a TorchScript program, not a model file.")
    raw, _ = read_pickle(archive.read("data.pkl"), allow)
    return raw, Storages(source, archive)


def _read_old(source: Source, allow: Callable[[str], None]) -> tuple[Any, Storages]:
    """Files from before torch 1.6: magic, version, machine, object and storage keys as pickles, then the storages."""
    data = memoryview(source.read(0, source.size))
    at = 0
    parts = []
    for _ in range(5):
        part, used = read_pickle(data[at:], allow)
        parts.append(part)
        at += used
    if parts[1] != 1001 or not isinstance(parts[4], list):
        raise CheckpointError("It is an old torch file of an unknown version.")
    sizes = dict(_storage_sizes(parts[3]))
    where = {}
    for key in parts[4]:
        if not isinstance(key, str) or key not in sizes:
            raise CheckpointError("It is a damaged old torch file: it lists memory that no tensor uses.")
        count = int.from_bytes(source.read(at, 8), "little")
        if count < 0 or count * sizes[key] > source.size:
            raise CheckpointError("It is a damaged old torch file: its tensor memory is cut off.")
        where[key] = (at + 8, count * sizes[key])
        at += 8 + count * sizes[key]
    return parts[3], Storages(source, where)


def _storage_sizes(value: Any) -> list[tuple[str, int]]:
    """Bytes per element of each storage that an object refers to."""
    found: list[tuple[str, int]] = []
    seen: set[int] = set()
    todo = [value]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, (str, bytes, int, float, Global)):
            continue
        seen.add(id(item))
        if isinstance(item, PersistentId):
            key = item.key
            if isinstance(key, tuple) and len(key) > 4 and isinstance(key[1], Global) and key[1].name in STORAGE_NAMES:
                found.append((str(key[2]), STORAGE_NAMES[key[1].name].itemsize))
        elif isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            todo.extend(item)
        elif isinstance(item, Record):
            todo.extend([item.args, item.state, item.items])
    return found
