"""The exported surface, frozen: what users can import, and the names of the parameters they can pass.

A change here is a change for users. When one is meant, write the file anew and say so in CHANGELOG.md:

    python tests/test_public_api.py > tests/public_api.txt
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

FROZEN = Path(__file__).parent / "public_api.txt"
MODULES = (
    "flair",
    "flair.checkpoint",
    "flair.data",
    "flair.datasets",
    "flair.embeddings",
    "flair.models",
    "flair.nn",
    "flair.splitter",
    "flair.tokenization",
    "flair.trainers",
    "flair.trainers.plugins",
    "flair.visual",
)


def exported(module: Any) -> list[str]:
    """``__all__``; without one, the public names that the module defines itself."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return sorted(name for name in own if not name.startswith("_"))


def parameters(value: Any) -> str:
    """``(first, second, *, third)``: names and kinds; nothing for what cannot be called or is not ours."""
    if not (inspect.isfunction(value) or inspect.isclass(value)) or not value.__module__.startswith("flair"):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    bare = [
        parameter.replace(default=inspect.Parameter.empty, annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))


def methods(value: Any) -> list[str]:
    """The public methods of a class of ours, with their parameters."""
    if not inspect.isclass(value) or not value.__module__.startswith("flair."):
        return []
    found = []
    for name, member in inspect.getmembers(value):
        definition = next((vars(base)[name] for base in value.__mro__ if name in vars(base)), None)
        defined_here = any(name in vars(base) for base in value.__mro__ if base.__module__.startswith("flair."))
        if name.startswith("_") or not defined_here:
            continue
        if isinstance(definition, property):
            found.append(name)
        elif inspect.isroutine(member):
            found.append(name + parameters(inspect.unwrap(getattr(member, "__func__", member))))
    return found


def surface() -> list[str]:
    """One line an exported name or method."""
    lines = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in exported(module):
            value = getattr(module, name)
            lines.append(f"{module_name}.{name}{parameters(value)}")
            lines += [f"{module_name}.{name}.{method}" for method in methods(value)]
    return lines


def test_the_surface_is_the_frozen_one() -> None:
    frozen = FROZEN.read_text(encoding="utf-8").splitlines()
    now = surface()
    gone = sorted(set(frozen) - set(now))
    new = sorted(set(now) - set(frozen))
    assert (gone, new) == ([], []), f"The public interface changed; see {Path(__file__).name} for what to do."


def test_nothing_is_exported_twice() -> None:
    for module_name in MODULES:
        names = exported(importlib.import_module(module_name))
        assert len(names) == len(set(names)), module_name


if __name__ == "__main__":
    print("\n".join(surface()))
