"""What all tests share: no network, fixed seeds, and the paths of the test resources."""

from __future__ import annotations

import os
from pathlib import Path

# Before anything imports transformers, which reads these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

import flair


@pytest.fixture(scope="module")
def resources_path() -> Path:
    """The folder of test data."""
    return Path(__file__).parent / "resources"


@pytest.fixture(scope="module")
def tasks_base_path(resources_path: Path) -> Path:
    """The folder of small corpora, one folder a task."""
    return resources_path / "tasks"


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Every test draws the same random numbers, alone or after others."""
    flair.set_seed(0)
