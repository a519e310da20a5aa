"""Downloads, archives and cached paths, against a server on this machine."""

from __future__ import annotations

import io
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flair
from flair.file_utils import (
    Tqdm,
    cached_path,
    extract_single_zip_file,
    filename_to_url,
    format_embeddings_file_uri,
    get_the_only_file_in_the_archive,
    instance_lru_cache,
    load_torch_state,
    open_inside_zip,
    unpack_file,
    unzip_file,
    url_to_filename,
)

CONTENT = bytes(range(256)) * 400


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT under every name; "missing" is 404, "short" breaks off once, ranges are honoured."""

    broken: set[str] = set()
    requests: list[tuple[str, str, str | None]] = []

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, send_body: bool) -> None:
        Handler.requests.append((self.command, self.path, self.headers.get("Range")))
        if "missing" in self.path:
            self.send_error(404)
            return
        start = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"v1"')
        self.end_headers()
        if send_body:
            if "short" in self.path and self.path not in Handler.broken:
                Handler.broken.add(self.path)
                body = body[: len(body) // 2]
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flair, "cache_root", tmp_path / "cache")
    Handler.requests.clear()


def test_download_once(server: str) -> None:
    path = cached_path(f"{server}/some/file.bin", cache_dir="models")
    assert path == flair.cache_root / "models" / "file.bin"
    assert path.read_bytes() == CONTENT
    count = len(Handler.requests)
    assert cached_path(f"{server}/some/file.bin", cache_dir="models") == path
    assert len(Handler.requests) == count, "a cached file needs no network"


def test_broken_download_is_resumed(server: str) -> None:
    with pytest.raises(OSError, match=r"(?s)51200 of 102400 bytes.*save it as"):
        cached_path(f"{server}/short.bin", cache_dir="models")
    assert not (flair.cache_root / "models" / "short.bin").exists(), "half a file must not look like a whole one"
    path = cached_path(f"{server}/short.bin", cache_dir="models")
    assert path.read_bytes() == CONTENT
    assert ("GET", "/short.bin", "bytes=51200-") in Handler.requests


def test_a_changed_file_is_not_continued(server: str) -> None:
    """A part of another version (its ETag differs), or of a server that tells no version, starts anew."""
    folder = flair.cache_root / "models"
    folder.mkdir(parents=True)
    for tag in ('"v0"', None):
        (folder / "file.bin.part").write_bytes(b"another version")
        if tag is not None:
            (folder / "file.bin.part.etag").write_text(tag)
        path = cached_path(f"{server}/file.bin", cache_dir="models")
        assert path.read_bytes() == CONTENT
        assert sorted(file.name for file in folder.iterdir()) == ["file.bin"]
        path.unlink()
    assert all(asked is None for _, _, asked in Handler.requests)


def test_two_at_once_download_once(server: str) -> None:
    pytest.importorskip("fcntl")
    found: list[bytes] = []

    def get() -> None:
        found.append(cached_path(f"{server}/together.bin", cache_dir="models").read_bytes())

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4
    assert [command for command, _, _ in Handler.requests].count("GET") == 1
    assert [file.name for file in (flair.cache_root / "models").iterdir()] == ["together.bin"]


def test_a_download_shows_its_progress(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = []

    class Bar:
        def __init__(self, **options: object) -> None:
            self.options, self.done = options, 0
            bars.append(self)

        def update(self, count: int) -> None:
            self.done += count

        def close(self) -> None:
            pass

    monkeypatch.setattr(Tqdm, "tqdm", Bar)
    with pytest.raises(OSError, match="incomplete"):
        cached_path(f"{server}/short-progress.bin", cache_dir="models")
    cached_path(f"{server}/short-progress.bin", cache_dir="models")
    assert [(bar.options["initial"], bar.options["total"], bar.done) for bar in bars] == [
        (0, 102400, 51200),
        (51200, 102400, 51200),
    ]


def test_a_file_where_the_cache_should_be(server: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "models").write_text("in the way")
    for folder in ("models", "models/deeper"):
        with pytest.raises(NotADirectoryError, match=r"cache/models is a file.*FLAIR_CACHE_ROOT"):
            cached_path(f"{server}/file.bin", cache_dir=folder)


def test_addresses_that_cannot_be_asked_for(server: str) -> None:
    with pytest.raises(ValueError, match=r"a b\.bin is no address.*%20"):
        cached_path(f"{server}/a b.bin", cache_dir="models")


def test_a_server_that_stops_talking() -> None:
    """It closes the connection without an answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def close_at_once() -> None:
            connection, _ = silent.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=close_at_once, daemon=True)
        thread.start()
        with pytest.raises(OSError, match=r"file\.bin.*(failed|reach).*save it as"):
            cached_path(f"http://127.0.0.1:{silent.getsockname()[1]}/file.bin", cache_dir="models")
        thread.join()


