"""Files from elsewhere: cached downloads, archives, progress bars."""

from __future__ import annotations

import base64
import functools
import mmap
import pickle
import re
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Optional, Union
from urllib.parse import urlparse

import torch
from tqdm import tqdm as _tqdm

from flair import _runtime
from flair._files.archives import (
    extract_member,
    get_the_only_file_in_the_archive,
    open_member,
    unpack_file,
    unzip_file,
)
from flair._files.download import download
from flair.class_utils import lazy_import

__all__ = [
    "Tqdm",
    "cached_path",
    "download_s3_to_path",
    "extract_single_zip_file",
    "filename_to_url",
    "format_embeddings_file_uri",
    "get_from_cache",
    "get_the_only_file_in_the_archive",
    "hf_download",
    "instance_lru_cache",
    "load_big_file",
    "load_torch_state",
    "open_inside_zip",
    "set_proxies",
    "unpack_file",
    "unzip_file",
    "url_proxies",
    "url_to_filename",
]

logger = _runtime.logger

url_proxies: Optional[dict[str, str]] = None


def set_proxies(proxies: dict[str, str]) -> None:
    """Use these proxies for all later downloads.

    Args:
        proxies: scheme -> proxy, for example ``{"https": "http://proxy.example:3128"}``.
    """
    global url_proxies
    url_proxies = proxies


