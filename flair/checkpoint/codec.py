"""From a model's state to a JSON-able document and a table of tensors, and back.

Both file formats store the same two things. Objects that JSON lacks become ``{"__flair__": tag, "value": ...}``, and
each tag has one entry in a registry: a file can only ask for what is registered, never name code to import.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from flair.checkpoint.errors import CheckpointError
from flair.checkpoint.objects import NUMPY_TYPES, class_by_name, dismantle, is_owned, name_of, reassemble
from flair.data.dictionary import Dictionary
from flair.tokenization import Tokenizer, tokenizer_from_dict

TAG = "__flair__"


@dataclass(frozen=True)
class Codec:
    """How objects of one class are written: ``encode`` gives anything encodable, ``decode`` undoes it."""

    tag: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_by_class: dict[type, Codec] = {}
_by_tag: dict[str, Codec] = {}


def register_codec(cls: type, tag: str, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
    """Teach model files a class.

    Args:
        cls: the class; its subclasses are not included.
        tag: what the file calls it. The name of the class is a good choice.
        encode: object -> plain containers, strings, numbers, tensors, or other registered objects.
        decode: the inverse of ``encode``.

    Raises:
        ValueError: when the tag is taken by another class.
    """
    if tag in _by_tag and _by_class.get(cls) is not _by_tag[tag]:
        raise ValueError(f"The tag {tag!r} is already registered for another class.")
    _by_class[cls] = _by_tag[tag] = Codec(tag, encode, decode)


class Encoder:
    """Turns a state into a document; the tensors it meets gather in :attr:`tensors`, each stored once."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._stored: dict[tuple[Any, ...], str] = {}
        self._originals: list[torch.Tensor] = []  # keeps addresses from being reused while we compare them
        self._open: set[int] = set()

    def encode(self, value: Any, path: tuple[str, ...] = ()) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}
        if kind in _by_class:
            codec = _by_class[kind]
            return {TAG: codec.tag, "value": self._inside(value, codec.encode(value), path)}
        if isinstance(value, torch.Tensor):
            return {TAG: "tensor", "value": self._store(value, "/" + "/".join(path), path)}
        if isinstance(value, Mapping) and isinstance(value, dict):
            return self._mapping(value, path)
        if kind is list:
            return self._inside(
                value, None, path, lambda: [self.encode(v, (*path, str(i))) for i, v in enumerate(value)]
            )
        if isinstance(value, (tuple, set, frozenset)) and kind in (tuple, set, frozenset, torch.Size):
            items = list(value) if isinstance(value, tuple) else sorted(value, key=repr)
            tag = "size" if kind is torch.Size else kind.__name__
            return {TAG: tag, "value": [self.encode(item, (*path, str(i))) for i, item in enumerate(items)]}
        if isinstance(value, Enum) and isinstance(value, (str, int)):
            return self.encode(value.value, path)
        return self._other(value, path)

    def _other(self, value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, (bytes, bytearray, io.BytesIO)):
            raw = value.getvalue() if isinstance(value, io.BytesIO) else bytes(value)
            tag = {io.BytesIO: "file", bytearray: "bytearray"}.get(type(value), "bytes")
            tensor = torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)
            return {TAG: tag, "value": self._store(tensor, "/" + "/".join(path), path)}
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and value.dtype.isnative:
            data = torch.frombuffer(bytearray(value.tobytes()), dtype=torch.uint8) if value.nbytes else torch.empty(0)
            name = self._store(data, "/" + "/".join(path), path)
            return {TAG: "ndarray", "value": name, "dtype": value.dtype.str, "shape": list(value.shape)}
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            return {TAG: "numpy", "value": self.encode(value.item(), path), "dtype": value.dtype.str}
        if isinstance(value, type) and f"numpy.{value.__name__}" in NUMPY_TYPES:
            return {TAG: "numpy_type", "value": f"numpy.{value.__name__}"}
        if isinstance(value, torch.dtype):
            return {TAG: "dtype", "value": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {TAG: "device", "value": str(value)}
        if isinstance(value, PurePath):
            return {TAG: "path", "value": str(value)}
        if isinstance(value, complex):
            return {TAG: "complex", "value": [self.encode(value.real, path), self.encode(value.imag, path)]}
        if isinstance(value, Tokenizer):
            return {TAG: "tokenizer", "value": self.encode(value.to_dict(), path)}
        if is_owned(type(value)):
            parts = self._inside(value, dismantle(value), path)
            return {TAG: "object", "class": name_of(type(value)), "value": parts}
        where = "/".join(path) or "the state itself"
        raise CheckpointError(
            f"Cannot save {where}: an object of class {type(value).__module__}.{type(value).__qualname__} is no data. "
            "Model files hold plain containers, strings, numbers and tensors. Tell how to write this class with "
            "flair.checkpoint.register_codec(cls, tag, encode, decode), or leave the object out of _get_state_dict()."
        )

    def _inside(self, owner: Any, parts: Any, path: tuple[str, ...], encode: Callable[[], Any] | None = None) -> Any:
        """Encode the contents of a container, which must not contain itself."""
        if id(owner) in self._open:
            raise CheckpointError(f"Cannot save {'/'.join(path)}: the container holds itself.")
        self._open.add(id(owner))
        try:
            return encode() if encode is not None else self.encode(parts, path)
        finally:
            self._open.discard(id(owner))

    def _mapping(self, value: dict[Any, Any], path: tuple[str, ...]) -> Any:
        plain = all(type(key) is str for key in value) and TAG not in value
        if plain and value and all(isinstance(v, torch.Tensor) and type(v) not in _by_class for v in value.values()):
            return self._tensor_table(value, path)
        if plain:
            return self._inside(value, None, path, lambda: {k: self.encode(v, (*path, k)) for k, v in value.items()})
        rows = [[key, item] for key, item in value.items()]
        named = [(str(row[0]) if type(row[0]) in (str, int) else f"#{i}", row) for i, row in enumerate(rows)]
        return {
            TAG: "dict",
            "value": self._inside(
                value,
                None,
                path,
                lambda: [[self.encode(k, (*path, f"{n}#key")), self.encode(v, (*path, n))] for n, (k, v) in named],
            ),
        }

    def _tensor_table(self, value: dict[str, torch.Tensor], path: tuple[str, ...]) -> dict[str, Any]:
        prefix = "" if path == ("state_dict",) else "/" + "/".join(path) + "/"
        stored = {name: self._store(tensor, prefix + name, (*path, name)) for name, tensor in value.items()}
        aliases = {name: other for name, other in stored.items() if other != prefix + name}
        return {TAG: "tensors", "prefix": prefix, "names": list(value), "aliases": aliases}

    def _store(self, tensor: torch.Tensor, name: str, path: tuple[str, ...]) -> str:
        plain = _plain_tensor(tensor, path)
        key = (str(tensor.device), tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))
        if tensor.numel() and key in self._stored:
            return self._stored[key]
        while name in self.tensors:
            name += "'"
        self._stored[key] = name
        self._originals.append(tensor)
        self.tensors[name] = plain
        return name


