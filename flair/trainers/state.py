"""The state of a training beyond the model's weights, as plain data that any checkpoint format can hold."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flair.checkpoint.atomic import replacing_file


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's random generators (all CUDA devices included)."""
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": {"version": version, "internal": list(internal), "gauss": gauss},
        "numpy": {
            "kind": str(kind),
            "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Set the generators to what :func:`random_states` returned.

    CUDA generators are restored only where the number of devices is the same.
    """
    python, numpy = states["python"], states["numpy"]
    random.setstate((python["version"], tuple(python["internal"]), python["gauss"]))
    keys = np.asarray(numpy["keys"].cpu().numpy(), dtype=np.uint32)
    np.random.set_state((numpy["kind"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"]))
    torch.set_rng_state(states["torch"].cpu().to(torch.uint8))
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])


@contextmanager
def python_random_kept() -> Iterator[None]:
    """Leave Python's generator as it was.

    Modules that are imported on first use may draw from it (scikit-learn's do), and a resumed training imports them
    elsewhere than one that was not interrupted.
    """
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def to_cpu(value: Any) -> Any:
    """The same nested containers with detached tensors on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: to_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_cpu(item) for item in value)
    return value


def sampler_state(sampler: Any) -> dict[str, Any]:
    """What a sampler remembers from one epoch to the next; empty for a class, which is made anew for each epoch.

    That is what its ``state_dict()`` returns or, without such a method, its attributes that are numbers, strings or
    torch generators.
    """
    if sampler is None or isinstance(sampler, type):
        return {}
    if hasattr(sampler, "state_dict"):
        return {"own": to_cpu(sampler.state_dict())}
    plain = {name: value for name, value in vars(sampler).items() if type(value) in (bool, int, float, str)}
    generators = {
        name: value.get_state() for name, value in vars(sampler).items() if isinstance(value, torch.Generator)
    }
    return {"class": type(sampler).__name__, "attributes": plain, "generators": generators}


def restore_sampler(sampler: Any, state: Mapping[str, Any]) -> None:
    """Let a sampler go on from what :func:`sampler_state` returned; a sampler of another class begins anew."""
    if sampler is None or isinstance(sampler, type):
        return
    if "own" in state and hasattr(sampler, "load_state_dict"):
        sampler.load_state_dict(state["own"])
    elif state.get("class") == type(sampler).__name__:
        for name, value in state["attributes"].items():
            setattr(sampler, name, value)
        for name, value in state["generators"].items():
            getattr(sampler, name).set_state(value)


def keep_lines(file: Path, wanted: Callable[[str], bool]) -> None:
    """Drop lines from a text file, and an unfinished last line with them."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and wanted(line)]
    if kept != lines:
        with replacing_file(file) as stream:
            stream.write("".join(kept).encode("utf-8"))
