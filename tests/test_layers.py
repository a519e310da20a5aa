"""The architecture, held: each module imports only from its own layer or below, and no modules import in a circle.

The imports are read from the source, at module level and inside functions alike; those under ``if TYPE_CHECKING`` do
not count. Names that a package re-exports lazily count as imports of the module that defines them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

TOP = 9
LAYERS = {
    0: ("_runtime", "_lazy", "class_utils", "file_utils", "_files"),
    1: ("tokenization", "data", "splitter", "training_utils", "samplers", "optim", "distributed_utils"),
    2: (
        *(f"nn.{name}" for name in ("precision", "onednn", "dropout", "recurrent", "distance", "decoder", "crf")),
        *(f"nn.{name}" for name in ("loss", "language_model")),
        "checkpoint",
    ),
    3: ("embeddings", "inference_utils"),
    4: ("nn",),
    5: ("models",),
    6: ("trainers",),
    TOP: ("__main__",),
}
LAYER_OF = {f"flair.{name}": layer for layer, names in LAYERS.items() for name in names}

# Rooms beside the stack: the highest layer that they may import from, and the lowest that may import them.
SIDE_ROOMS = {"flair.datasets": (1, 4), "flair.visual": (3, 6)}


def room_of(module: str, rooms: dict[str, object]) -> str | None:
    """The longest entry of a table that is the module or one of its parents."""
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        name = ".".join(parts[:length])
        if name in rooms:
            return name
    return None


def layer_of(module: str) -> int | None:
    """The layer of a module; None for a side room.

    Raises:
        LookupError: the module has no place in the table.
    """
    if module == "flair":
        return TOP
    if room_of(module, dict(SIDE_ROOMS)):
        return None
    room = room_of(module, dict(LAYER_OF))
    if room is None:
        raise LookupError(f"{module} has no place in the layer table of {Path(__file__).name}")
    return LAYER_OF[room]


@dataclass(frozen=True)
class Import:
    """One import statement of one name."""

    source: str
    line: int
    target: str
    in_function: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


class SourceTree:
    """The modules below a folder, and what they import from each other."""

    def __init__(self, root: Path) -> None:
        self.modules: dict[str, ast.Module] = {}
        self.packages: set[str] = set()
        for path in sorted((root / "flair").rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
                self.packages.add(".".join(parts))
            self.modules[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        self.lazy = {name: self._lazy_exports(name) for name in self.packages}
        self.imports = [found for name in self.modules for found in self._imports_of(name)]

    def _lazy_exports(self, package: str) -> dict[str, str]:
        """Name -> module of a package that calls ``lazy_exports(__name__, exports, ...)``."""
        tree = self.modules[package]
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "lazy_exports":
                return dict(_evaluate(call.args[1], _constants(tree)))
        return {}

    def _imports_of(self, module: str) -> Iterator[Import]:
        for node, in_function in _walk(self.modules[module], in_function=False):
            for target in self._targets(module, node):
                if target != module:
                    yield Import(module, getattr(node, "lineno", 0), target, in_function)

    def _targets(self, module: str, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "flair":
                    yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = self._absolute(module, node)
            if base.split(".")[0] == "flair":
                for alias in node.names:
                    yield self._resolve(base, alias.name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module"):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and str(name.value).split(".")[0] == "flair":
                yield str(name.value)

    def _absolute(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        up = node.level - (module in self.packages)
        return ".".join([*parts[: len(parts) - up], *([node.module] if node.module else [])])

    def _resolve(self, base: str, name: str) -> str:
        """The module that ``from base import name`` needs."""
        if f"{base}.{name}" in self.modules:
            return f"{base}.{name}"
        return self.lazy.get(base, {}).get(name, base)


def _evaluate(expression: ast.expr, names: dict[str, Any]) -> Any:
    """The value of a table: a display of literals, of names before it, and of ``dict.fromkeys``; nothing else runs."""
    code = compile(ast.Expression(expression), "<table>", "eval")
    return eval(code, {"__builtins__": {"dict": dict}}, names)


def _constants(tree: ast.Module) -> dict[str, Any]:
    """The tables that are assigned at module level."""
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            names[ast.unparse(target)] = _evaluate(node.value, names)
    return names


def _walk(node: ast.AST, in_function: bool) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes but those under ``if TYPE_CHECKING``, each with whether it lies inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield other, in_function
                yield from _walk(other, in_function)
            continue
        yield child, in_function
        deeper = in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _walk(child, deeper)


def upward_imports(tree: SourceTree) -> list[str]:
    """Every import that goes up, or into or out of a side room where it may not."""
    wrong = []
    for found in tree.imports:
        source, target = layer_of(found.source), layer_of(found.target)
        if source is None:
            room = room_of(found.source, dict(SIDE_ROOMS))
            assert room is not None
            allowed = (
                room_of(found.target, dict(SIDE_ROOMS)) == room if target is None else target <= SIDE_ROOMS[room][0]
            )
        elif target is None:
            room = room_of(found.target, dict(SIDE_ROOMS))
            assert room is not None
            allowed = source >= SIDE_ROOMS[room][1]
        else:
            allowed = target <= source
        if not allowed:
            wrong.append(f"{found} (layer {_shown(source)} from layer {_shown(target)})")
    return wrong


def _shown(layer: int | None) -> str:
    return "side" if layer is None else "top" if layer == TOP else str(layer)


def hidden_imports(tree: SourceTree) -> list[str]:
    """Imports of our own modules inside functions. Only the package itself and its command line may have some."""
    return [str(found) for found in tree.imports if found.in_function and layer_of(found.source) != TOP]


def circles(tree: SourceTree) -> list[str]:
    """Groups of modules that import each other (Tarjan's strongly connected components), the package itself aside."""
    graph: dict[str, set[str]] = {name: set() for name in tree.modules}
    for found in tree.imports:
        if found.source != "flair" and found.target in graph and found.target != "flair":
            graph[found.source].add(found.target)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[str] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            start = stack.index(name)
            group = stack[start:]
            del stack[start:]
            if len(group) > 1:
                groups.append(" <-> ".join(sorted(group)))

    for name in graph:
        if name not in index:
            visit(name)
    return groups


@pytest.fixture(scope="module")
def tree() -> SourceTree:
    return SourceTree(ROOT)


def test_no_module_imports_from_a_layer_above(tree: SourceTree) -> None:
    assert len(tree.modules) > 30, "the source tree was not found"
    assert upward_imports(tree) == []


def test_no_modules_import_each_other_in_a_circle(tree: SourceTree) -> None:
    assert circles(tree) == []


def test_no_import_of_our_own_hides_in_a_function(tree: SourceTree) -> None:
    assert hidden_imports(tree) == []


# --- the test itself can fail ---


def _fake(tmp_path: Path, files: dict[str, str]) -> SourceTree:
    """A tree with the given sources, by paths below the package such as ``data/sentence``."""
    for name, source in {"__init__": "", **files}.items():
        path = tmp_path / "flair" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        (path.parent / "__init__.py").touch()
    return SourceTree(tmp_path)


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("from flair.models import TextClassifier", "flair.data.sentence:1 imports flair.models.text"),
        ("import flair.models.text", "flair.data.sentence:1 imports flair.models.text"),
        ("def f():\n    from flair.models.text import x", "flair.data.sentence:2 imports flair.models.text"),
        ("from ..models import text", "flair.data.sentence:1 imports flair.models.text"),
        ("import importlib\nm = importlib.import_module('flair.models.text')", "flair.data.sentence:2 imports"),
        ("from flair import device", "flair.data.sentence:1 imports flair (layer 1 from layer top)"),
        ("from flair.datasets import reader", "flair.data.sentence:1 imports flair.datasets.reader"),
    ],
)
def test_an_upward_import_is_found(tmp_path: Path, source: str, finding: str) -> None:
    facade = "__getattr__, __dir__ = lazy_exports(__name__, {'TextClassifier': 'flair.models.text'})"
    fake = _fake(
        tmp_path, {"data/sentence": source, "models/__init__": facade, "models/text": "", "datasets/reader": ""}
    )
    wrong = upward_imports(fake)
    assert len(wrong) == 1
    assert wrong[0].startswith(finding)


