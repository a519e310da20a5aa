"""Importing is cheap: heavy libraries load when they are used. And each optional one names an extra that exists."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

HEAVY = (
    "accelerate",
    "bpemb",
    "gensim",
    "huggingface_hub",
    "matplotlib",
    "pandas",
    "peft",
    "scipy",
    "sklearn",
    "spacy",
    "tokenizers",
    "transformers",
)
STATEMENTS = (
    "import flair",
    "from flair.data import Corpus, Dictionary, Sentence",
    "from flair.datasets import ClassificationCorpus",
    "from flair.embeddings import TransformerDocumentEmbeddings, TransformerWordEmbeddings",
    "from flair.nn import Classifier, Model",
    "from flair.models import TextClassifier",
    "from flair.trainers import ModelTrainer",
)
PROBE = f"""
import json, sys
found = {{}}
for statement in {STATEMENTS!r}:
    exec(statement)
    found[statement] = sorted(set({HEAVY!r}) & set(sys.modules))
print(json.dumps(found))
"""


def in_fresh_process(code: str) -> str:
    """What a new interpreter prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    return json.loads(in_fresh_process(PROBE).splitlines()[-1])


@pytest.mark.parametrize("statement", STATEMENTS)
def test_import_loads_no_heavy_library(loaded: dict[str, list[str]], statement: str) -> None:
    assert loaded[statement] == []


def test_the_probe_sees_a_heavy_library() -> None:
    assert in_fresh_process(PROBE.replace("exec(statement)", "import scipy")).count('"scipy"') == len(STATEMENTS)


def test_submodules_are_attributes_of_the_package() -> None:
    code = (
        "import flair; print(flair.data.Sentence('a b'), flair.nn.Model.__name__, flair.models.TextClassifier.__name__)"
    )
    assert "Model TextClassifier" in in_fresh_process(code)


def test_device_and_cache_root_can_be_assigned() -> None:
    code = (
        "import flair, torch; flair.device = torch.device('meta'); flair.cache_root = 'somewhere';"
        "from flair import _runtime; print(_runtime.device, _runtime.cache_root)"
    )
    assert in_fresh_process(code).split() == ["meta", "somewhere"]


def _extras_named_in_errors() -> dict[str, str]:
    """Extra -> a place in the source that names it."""
    named = {}
    for path in sorted((ROOT / "flair").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lazy_import" and node.args:
                group = node.args[0]
                assert isinstance(group, ast.Constant), f"{path}:{node.lineno}: name the extra literally"
                named[str(group.value)] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return named


def _declared_extras() -> set[str]:
    """The extras of setup.py, read without running it."""
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXTRAS":
            return set(ast.literal_eval(node.value))
    raise LookupError("setup.py has no table EXTRAS")


def test_every_extra_that_an_error_names_exists() -> None:
    named, declared = _extras_named_in_errors(), _declared_extras()
    assert named, "no call of lazy_import found"
    assert {group: place for group, place in named.items() if group not in declared} == {}
