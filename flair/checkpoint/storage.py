"""The memory of tensors in a file: members of an uncompressed zip, mapped rather than read."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flair.checkpoint.errors import CheckpointError

_ALIGNMENT = 16  # vectorised kernels may read so much at once
_MOST_EXPANDED = 1 << 24  # elements that a tensor may show beyond those it owns (stride 0)


class Source:
    """A file or buffer of which byte ranges become storages, mapped where it is a file on disk."""

    def __init__(self, file: Path | io.BufferedIOBase | io.BytesIO, mmap: bool = True) -> None:
        self.stream: Any
        if isinstance(file, Path):
            self.stream = open(file, "rb")  # noqa: SIM115 - closed by close()
            self.path: Path | None = file
        else:
            self.stream = file
            self.path = None
        self.mmap = mmap and self.path is not None
        self.size = self.stream.seek(0, io.SEEK_END)
        self._whole: Any = None

    def close(self) -> None:
        if self.path is not None:
            self.stream.close()

    def read(self, start: int, size: int) -> bytes:
        if start < 0 or size < 0 or start + size > self.size:
            raise CheckpointError(f"The file is cut off: {size} bytes were announced at byte {start} of {self.size}.")
        self.stream.seek(start)
        return self.stream.read(size)

    def storage(self, start: int, size: int) -> torch.UntypedStorage:
        """The bytes of a range; a mapping is private, so writing to the tensor leaves the file alone."""
        if start < 0 or size < 0 or start + size > self.size:
            raise CheckpointError(f"The file is cut off: {size} bytes were announced at byte {start} of {self.size}.")
        if size == 0:
            return torch.UntypedStorage(0)
        if self.mmap and start % _ALIGNMENT == 0:
            if self._whole is None:
                self._whole = torch.UntypedStorage.from_file(str(self.path), False, self.size)
            return self._whole[start : start + size]
        return torch.frombuffer(bytearray(self.read(start, size)), dtype=torch.uint8).untyped_storage()


class Archive:
    """A zip as torch writes it: members are stored as they are, below one folder."""

    def __init__(self, source: Source) -> None:
        self.source = source
        try:
            self._zip = zipfile.ZipFile(source.stream)
        except (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError) as error:
            raise CheckpointError(f"It is a damaged or cut-off zip archive ({error}).") from error
        self.members = {info.filename: info for info in self._zip.infolist()}
        pickles = [name for name in self.members if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(pickles) != 1:
            some = ", ".join(sorted(self.members)[:5]) or "nothing"
            raise CheckpointError(f"It is a zip archive without a model in it (it holds {some}).")
        self.prefix = pickles[0].removesuffix("data.pkl")
        order = f"{self.prefix}byteorder"
        if order in self.members and self.read("byteorder").strip() != sys.byteorder.encode():
            raise CheckpointError("It was written on a machine of another byte order.")

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.members

    def locate(self, name: str) -> tuple[int, int]:
        """Where a member's bytes begin, and how many there are."""
        info = self.members.get(self.prefix + name)
        if info is None:
            raise CheckpointError(f"It lacks the member {name!r}.")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise CheckpointError(f"Its member {name!r} is compressed or encrypted; model files are stored plainly.")
        header = self.source.read(info.header_offset, 30)
        if header[:4] != b"PK\x03\x04":
            raise CheckpointError(f"It is damaged at the member {name!r}.")
        name_size, extra_size = struct.unpack("<HH", header[26:30])
        start = info.header_offset + 30 + name_size + extra_size
        if start + info.file_size > self.source.size:
            raise CheckpointError(f"It is cut off inside the member {name!r}.")
        return start, info.file_size

    def read(self, name: str) -> bytes:
        """A member's bytes, checked against their checksum."""
        self.locate(name)
        try:
            return self._zip.read(self.prefix + name)
        except (
            zipfile.BadZipFile,
            ValueError,
            OSError,
            EOFError,
            struct.error,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise CheckpointError(f"It is damaged: {error}") from error

    def damaged_members(self) -> list[str]:
        """The members whose bytes do not give their checksum; reads the whole file."""
        damaged = []
        for name in self.members:
            try:
                self.read(name.removeprefix(self.prefix))
            except CheckpointError:
                damaged.append(name)
        return damaged


class Storages:
    """The storages that a pickle refers to, each made once, so that tensors that shared memory still do."""

    def __init__(self, source: Source, where: Mapping[str, tuple[int, int]] | Archive) -> None:
        self._source = source
        self._where = where
        self._made: dict[str, torch.UntypedStorage] = {}

    def get(self, key: str, size: int) -> torch.UntypedStorage:
        if key not in self._made:
            if isinstance(self._where, Archive):
                start, available = self._where.locate(f"data/{key}")
            else:
                start, available = self._where.get(key, (0, -1))
            if size < 0 or available < size:
                raise CheckpointError(f"Its tensor memory {key!r} has {available} bytes, {size} were announced.")
            self._made[key] = self._source.storage(start, available)
        storage = self._made[key]
        if storage.nbytes() < size:
            raise CheckpointError(f"Its tensor memory {key!r} has {storage.nbytes()} bytes, {size} were announced.")
        return storage


def make_tensor(storage: torch.UntypedStorage, dtype: Any, offset: Any, shape: Any, strides: Any) -> torch.Tensor:
    """A tensor over a storage, after checking that it stays inside.

    Raises:
        CheckpointError: for numbers that no tensor in this storage can have.
    """
    numbers = [offset, *shape, *strides] if isinstance(shape, tuple) and isinstance(strides, tuple) else [-1]
    if not isinstance(dtype, torch.dtype) or len(shape) != len(strides) or len(shape) > 64:
        raise CheckpointError("A tensor of the file has no proper type or shape.")
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
        raise CheckpointError(f"A tensor of the file has an impossible shape {shape} with strides {strides}.")
    available = storage.nbytes() // dtype.itemsize
    count = 1
    for size in shape:
        count *= size
    last = (
        offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else offset - 1
    )
    if last >= available or (count > available and count > _MOST_EXPANDED):
        raise CheckpointError(f"A tensor of shape {tuple(shape)} reaches beyond its memory of {available} elements.")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.empty(0, dtype=dtype).set_(storage, offset, torch.Size(shape), strides)  # type: ignore[call-overload]