@pytest.mark.parametrize(
    "source",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from flair.models import text",
        "from flair import _runtime",
        "from flair.data import token",
        "import torch\nfrom flairy import models",
    ],
)
def test_a_rightful_import_is_not_reported(tmp_path: Path, source: str) -> None:
    fake = _fake(tmp_path, {"data/sentence": source, "data/token": "", "models/text": "", "_runtime": ""})
    assert upward_imports(fake) == []
    assert circles(fake) == []


def test_a_side_room_stays_beside(tmp_path: Path) -> None:
    fake = _fake(tmp_path, {"datasets/reader": "from flair.models import text", "models/text": ""})
    assert upward_imports(fake) == ["flair.datasets.reader:1 imports flair.models.text (layer side from layer 5)"]


def test_a_circle_is_found_through_a_lazy_facade(tmp_path: Path) -> None:
    fake = _fake(
        tmp_path,
        {
            "data/__init__": "_EXPORTS = {**dict.fromkeys(('Token',), 'flair.data.token')}\n"
            "__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS)",
            "data/sentence": "from flair.data import Token",
            "data/token": "def f():\n    from flair.data.sentence import Sentence",
            "data/label": "from flair.data.token import Token",
        },
    )
    assert circles(fake) == ["flair.data.sentence <-> flair.data.token"]
    assert hidden_imports(fake) == ["flair.data.token:2 imports flair.data.sentence"]


def test_a_module_without_a_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"flair\.attic has no place"):
        upward_imports(_fake(tmp_path, {"attic": "from flair import data", "data/x": ""}))
