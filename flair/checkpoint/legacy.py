"""What the names in the pickles of released versions mean: the allow-list, and a plain value for each of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flair.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from flair.checkpoint.objects import NUMPY_TYPES, OWNED, class_by_name, reassemble
from flair.checkpoint.storage import Storages, make_tensor
from flair.checkpoint.unpickle import Global, PersistentId, Record
from flair.data.dictionary import Dictionary

STORAGE_DTYPES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
STORAGE_NAMES: dict[str, torch.dtype] = {
    **{f"torch.{name}": dtype for name, dtype in STORAGE_DTYPES.items()},
    **{f"torch.storage.{name}": torch.uint8 for name in ("UntypedStorage", "_UntypedStorage")},
    "torch.UntypedStorage": torch.uint8,
}
_TORCH_DTYPES = {
    str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype) and "bits" not in str(value)
}
_PATHS = tuple(
    f"pathlib{part}.{kind}" for part in ("", "._local") for kind in ("PosixPath", "WindowsPath", "PurePosixPath")
)
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_PLAIN_CLASSES = (
    *(f"builtins.{kind}" for kind in ("int", "float", "list", "dict", "str")),
    *(f"__builtin__.{kind}" for kind in ("int", "long", "float", "list", "dict", "unicode")),  # protocols 0 to 2
)
_FUNCTIONS = ("torch.nn.functional.gelu", "torch.nn.functional.relu")
"""Attributes of transformer layers; they are named and never called."""


class Resolver:
    """Turns what :func:`~flair.checkpoint.unpickle.read_pickle` returned into values."""

    def __init__(self, storages: Storages) -> None:
        self.storages = storages
        self._done: dict[int, Any] = {}
        self._alive: list[Any] = []

    def resolve(self, value: Any) -> Any:
        kind = type(value)
        if kind in (str, int, float, bool, bytes, complex) or value is None:
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        if kind is dict:
            self._remember(value, value)
            changed = [(k, v) for k, v in value.items() if type(k) not in (str, int, bytes) or not _is_plain(v)]
            for key, item in changed:
                new = self.resolve(key)
                if new is not key:
                    del value[key]
                value[new] = self.resolve(item)
            return value
        if kind is list:
            self._remember(value, value)
            for index, item in enumerate(value):
                if not _is_plain(item):
                    value[index] = self.resolve(item)
            return value
        if kind in (tuple, set, frozenset):
            return self._remember(value, kind(self.resolve(item) for item in value))
        if kind is Record:
            self._remember(value, None)  # an object inside itself becomes None, as none of the listed ones can be
            return self._remember(value, self._record(value))
        if kind is Global:
            return self._class(value.name)
        if kind is PersistentId:
            return self._storage(value.key)
        return value

    def _remember(self, source: Any, result: Any) -> Any:
        self._alive.append(source)
        self._done[id(source)] = result
        return result

    def _class(self, name: str) -> Any:
        if name in _TORCH_DTYPES:
            return _TORCH_DTYPES[name]
        if name in NUMPY_TYPES:
            return NUMPY_TYPES[name]
        return name

    def _record(self, record: Record) -> Any:
        build = BUILDERS.get(record.name)
        if build is not None:
            return build(self, record)
        if record.name in OWNED:
            state: Any = self.resolve(record.state) or {}
            if isinstance(state, tuple) and len(state) == 2:  # (__dict__, slots)
                state = {**(state[0] or {}), **(state[1] or {})}
            return reassemble(class_by_name(record.name), state)
        raise CheckpointError(f"The file calls {record.name}, which it may only name.")

    def _storage(self, key: Any) -> tuple[torch.UntypedStorage, torch.dtype]:
        if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage" or not isinstance(key[1], Global):
            raise CheckpointError("The file refers to something outside of its pickle that is no tensor.")
        dtype = STORAGE_NAMES.get(key[1].name)
        if dtype is None or not isinstance(key[4], int):
            raise CheckpointError(f"The file holds tensors of an unknown kind: {key[1].name}.")
        return self.storages.get(str(key[2]), key[4] * dtype.itemsize), dtype


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (str, int, float, bool, bytes)


def _tensor(resolver: Resolver, record: Record) -> torch.Tensor:
    args = resolver.resolve(record.args)
    storage, dtype = args[0]
    if record.name.endswith("_v3"):
        dtype = args[6]
    tensor = make_tensor(storage, dtype, args[1], args[2], args[3])
    return tensor.requires_grad_() if len(args) > 4 and args[4] is True and tensor.is_floating_point() else tensor


def _parameter(resolver: Resolver, record: Record) -> torch.nn.Parameter:
    data, *rest = resolver.resolve(record.args)
    grad = bool(rest and rest[0]) and (data.is_floating_point() or data.is_complex())
    return torch.nn.Parameter(data.detach(), requires_grad=grad)


def _mapping(resolver: Resolver, record: Record) -> dict[Any, Any]:
    args = [arg for arg in record.args if not isinstance(arg, Global)]
    start = resolver.resolve(args[0]) if args else []
    return {**dict(start), **{resolver.resolve(k): resolver.resolve(v) for k, v in record.items}}


def _dictionary(resolver: Resolver, record: Record) -> Dictionary:
    state = resolver.resolve(record.state)
    items, indices = state["idx2item"], state["item2idx"]
    if not all(isinstance(item, bytes) for item in items) or not all(isinstance(k, bytes) for k in indices):
        raise CheckpointError("A dictionary of labels in the file is damaged: its items are no bytes.")
    dictionary = Dictionary(add_unk=False)
    known = ("idx2item", "item2idx", "add_unk", "multi_label", "span_labels")
    dictionary.__setstate__({key: value for key, value in state.items() if key in known})
    return dictionary


def _bytes_io(resolver: Resolver, record: Record) -> io.BytesIO:
    state = resolver.resolve(record.state)
    raw = state[0] if isinstance(state, tuple) else (record.args[0] if record.args else b"")
    return io.BytesIO(bytes(raw))


def _numpy_dtype(resolver: Resolver, record: Record) -> np.dtype[Any]:
    name = record.args[0]
    kind = np.dtype(str(name))
    if kind.kind not in "biufc" or kind.itemsize > 16:
        raise CheckpointError(f"The file holds a numpy array of type {name!r}; only numbers are accepted.")
    order: Any = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "="
    return kind.newbyteorder(order if order in ("<", ">") else "=")


def _numpy_array(resolver: Resolver, record: Record) -> np.ndarray[Any, Any]:
    _, shape, dtype, fortran, raw = resolver.resolve(record.state)
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(dtype, np.dtype) or not isinstance(raw, (bytes, bytearray)):
        raise CheckpointError("A numpy array in the file is damaged: its data are no bytes.")
    return np.frombuffer(bytearray(raw), dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _numpy_scalar(resolver: Resolver, record: Record) -> Any:
    dtype, raw = resolver.resolve(record.args)
    return np.frombuffer(raw if isinstance(raw, bytes) else raw.encode("latin1"), dtype=dtype)[0]


def _latin1(resolver: Resolver, record: Record) -> bytes:
    text, encoding = record.args
    if encoding != "latin1":
        raise CheckpointError(f"The file encodes bytes as {encoding!r}.")
    return text.encode("latin1")


def _reconstructed(resolver: Resolver, record: Record) -> Any:
    """The way protocols 0 and 1 make instances."""
    cls = record.args[0]
    inner = Record(cls.name, ())
    inner.state, inner.items = record.state, record.items
    return resolver._record(inner)


def _of_first(make: Callable[[Any], Any]) -> Callable[[Resolver, Record], Any]:
    return lambda resolver, record: make(resolver.resolve(record.args[0]) if record.args else ())


BUILDERS: dict[str, Callable[[Resolver, Record], Any]] = {
    **{f"torch._utils._rebuild_tensor{version}": _tensor for version in ("", "_v2", "_v3")},
    **{f"torch._utils._rebuild_parameter{kind}": _parameter for kind in ("", "_with_state")},
    "torch.nn.parameter.Parameter": _parameter,
    "torch.torch_version.TorchVersion": _of_first(str),
    "torch.device": lambda resolver, record: torch.device(*record.args),
    "torch.Size": _of_first(torch.Size),
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "collections.Counter": _mapping,
    "builtins.dict": _mapping,
    **{f"{builtins}.set": _of_first(set) for builtins in ("builtins", "__builtin__")},
    **{f"{builtins}.frozenset": _of_first(frozenset) for builtins in ("builtins", "__builtin__")},
    "flair.data.Dictionary": _dictionary,
    "_io.BytesIO": _bytes_io,
    "io.BytesIO": _bytes_io,
    "_codecs.encode": _latin1,
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
    **{f"{module}._reconstruct": _numpy_array for module in _NUMPY_MODULES},
    **{f"{module}.scalar": _numpy_scalar for module in _NUMPY_MODULES},
    "numpy.dtype": _numpy_dtype,
    **{name: lambda resolver, record: Path(*record.args) for name in _PATHS},
}
"""Callables of the allow-list -> what they stand for."""

NAMES = frozenset(
    [
        *BUILDERS,
        *OWNED,
        *NUMPY_TYPES,
        *_TORCH_DTYPES,
        *STORAGE_NAMES,
        *_PLAIN_CLASSES,
        *_FUNCTIONS,
        "numpy.ndarray",
        "builtins.object",
        "__builtin__.object",
    ]
)
"""Every name that a model file may mention."""


def refuse_unlisted(origin: str) -> Callable[[str], None]:
    """A check for :func:`~flair.checkpoint.unpickle.read_pickle` that names the file."""

    def check(name: str) -> None:
        if name not in NAMES:
            raise UnsafeCheckpointError(
                f"{origin} refers to {name}, which is no part of a model file that this library knows to be data. "
                "Loading it could run any code, so nothing was loaded. If you trust where the file comes from, load it "
                "with allow_pickle=True and save it again; the new file needs no such trust."
            )

    return check
