"""``python -m flair``: look into model files, and convert them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from flair.checkpoint import CheckpointError, inspect_file
from flair.nn.model import Model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flair", description="Look into model files, and convert them.")
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="say what is in a model file or folder; executes nothing from it")
    inspect.add_argument("path")
    inspect.add_argument("--json", action="store_true", help="print everything as JSON")
    convert = commands.add_parser("convert", help="load a model and save it anew; a path without suffix is a folder")
    convert.add_argument("old")
    convert.add_argument("new")
    convert.add_argument("--dtype", default="auto", help="float32, bfloat16, float16, or auto: as in the file")
    convert.add_argument("--merge", action="store_true", help="fold PEFT adapters into the weights of their base")
    convert.add_argument(
        "--allow-pickle", action="store_true", help="accept files that can run any code; only for files you trust"
    )
    return parser


def _readable(size: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def describe(found: dict[str, Any], most_labels: int = 20) -> str:
    """The text that ``inspect`` prints for what :func:`flair.checkpoint.inspect_file` found."""
    rows = [
        ("format", found["format"]),
        ("class", found["class"] or "not recorded"),
        ("versions", ", ".join(f"{name} {version}" for name, version in found["versions"].items()) or "not recorded"),
        ("size", _readable(found["bytes"])),
        ("parameters", f"{found['parameters']:,} in {found['tensors']} tensors"),
        ("dtype", ", ".join(f"{name} ({count:,})" for name, count in found["dtype"].items()) or "no weights"),
    ]
    for place, names in found["adapters"].items():
        rows.append(("adapters", f"{place}: {', '.join(names)}"))
    for place, labels in found["labels"].items():
        shown = ", ".join(label.encode("unicode_escape").decode() for label in labels[:most_labels])
        rest = f", … ({len(labels)} in all)" if len(labels) > most_labels else ""
        rows.append(("labels", f"{place}: {shown}{rest}"))
    for name, size in found.get("files", {}).items():
        rows.append(("file", f"{name}  {_readable(size)}"))
    if "globals" in found:
        rows.append(("globals", ", ".join(found["globals"]) or "none"))
        rows.append(("unsafe", ", ".join(found["unsafe"]) or "none: the file is data"))
        if found["damaged"]:
            rows.append(("DAMAGED", ", ".join(found["damaged"])))
    return "\n".join(f"{title:<12}{text}" for title, text in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 2 after an error, which is one line on stderr."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "inspect":
            found = inspect_file(chosen.path)
            print(json.dumps(found, indent=2) if chosen.json else describe(found))
        else:
            model = Model.load(
                chosen.old, dtype=chosen.dtype, merge_adapters=chosen.merge, allow_pickle=chosen.allow_pickle
            )
            model.save(chosen.new)
            print(f"{chosen.new}: {type(model).__name__}, {model.dtype}")
    except (CheckpointError, OSError, ImportError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