def _plain_tensor(tensor: torch.Tensor, path: tuple[str, ...]) -> torch.Tensor:
    """A contiguous CPU tensor that owns no more memory than it shows."""
    where = "/".join(path)
    if tensor.is_meta:
        raise CheckpointError(f"Cannot save {where}: the tensor has no data (it is on the meta device).")
    if tensor.layout is not torch.strided or tensor.is_quantized or hasattr(type(tensor), "__tensor_flatten__"):
        raise CheckpointError(
            f"Cannot save {where}: a tensor of class {type(tensor).__module__}.{type(tensor).__qualname__} and layout "
            f"{tensor.layout} has no plain memory. Dequantise or densify it, or register a codec for its class."
        )
    plain = tensor.detach()
    if type(plain) is not torch.Tensor:
        plain = plain.as_subclass(torch.Tensor)
    plain = plain.cpu().resolve_conj().resolve_neg().contiguous()
    if plain.untyped_storage().nbytes() != plain.numel() * plain.element_size():
        plain = plain.clone()
    return plain


class Decoder:
    """Undoes :class:`Encoder`. Anything that no encoder could have written is a :class:`CheckpointError`."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], files: Mapping[str, bytes] | None = None) -> None:
        self.tensors = tensors
        self.files = files or {}
        self.used: set[str] = set()

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if TAG not in value:
            return {key: self.decode(item) for key, item in value.items()}
        try:
            return self._tagged(value[TAG], value)
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"Damaged entry of kind {value[TAG]!r}: {type(error).__name__}: {error}") from error

    def _tensor(self, name: Any) -> torch.Tensor:
        if name not in self.tensors:
            raise CheckpointError(f"The file refers to a tensor {name!r} that it does not hold.")
        self.used.add(name)
        return self.tensors[name]

    def _bytes(self, name: Any) -> bytes:
        return self._tensor(name).numpy().tobytes()

    def _tagged(self, tag: Any, entry: dict[str, Any]) -> Any:
        if tag == "tensors":
            prefix, aliases = entry["prefix"], entry["aliases"]
            return {name: self._tensor(aliases.get(name, prefix + name)) for name in entry["names"]}
        if tag == "ndarray":
            shape = tuple(int(size) for size in entry["shape"])
            return np.frombuffer(bytearray(self._bytes(entry["value"])), dtype=_numpy_dtype(entry["dtype"])).reshape(
                shape
            )
        if tag == "numpy":
            return _numpy_dtype(entry["dtype"]).type(self.decode(entry["value"]))
        if tag == "object":
            return reassemble(class_by_name(entry["class"]), self.decode(entry["value"]))
        if tag in _READERS:
            return _READERS[tag](self, entry["value"])
        if tag not in _by_tag:
            raise CheckpointError(
                f"The file holds an object of kind {tag!r}, which is not known here. "
                "Import the module that registers it (flair.checkpoint.register_codec), then load again."
            )
        return _by_tag[tag].decode(self.decode(entry["value"]))


def _numpy_dtype(name: Any) -> np.dtype[Any]:
    kind = np.dtype(str(name))
    if kind.kind not in "biufc":
        raise CheckpointError(f"The file holds a numpy array of type {name!r}; only numbers are accepted.")
    return kind


def _torch_dtype(name: Any) -> torch.dtype:
    found = getattr(torch, str(name), None)
    if not isinstance(found, torch.dtype):
        raise CheckpointError(f"The file names a dtype {name!r} that torch does not have.")
    return found


_READERS: dict[str, Callable[[Decoder, Any], Any]] = {
    "float": lambda decoder, value: float(value),
    "tensor": lambda decoder, value: decoder._tensor(value),
    "dict": lambda decoder, value: {decoder.decode(key): decoder.decode(item) for key, item in value},
    "tuple": lambda decoder, value: tuple(decoder.decode(value)),
    "set": lambda decoder, value: set(decoder.decode(value)),
    "frozenset": lambda decoder, value: frozenset(decoder.decode(value)),
    "size": lambda decoder, value: torch.Size(decoder.decode(value)),
    "bytes": lambda decoder, value: decoder._bytes(value),
    "bytearray": lambda decoder, value: bytearray(decoder._bytes(value)),
    "file": lambda decoder, value: io.BytesIO(decoder._bytes(value)),
    "folder": lambda decoder, value: io.BytesIO(decoder.files[value]),
    "folder_bytes": lambda decoder, value: decoder.files[value],
    "numpy_type": lambda decoder, value: NUMPY_TYPES[value],
    "dtype": lambda decoder, value: _torch_dtype(value),
    "device": lambda decoder, value: torch.device(value),
    "path": lambda decoder, value: Path(value),
    "complex": lambda decoder, value: complex(*decoder.decode(value)),
    "tokenizer": lambda decoder, value: tokenizer_from_dict(decoder.decode(value)),
}

register_codec(Dictionary, "Dictionary", Dictionary.to_dict, Dictionary.from_dict)
