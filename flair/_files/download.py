"""One download: resumable, checked against the announced length, and visible under its name only when complete."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, Optional

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60


def _open(url: str, proxies: Optional[dict[str, str]], method: str, headers: dict[str, str]) -> Any:
    # Without proxies of their own, users get those of the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "flair", **headers})
    return opener.open(request, timeout=TIMEOUT_SECONDS)


def _refused(url: str, target: Path, status: int) -> str:
    missing = " The file is not there any more, or never was." if status in (404, 410) else ""
    return f"HEAD request failed for url {url} with status code {status}.{missing} {_by_hand(url, target)}"


def _by_hand(url: str, target: Path) -> str:
    return f"To place the file by hand, download {url} and save it as {target}"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process or thread downloads the same file: two would write into one part.

    A lock ends with its process. Without locks of that kind (Windows) nobody waits.
    """
    if fcntl is None:
        yield
        return
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        lock.unlink(missing_ok=True)  # after a failure it stays for those who wait


def _head(url: str, target: Path, proxies: Optional[dict[str, str]]) -> Message:
    try:
        with _open(url, proxies, "HEAD", {}) as response:
            status, headers = response.status, response.headers
    except urllib.error.HTTPError as error:
        raise OSError(_refused(url, target, error.code)) from error
    except urllib.error.URLError as error:
        raise OSError(f"Could not reach {url} ({error.reason}). {_by_hand(url, target)}") from error
    except http.client.InvalidURL as error:
        raise ValueError(f"{url} is no address that can be asked for: {error}. Write a space as %20.") from error
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"Asking for {url} failed ({type(error).__name__}: {error}). {_by_hand(url, target)}") from error
    if status != 200:
        raise OSError(_refused(url, target, status))
    return headers


def download(
    url: str,
    target: Path,
    proxies: Optional[dict[str, str]] = None,
    progress: Optional[Callable[..., Any]] = None,
) -> None:
    """Download to ``target``, through ``<target>.part``, which a later call continues.

    Args:
        url: http or https.
        target: where the complete file appears.
        proxies: scheme -> proxy; None uses the environment's.
        progress: makes a tqdm bar.

    Raises:
        OSError: no connection, an HTTP error, fewer bytes than announced, or a file where a folder is needed.
        ValueError: no valid address.
    """
    head = _head(url, target, proxies)
    _make_folder(target.parent)
    with _alone(target.with_name(target.name + ".part.lock")):
        if not target.exists():  # or another process was faster
            _download(url, target, head, proxies, progress)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        blocking = next(path for path in (folder, *folder.parents) if path.exists())
        raise NotADirectoryError(
            f"Downloads go to {folder}, and {blocking} is a file. Move it away, or choose another place: set "
            f"flair.cache_root or the environment variable FLAIR_CACHE_ROOT."
        ) from error


def _download(
    url: str,
    target: Path,
    head: Message,
    proxies: Optional[dict[str, str]],
    progress: Optional[Callable[..., Any]],
) -> None:
    part = target.with_name(target.name + ".part")
    tag_file = target.with_name(target.name + ".part.etag")
    tag = head.get("ETag") or head.get("Last-Modified") or ""
    # A part is continued only if the file on the server is provably still the same one.
    resumable = bool(tag) and part.exists() and tag_file.exists() and tag_file.read_text(encoding="utf8") == tag
    start = part.stat().st_size if resumable else 0
    tag_file.write_text(tag, encoding="utf8")
    try:
        size = _transfer(url, part, start, proxies, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
        raise OSError(
            f"Download of {url} failed with status code {error.code}. Call again to try once more. "
            f"{_by_hand(url, target)}"
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise OSError(f"Download of {url} broke off ({error}). {_by_hand(url, target)}") from error
    announced = head.get("Content-Length")
    expected = size if size is not None else (int(announced) if announced else None)
    if expected is not None and part.stat().st_size != expected:
        raise OSError(
            f"Download of {url} is incomplete: {part.stat().st_size} of {expected} bytes. Call again to continue. "
            f"{_by_hand(url, target)}"
        )
    os.replace(part, target)
    tag_file.unlink(missing_ok=True)


def _transfer(
    url: str, part: Path, start: int, proxies: Optional[dict[str, str]], progress: Optional[Callable[..., Any]]
) -> Optional[int]:
    """Append the rest of a file to its part; returns the announced size of the whole."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with _open(url, proxies, "GET", headers) as response:
        if response.status != 206:
            start = 0  # the server sends the whole file again
        elif not (response.headers.get("Content-Range") or f"bytes {start}-").startswith(f"bytes {start}-"):
            raise OSError(f"asked for the bytes from {start}, got {response.headers['Content-Range']}")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = progress(total=total, initial=start, unit="B", unit_scale=True) if progress else None
        try:
            with open(part, "ab" if start else "wb") as file:
                for chunk in _chunks(response):
                    file.write(chunk)
                    if bar is not None:
                        bar.update(len(chunk))
        finally:
            if bar is not None:
                bar.close()
    return total


def _chunks(response: Any) -> Iterable[bytes]:
    while chunk := response.read(CHUNK):
        yield chunk
