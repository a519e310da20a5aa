"""Unpacking archives, with every member kept inside the target folder."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Optional, Union

from flair.class_utils import lazy_import

PathLike = Union[str, Path]


def check_members(names: Iterable[str], target: PathLike, archive: PathLike) -> None:
    """Raise if a member of an archive would be written outside the target folder.

    Raises:
        ValueError: naming the member.
    """
    root = os.path.realpath(target)
    for name in names:
        place = os.path.realpath(os.path.join(root, name))
        if os.path.commonpath([root, place]) != root:
            raise ValueError(f"{archive}: member {name!r} would be written outside of {root}. Nothing was unpacked.")


@contextmanager
def _naming(file: PathLike) -> Iterator[None]:
    """Errors about an archive say which one it is, and what to do; their types stay."""
    damaged = (zipfile.BadZipFile, tarfile.ReadError, gzip.BadGzipFile, EOFError, zlib.error)
    try:
        yield
    except damaged as error:
        raise type(error)(
            f"{file} is no complete archive of the kind its name says ({error}). It may be cut off, or a page that a "
            f"server sent in its place: look at it, delete it and get it again."
        ) from error


def _find_member(archive: zipfile.ZipFile, name: str, file: PathLike) -> None:
    if name not in archive.namelist():
        found = archive.namelist()
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise KeyError(f"{file} holds no {name!r}. It holds {', '.join(found[:10]) or 'nothing'}{more}.")


def unzip_file(file: PathLike, unzip_to: PathLike) -> None:
    """Unpack all of a zip archive.

    Raises:
        ValueError: a member points outside of ``unzip_to``.
        zipfile.BadZipFile: a damaged archive.
    """
    with _naming(file), zipfile.ZipFile(file) as archive:
        check_members(archive.namelist(), unzip_to, file)
        archive.extractall(unzip_to)


def _untar(file: Path, unpack_to: Path, mode: str) -> None:
    with _naming(file), tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        members = archive.getmembers()
        check_members((member.name for member in members), unpack_to, file)
        for member in members:
            if member.issym():
                check_members([os.path.join(os.path.dirname(member.name), member.linkname)], unpack_to, file)
            elif member.islnk():
                check_members([member.linkname], unpack_to, file)
            elif not (member.isfile() or member.isdir()):
                raise ValueError(f"{file}: member {member.name!r} is neither a file, a folder nor a link.")
        if hasattr(tarfile, "data_filter"):
            # Links are resolved while extracting, which the check of names above cannot see.
            archive.extractall(unpack_to, filter="data")
        else:
            archive.extractall(unpack_to)


def _gunzip(file: Path, unpack_to: Path) -> None:
    descriptor, name = tempfile.mkstemp(dir=Path(unpack_to).parent)
    try:
        with _naming(file), gzip.open(file, "rb") as source, os.fdopen(descriptor, "wb") as target:
            shutil.copyfileobj(source, target)
        os.replace(name, unpack_to)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _unrar(file: Path, unpack_to: Path) -> None:
    patoolib = lazy_import("datasets", "patoolib", None)
    patoolib.extract_archive(str(file), outdir=str(unpack_to), interactive=False)


def unpack_file(file: Path, unpack_to: Path, mode: Optional[str] = None, keep: bool = True) -> None:
    """Unpack an archive.

    Args:
        file: the archive.
        unpack_to: folder to unpack to; for a single gzipped file ("gz") the path of the result.
        mode: "zip", "targz", "tar", "gz" or "rar"; by default taken from the suffix.
        keep: False deletes the archive afterwards.

    Raises:
        AssertionError: unknown suffix or mode.
        ValueError: a member points outside of ``unpack_to``.
        zipfile.BadZipFile, tarfile.ReadError, gzip.BadGzipFile, EOFError: a damaged archive.
    """
    file = Path(file)
    unpack_to = Path(unpack_to)
    if mode is None:
        suffixes = "".join(file.suffixes[-2:])
        if suffixes.endswith(".tar.gz") or file.suffix == ".tgz":
            mode = "targz"
        else:
            mode = {".zip": "zip", ".tar": "tar", ".gz": "gz", ".rar": "rar"}.get(file.suffix)
    if mode == "zip":
        unzip_file(file, unpack_to)
    elif mode == "targz":
        _untar(file, unpack_to, "r:gz")
    elif mode == "tar":
        _untar(file, unpack_to, "r:")
    elif mode == "gz":
        _gunzip(file, unpack_to)
    elif mode == "rar":
        _unrar(file, unpack_to)
    else:
        found = f"mode {mode!r}" if mode is not None else f"suffix {file.suffix!r}"
        raise AssertionError(f"Cannot unpack {file}: unknown {found}. Use one of zip, targz, tar, gz, rar.")
    if not keep:
        file.unlink()


def get_the_only_file_in_the_archive(members_list: Sequence[str], archive_path: str) -> str:
    """The only member; an archive of several needs a choice.

    Raises:
        ValueError: the archive holds several files, or none.
    """
    if len(members_list) != 1:
        what = "multiple files" if members_list else "no files"
        raise ValueError(
            f"The archive {archive_path} contains {what}. Name the file to use in the form "
            f"(path_or_url_to_archive)#path_inside_archive. Found: {', '.join(members_list[:10])}"
        )
    return members_list[0]


def open_member(local_path: Path, member_path: Optional[str], encoding: str) -> io.TextIOWrapper:
    """Open a text file inside a local zip archive; closing it closes the archive."""
    with _naming(local_path), zipfile.ZipFile(local_path) as archive:
        name = member_path or get_the_only_file_in_the_archive(archive.namelist(), str(local_path))
        _find_member(archive, name, local_path)
        # The member keeps the archive's file open by itself, until it is closed.
        return io.TextIOWrapper(archive.open(name), encoding=encoding)


def extract_member(local_path: Path, member_path: Optional[str]) -> Path:
    """Extract one file of a local zip archive beside it, unless that was done before."""
    target = local_path.parent
    with _naming(local_path), zipfile.ZipFile(local_path) as archive:
        name = member_path or get_the_only_file_in_the_archive(archive.namelist(), str(local_path))
        check_members([name], target, local_path)
        _find_member(archive, name, local_path)
        extracted = target / name
        if not extracted.exists():
            archive.extract(name, target)
    return extracted
