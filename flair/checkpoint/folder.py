"""The folder format: ``model.safetensors``, ``config.json``, tokenizer files, and what else a model puts beside them.

Tensors that are stored under several names are written once; the document says which name stands for which.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flair.checkpoint.atomic import replacing_folder
from flair.checkpoint.codec import TAG
from flair.checkpoint.errors import CheckpointError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
FORMAT = 1
_ZIPPED = ("tokenizer_data", "feature_extractor_data")
_MOST_FILE_BYTES = 1 << 30


def write(
    target: Path,
    document: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    metadata: dict[str, Any],
    add_files: Callable[[Path], None] | None = None,
) -> None:
    """Write a model folder, replacing an older one as a whole. Files that a user added to it stay.

    Raises:
        CheckpointError: the target is no model folder and not empty.
    """
    from safetensors.torch import save_file

    kept = _foreign_files(target)
    with replacing_folder(target) as folder:
        document = _unpack_tokenizers(document, tensors, folder, [0])
        used = names_in(document)
        tensors = {name: tensor for name, tensor in tensors.items() if name in used}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", "flair_format": str(FORMAT)})
        if add_files is not None:
            add_files(folder)
        written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        config = {"flair_format": FORMAT, "metadata": metadata, "files": [*written, CONFIG], "state": document}
        (folder / CONFIG).write_text(json.dumps(config, indent=1, allow_nan=False), encoding="ascii")
        for name in kept:
            if not (folder / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(target / name, folder / name)


def _foreign_files(target: Path) -> list[Path]:
    """What stands in a model folder besides the model."""
    if not target.exists():
        return []
    if not target.is_dir():
        raise CheckpointError(f"Cannot save a model folder at {target}: there is a file of that name.")
    present = [path.relative_to(target) for path in target.rglob("*") if not path.is_dir()]
    if not present:
        return []
    try:
        config = json.loads((target / CONFIG).read_text(encoding="utf-8"))
        own = {Path(name) for name in config["files"]} if "flair_format" in config else None
    except (OSError, ValueError, KeyError, TypeError):
        own = None
    if own is None:
        raise CheckpointError(
            f"Cannot save a model folder at {target}: the folder exists and holds other files ({present[0]}, ...). "
            "Choose a new folder, or give the path a suffix (model.pt) to save one file."
        )
    return [path for path in present if path not in own]


def _unpack_tokenizers(value: Any, tensors: dict[str, torch.Tensor], folder: Path, count: list[int]) -> Any:
    """The document with zipped tokenizers replaced by folders of their files."""
    if isinstance(value, list):
        return [_unpack_tokenizers(item, tensors, folder, count) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {}
    for key, item in value.items():
        if key in _ZIPPED and isinstance(item, dict) and item.get(TAG) in ("file", "bytes"):
            changed[key] = _unpack(item, tensors, folder, key.removesuffix("_data"), count)
        else:
            changed[key] = _unpack_tokenizers(item, tensors, folder, count)
    return changed


def _unpack(entry: dict[str, Any], tensors: dict[str, torch.Tensor], folder: Path, kind: str, count: list[int]) -> Any:
    raw = tensors[entry["value"]].numpy().tobytes()
    if not zipfile.is_zipfile(io.BytesIO(raw)):
        return entry
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        names = archive.namelist()
        if not names or any(Path(name).name != name or name in (".", "..") for name in names):
            return entry
        count[0] += 1
        place = kind if count[0] == 1 else f"{kind}_{count[0]}"
        (folder / place).mkdir()
        for name in names:
            (folder / place / name).write_bytes(archive.read(name))
    return {TAG: "folder" if entry[TAG] == "file" else "folder_bytes", "value": place, "names": names}


def names_in(document: Any) -> set[str]:
    """The names of the tensors that a document refers to."""
    found: set[str] = set()
    todo = [document]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, dict):
            if item.get(TAG) == "tensors":
                found.update(item["aliases"].get(name, item["prefix"] + name) for name in item["names"])
            elif item.get(TAG) in ("tensor", "file", "bytes", "bytearray", "ndarray"):
                found.add(item["value"])
            else:
                todo.extend(item.values())
    return found


def is_model_folder(path: Path) -> bool:
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, bytes]]:
    """The configuration file, the tensors, and the tokenizers as zip files.

    Raises:
        CheckpointError: the folder is no model folder, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    config = read_config(path)
    try:
        with safe_open(path / WEIGHTS, framework="pt", device="cpu") as weights:
            tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path / WEIGHTS} is damaged or no safetensors file: {error}") from error
    files: dict[str, bytes] = {}
    _collect_folders(config["state"], path, files)
    return config, tensors, files


def read_config(path: Path) -> dict[str, Any]:
    """The configuration file of a model folder."""
    if not is_model_folder(path):
        some = ", ".join(sorted(item.name for item in path.iterdir())[:5]) or "nothing"
        raise CheckpointError(f"{path} is no model folder: it needs {CONFIG} and {WEIGHTS}, and has {some}.")
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path / CONFIG} is damaged: {error}") from error
    if not isinstance(config, dict) or "flair_format" not in config or not isinstance(config.get("state"), dict):
        raise CheckpointError(
            f"{path / CONFIG} was not written by this library. A folder of a transformers model is loaded with "
            "TransformerDocumentEmbeddings(path) or TransformerWordEmbeddings(path)."
        )
    return config


def _collect_folders(value: Any, path: Path, files: dict[str, bytes]) -> None:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, dict):
            if item.get(TAG) in ("folder", "folder_bytes"):
                files[str(item.get("value"))] = _pack(path, item)
            else:
                todo.extend(item.values())


def _pack(path: Path, entry: dict[str, Any]) -> bytes:
    place, names = entry.get("value"), entry.get("names")
    if not isinstance(place, str) or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path / CONFIG} is damaged: a tokenizer folder without names.")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            file = path / place / name
            if Path(place).name != place or Path(name).name != name or file.is_symlink() or not file.is_file():
                raise CheckpointError(f"{path} lacks the tokenizer file {place}/{name}.")
            if file.stat().st_size > _MOST_FILE_BYTES:
                raise CheckpointError(f"{file} is too large for a tokenizer file.")
            archive.writestr(zipfile.ZipInfo(name), file.read_bytes())
    return packed.getvalue()