def load_big_file(f: str) -> mmap.mmap:
    """Map a file into memory, read-only."""
    with open(f, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def load_torch_state(model_file: str) -> dict[str, Any]:
    """The content of a model file, on the CPU, provided that it holds nothing but plain data and tensors.

    Raises:
        ValueError: the file contains objects whose loading would run code.
    """
    try:
        return torch.load(str(model_file), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        what = f"{found.group(1)}" if found else "objects that are not plain data"
        raise ValueError(
            f"{model_file} contains {what}, which is not loaded as plain data. Load it with the class of the model: "
            "Model.load(path)."
        ) from error


def url_to_filename(url: str, etag: Optional[str] = None) -> str:
    """A file name that stands for a URL: its base64 form, and the ETag behind a dot."""
    name = base64.b64encode(url.encode("utf-8")).decode("utf-8")
    return f"{name}.{etag.replace(chr(34), '')}" if etag else name


def filename_to_url(filename: str) -> tuple[str, Optional[str]]:
    """Invert :func:`url_to_filename`.

    Raises:
        binascii.Error: the name is no base64.
    """
    name, dot, etag = filename.partition(".")
    return base64.b64decode(name.encode("utf-8")).decode("utf-8"), etag if dot else None


def cached_path(url_or_filename: str, cache_dir: Union[str, Path]) -> Path:
    """The local path of a file, downloaded on first use.

    Args:
        url_or_filename: an http, https or s3 URL, or a local path, which is returned as it is.
        cache_dir: folder below ``flair.cache_root``.

    Raises:
        FileNotFoundError: no such local file.
        ValueError: neither a URL that can be downloaded nor a path.
        OSError: the download failed.
    """
    url_or_filename = str(url_or_filename)
    parsed = urlparse(url_or_filename)
    folder = _runtime.cache_root / cache_dir
    if parsed.scheme in ("http", "https"):
        return get_from_cache(url_or_filename, folder)
    if parsed.scheme == "s3":
        return download_s3_to_path(parsed.netloc, folder)
    path = Path(url_or_filename)
    if path.exists():
        return path
    # A single letter is a drive of Windows.
    if len(parsed.scheme) <= 1:
        raise FileNotFoundError(f"file {url_or_filename} not found")
    raise ValueError(f"unable to parse {url_or_filename} as a URL or as a local path")


def get_from_cache(url: str, cache_dir: Path) -> Path:
    """The path of a URL's file in a folder, downloaded if it is not there; an existing file needs no network.

    Raises:
        OSError: the HEAD request was not answered with 200, or the download failed.
        ValueError: the URL ends with no file name.
    """
    name = url.rsplit("/", 1)[-1]
    if name in ("", ".", ".."):
        raise ValueError(f"{url} does not end with a file name.")
    target = Path(cache_dir) / name
    if not target.exists():
        logger.info(f"{url} not found in cache, downloading to {target}")
        download(url, target, url_proxies, Tqdm.tqdm)
    return target


def download_s3_to_path(bucket_name: str, cache_path: Path) -> Path:
    """Download all objects of a public bucket to a folder named after it.

    Raises:
        ImportError: boto3 is not installed.
    """
    target = Path(cache_path) / bucket_name
    if target.exists():
        return target
    boto3, botocore = lazy_import("datasets", "boto3", None), lazy_import("datasets", "botocore", None)
    config = lazy_import("datasets", "botocore.client", "Config")[0](signature_version=botocore.UNSIGNED)
    bucket = boto3.resource("s3", config=config).Bucket(bucket_name)
    partial = target.with_name(target.name + ".part")
    for item in bucket.objects.all():
        if item.key.endswith("/"):
            continue
        file = (partial / item.key).resolve()
        if not file.is_relative_to(partial.resolve()):
            raise ValueError(f"s3://{bucket_name}: object {item.key!r} would be written outside of {partial}.")
        file.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(item.key, str(file))
    partial.mkdir(parents=True, exist_ok=True)
    partial.rename(target)
    return target


def hf_download(model_name: str) -> str:
    """Download ``pytorch_model.bin`` of a repository of the Hugging Face hub.

    Args:
        model_name: ``<repository>`` or ``<repository>@<revision>``.
    """
    (hf_hub_download,) = lazy_import("huggingface", "huggingface_hub", "hf_hub_download")
    repository, _, revision = model_name.partition("@")
    return hf_hub_download(
        repo_id=repository,
        revision=revision or None,
        filename="pytorch_model.bin",
        library_name="flair",
        library_version=_runtime.__version__,
        cache_dir=_runtime.cache_root / "models" / repository.split("/")[-1],
    )


def open_inside_zip(
    archive_path: str, cache_dir: Union[str, Path], member_path: Optional[str] = None, encoding: str = "utf8"
) -> Iterable:
    """Open a text file inside a (remote) zip archive; without ``member_path`` its only file."""
    return open_member(cached_path(archive_path, cache_dir), member_path, encoding)


def extract_single_zip_file(archive_path: str, cache_dir: Union[str, Path], member_path: Optional[str] = None) -> Path:
    """Extract a file of a (remote) zip archive beside the archive; without ``member_path`` its only file."""
    return extract_member(cached_path(archive_path, cache_dir), member_path)


def format_embeddings_file_uri(main_file_path_or_url: str, path_inside_archive: Optional[str] = None) -> str:
    """``(archive)#member``, or the path alone."""
    return f"({main_file_path_or_url})#{path_inside_archive}" if path_inside_archive else main_file_path_or_url


class Tqdm:
    """Progress bars whose update interval can be set for the whole process."""

    default_mininterval: float = 0.1

    @staticmethod
    def set_default_mininterval(value: float) -> None:
        """Seconds between two updates."""
        Tqdm.default_mininterval = value

    @staticmethod
    def set_slower_interval(use_slower_interval: bool) -> None:
        """Update every ten seconds, which suits log files, or every 0.1 seconds."""
        Tqdm.default_mininterval = 10.0 if use_slower_interval else 0.1

    @staticmethod
    def tqdm(*args: Any, **kwargs: Any) -> Any:
        """A bar of tqdm with the interval set here."""
        return _tqdm(*args, **{"mininterval": Tqdm.default_mininterval, **kwargs})


def instance_lru_cache(*cache_args: Any, **cache_kwargs: Any) -> Callable[[Callable], Callable]:
    """Like :func:`functools.lru_cache`, for methods: one cache per instance, which does not keep the instance alive."""

    def decorator(function: Callable) -> Callable:
        @functools.wraps(function)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            caches: weakref.WeakKeyDictionary = method.__dict__["caches"]
            if self not in caches:
                instance = weakref.ref(self)

                @functools.lru_cache(*cache_args, **cache_kwargs)
                def cached(*inner_args: Any, **inner_kwargs: Any) -> Any:
                    return function(instance(), *inner_args, **inner_kwargs)

                caches[self] = cached
            return caches[self](*args, **kwargs)

        method.__dict__["caches"] = weakref.WeakKeyDictionary()
        return method

    return decorator
