"""Writes that either happened or did not, whenever the process dies.

Everything is written under a temporary name beside the target, flushed to the disk and then put in its place by one
rename. What a killed process left behind is removed by the next save to the same target.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import socket
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_OLD = "old"


def _name(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.{kind}")


def _siblings(target: Path, kind: str) -> list[Path]:
    prefix = f".{target.name}."
    try:
        return [p for p in target.parent.iterdir() if p.name.startswith(prefix) and p.name.endswith(f".{kind}")]
    except OSError:
        return []


def _abandoned(path: Path, target: Path) -> bool:
    """Whether the process that wrote a temporary name is one of this machine's and gone."""
    host, _, rest = path.name[len(target.name) + 2 :].partition("-")
    pid = rest.partition("-")[0]
    if host != _HOST or not pid.isdigit():
        return False
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError, OSError):
        return False
    return False


def remove_leftovers(target: Path) -> None:
    """Delete what killed processes left beside the target; an old folder only when the target is there."""
    kinds = ["tmp", _OLD] if target.exists() else ["tmp"]
    for path in (path for kind in kinds for path in _siblings(target, kind)):
        if _abandoned(path, target):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def recover(target: Path) -> Path:
    """The path to read: the target, or the old folder if a swap was interrupted between its two renames."""
    if target.exists():
        return target
    old = [path for path in _siblings(target, _OLD) if path.is_dir()]
    return max(old, key=lambda path: path.stat().st_mtime) if old else target


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)


@contextmanager
def replacing_file(target: Path) -> Iterator[IO[bytes]]:
    """A file to write; it takes the target's place when the block ends without an error."""
    target = Path(os.path.realpath(target))  # a link keeps pointing at the file
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    temporary = _name(target, "tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the target's place when the block ends without an error."""
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    temporary = _name(target, "tmp")
    try:
        temporary.mkdir()
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                with open(Path(folder, name), "rb+") as file:
                    os.fsync(file.fileno())
            _sync_folder(Path(folder))
        _swap(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(target.parent)
    shutil.rmtree(temporary, ignore_errors=True)  # after an exchange, this is the old folder


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        interrupted = recover(target)
        os.rename(new, target)
        if interrupted != target:
            shutil.rmtree(interrupted, ignore_errors=True)
    elif not _exchange(new, target):
        # Two renames. A process that dies between them leaves the old folder under a name that recover() finds.
        old = _name(target, _OLD)
        os.rename(target, old)
        os.rename(new, target)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step (Linux, renameat2); False where that does not exist."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0