def test_missing_file_and_no_server(server: str) -> None:
    with pytest.raises(OSError, match=r"status code 404.*not there any more.*save it as .*missing\.bin"):
        cached_path(f"{server}/missing.bin", cache_dir="models")
    with pytest.raises(OSError, match=r"(?s)x\.bin.*save it as"):
        cached_path("http://127.0.0.1:9/x.bin", cache_dir="models")


def test_cached_path_of_local_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    assert cached_path(str(tmp_path / "a.txt"), cache_dir="x") == tmp_path / "a.txt"
    with pytest.raises(FileNotFoundError, match=r"b\.txt"):
        cached_path(str(tmp_path / "b.txt"), cache_dir="x")
    with pytest.raises(ValueError, match="unable to parse"):
        cached_path("gopher://host/file", cache_dir="x")


@given(st.text(min_size=1), st.none() | st.from_regex(r"[a-z0-9]{1,10}", fullmatch=True))
def test_url_file_names_round_trip(url: str, etag: str | None) -> None:
    assert filename_to_url(url_to_filename(url, etag)) == (url, etag)


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_unpack_zip_and_remove(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x/y.txt": b"hello"})
    unpack_file(archive, tmp_path / "out", keep=False)
    assert (tmp_path / "out/x/y.txt").read_bytes() == b"hello"
    assert not archive.exists()


@pytest.mark.parametrize(("suffix", "mode"), [(".tar.gz", "w:gz"), (".tar", "w:")])
def test_unpack_tar(tmp_path: Path, suffix: str, mode: str) -> None:
    archive = tmp_path / f"a{suffix}"
    with tarfile.open(archive, mode) as file:
        info = tarfile.TarInfo("x/y.txt")
        info.size = 5
        file.addfile(info, io.BytesIO(b"hello"))
    unpack_file(archive, tmp_path / "out")
    assert (tmp_path / "out/x/y.txt").read_bytes() == b"hello"
    assert archive.exists()


def test_unpack_gz(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"hello"))
    unpack_file(tmp_path / "a.txt.gz", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"hello"


def test_unknown_archives(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"")
    with pytest.raises(AssertionError, match=r"a\.xyz"):
        unpack_file(tmp_path / "a.xyz", tmp_path)
    with pytest.raises(AssertionError, match="lzma"):
        unpack_file(tmp_path / "a.xyz", tmp_path, mode="lzma")


def test_archives_cannot_write_elsewhere(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "bad.zip", {"../escaped.txt": b"x"})
    with pytest.raises(ValueError, match=r"\.\./escaped\.txt"):
        unzip_file(archive, tmp_path / "out")
    with tarfile.open(tmp_path / "bad.tar", "w:") as file:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "../../etc"
        file.addfile(info)
    with pytest.raises(ValueError, match="outside"):
        unpack_file(tmp_path / "bad.tar", tmp_path / "out")
    assert not (tmp_path / "escaped.txt").exists()


@pytest.mark.parametrize("name", ["/etc/escaped.txt", "a/../../escaped.txt", "x/../../../escaped.txt"])
def test_absolute_and_relative_ways_out(tmp_path: Path, name: str) -> None:
    archives = [make_zip(tmp_path / "bad.zip", {"good.txt": b"x", name: b"x"})]
    for suffix, mode in ((".tar", "w:"), (".tar.gz", "w:gz")):
        archives.append(tmp_path / f"bad{suffix}")
        with tarfile.open(archives[-1], mode) as file:
            info = tarfile.TarInfo(name)
            info.size = 1
            file.addfile(info, io.BytesIO(b"x"))
    for archive in archives:
        with pytest.raises(ValueError, match=r"escaped\.txt.*Nothing was unpacked"):
            unpack_file(archive, tmp_path / "out" / "deeper")
    assert not list(tmp_path.rglob("*.txt"))
    with pytest.raises(ValueError, match=r"escaped\.txt"):
        extract_single_zip_file(str(archives[0]), cache_dir=tmp_path, member_path=name)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_archives(tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "secret").write_bytes(b"old")
    with tarfile.open(tmp_path / "bad.tar", "w:") as file:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, "../secret"
        file.addfile(link)
        through = tarfile.TarInfo("link")
        through.size = 3
        file.addfile(through, io.BytesIO(b"new"))
    with pytest.raises(ValueError, match="outside"):
        unpack_file(tmp_path / "bad.tar", tmp_path / "out")
    assert (tmp_path / "secret").read_bytes() == b"old"
    with tarfile.open(tmp_path / "pipe.tar", "w:") as file:
        pipe = tarfile.TarInfo("pipe")
        pipe.type = tarfile.FIFOTYPE
        file.addfile(pipe)
    with pytest.raises(ValueError, match="neither a file"):
        unpack_file(tmp_path / "pipe.tar", tmp_path / "out")


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    """Cut off, or a server's page under the name of an archive; the error says which file, and what to do."""
    import gzip

    whole = make_zip(tmp_path / "a.zip", {"a.txt": bytes(1000)}).read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("a.txt")
        info.size = 5000
        archive.addfile(info, io.BytesIO(bytes(range(250)) * 20))
    page = b"<html>404 not found</html>"
    changed = bytearray(whole)
    changed[whole.index(b"a.txt") + 5] ^= 1
    cases: list[tuple[str, bytes, type[Exception]]] = [
        ("cut.zip", whole[: len(whole) // 2], zipfile.BadZipFile),
        ("changed.zip", bytes(changed), zipfile.BadZipFile),
        ("page.zip", page, zipfile.BadZipFile),
        ("empty.zip", b"", zipfile.BadZipFile),
        ("cut.tar", packed.getvalue()[:2000], tarfile.ReadError),
        ("page.tar", page, tarfile.ReadError),
        ("cut.tar.gz", gzip.compress(packed.getvalue(), 0)[:3000], EOFError),
        ("page.tar.gz", page, tarfile.ReadError),
        ("cut.gz", gzip.compress(bytes(range(256)) * 99)[:-20], EOFError),
        ("page.gz", page, gzip.BadGzipFile),
    ]
    for name, content, kind in cases:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(kind, match=rf"{name} is no complete archive.*delete it and get it again"):
            unpack_file(tmp_path / name, tmp_path / f"out-{name}")
    assert not (tmp_path / "out-cut.gz").exists()
    for function in (open_inside_zip, extract_single_zip_file):
        with pytest.raises(zipfile.BadZipFile, match=r"page\.zip is no complete archive"):
            function(str(tmp_path / "page.zip"), cache_dir=tmp_path)
        with pytest.raises(KeyError, match=r"a\.zip holds no 'b\.txt'\. It holds a\.txt"):
            function(str(tmp_path / "a.zip"), cache_dir=tmp_path, member_path="b.txt")


def test_members_of_archives(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "one.zip", {"only.txt": b"a\nb\n"})
    assert list(open_inside_zip(str(archive), cache_dir=tmp_path)) == ["a\n", "b\n"]
    assert extract_single_zip_file(str(archive), cache_dir=tmp_path).read_bytes() == b"a\nb\n"
    with pytest.raises(ValueError, match="multiple files"):
        get_the_only_file_in_the_archive(["a", "b"], "x.zip")
    assert format_embeddings_file_uri("x.zip", "a") == "(x.zip)#a"
    assert format_embeddings_file_uri("x.txt") == "x.txt"


def test_load_torch_state_reads_data_only(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pt")
    assert torch.equal(load_torch_state(str(tmp_path / "good.pt"))["a"], torch.ones(2))
    torch.save({"a": Path("x")}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"Model\.load"):
        load_torch_state(str(tmp_path / "bad.pt"))


def test_instance_cache_belongs_to_the_instance() -> None:
    class Counter:
        calls = 0

        @instance_lru_cache(maxsize=2)
        def double(self, number: int) -> int:
            self.calls += 1
            return 2 * number

    first, second = Counter(), Counter()
    assert [first.double(2), first.double(2), second.double(2)] == [4, 4, 4]
    assert (first.calls, second.calls) == (1, 1)


def test_progress_interval() -> None:
    Tqdm.set_slower_interval(True)
    assert Tqdm.default_mininterval == 10.0
    Tqdm.set_slower_interval(False)
    assert Tqdm.default_mininterval == 0.1
    assert list(Tqdm.tqdm([1, 2], disable=True)) == [1, 2]
