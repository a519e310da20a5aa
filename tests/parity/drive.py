"""Runs one piece of work in two interpreters, one with this package and one with the released one, and compares.

A parity script defines ``prepare(folder)`` (run once, by the released package: writes model files and inputs) and
``work(folder)`` (run by both: returns a dict of tensors and plain values), and calls :func:`main`. The environment
variable ``FLAIR_REFERENCE_PYTHON`` names the interpreter of the released package.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parents[2]


def main(prepare: Callable[[Path], None], work: Callable[[Path], dict[str, Any]], tolerance: float = 1e-5) -> int:
    """Run as the script it was called from: the comparison, or (with ``--step``) one of its parts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", choices=("prepare", "work"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.step == "prepare":
        prepare(arguments.folder)
        return 0
    if arguments.step == "work":
        torch.save(work(arguments.folder), arguments.out)
        return 0
    reference = os.environ.get("FLAIR_REFERENCE_PYTHON")
    if not reference:
        print("Set FLAIR_REFERENCE_PYTHON to an interpreter that has the released package.")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        released, ours = Path(folder) / "released.pt", Path(folder) / "ours.pt"
        data = Path(folder) / "data"
        data.mkdir()
        _step(reference, "prepare", data, None, own=False)
        _step(reference, "work", data, released, own=False)
        _step(sys.executable, "work", data, ours, own=True)
        return compare(torch.load(released, weights_only=False), torch.load(ours, weights_only=False), tolerance)


def _step(python: str, step: str, folder: Path, out: Path | None, own: bool) -> None:
    environment = dict(os.environ, HF_HUB_OFFLINE="1", FLAIR_CACHE_ROOT=str(folder / "cache"), FLAIR_DEVICE="cpu")
    if own:
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    else:
        environment.pop("PYTHONPATH", None)
    command = [python, str(Path(sys.argv[0]).resolve()), "--step", step, "--folder", str(folder)]
    subprocess.run(command + (["--out", str(out)] if out else []), check=True, env=environment, cwd=folder)


def dictionary_of(*names: str, spans: bool = False) -> Any:
    """A dictionary of labels, of spans or not, by whichever flair is importable."""
    from flair.data import Dictionary

    made = Dictionary(add_unk=False)
    for name in names:
        made.add_item(name)
    made.span_labels = spans
    return made


def compare(released: dict[str, Any], ours: dict[str, Any], tolerance: float) -> int:
    """Print one line per value; the exit status is 1 where any differs."""
    failed = released.keys() != ours.keys()
    if failed:
        print("different values:", sorted(released.keys() ^ ours.keys()))
    for name in sorted(released.keys() & ours.keys()):
        difference = distance(released[name], ours[name])
        good = difference <= tolerance
        failed |= not good
        print(f"{'ok  ' if good else 'FAIL'} {name}: {difference:.2e}")
    return int(failed)


def distance(one: Any, other: Any) -> float:
    """The largest difference of nested values, relative to numbers above 1; infinite where anything else differs."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape:
            return float("inf")
        if one.numel() == 0:
            return 0.0
        return float((one.double() - other.double()).abs().max()) / max(1.0, float(one.abs().max()))
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return float("inf")
        return max((distance(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            return float("inf")
        return max((distance(a, b) for a, b in zip(one, other)), default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) / max(1.0, abs(one))
    return 0.0 if one == other else float("inf")
