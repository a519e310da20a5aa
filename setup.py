"""Packaging: the version comes from the package, the core dependencies from requirements.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """The version in ``flair/_runtime.py``, read without importing torch."""
    text = (ROOT / "flair" / "_runtime.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError('flair/_runtime.py has no line of the form: __version__ = "1.2.3"')
    return found.group(1)


def requirements() -> list[str]:
    """The lines of requirements.txt that name a package."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


# One extra for each optional library (or group of them) that `flair.class_utils.lazy_import` names in its errors.
EXTRAS = {
    "word-embeddings": ["gensim>=4.3", "bpemb>=0.3.5", "lmdb>=1.3"],
    "sentence-transformers": ["sentence-transformers>=3.0"],
    "vision": ["torchvision>=0.19"],
    "huggingface": ["huggingface_hub>=0.23"],
    "spacy": ["spacy>=3.4"],
    "scispacy": ["scispacy>=0.5"],
    "japanese": ["konoha[janome]>=5.0"],
    "datasets": ["boto3>=1.20", "gdown>=5.0", "bioc>=2.0", "patool>=2.0"],
    "visual": ["matplotlib>=3.6"],
    "onnx": ["onnx>=1.15", "onnxruntime>=1.17"],
    "quantization": ["bitsandbytes>=0.43", "torchao>=0.7"],
    "tensorboard": ["tensorboard>=2.14"],
    "wandb": ["wandb>=0.15"],
    "clearml": ["clearml>=1.10"],
    "mongo": ["pymongo>=4.0"],
    "vocab": ["transformer-smaller-training-vocab>=0.4"],
}
TEST_TOOLS = ["pytest>=8", "pytest-socket>=0.7", "pytest-xdist>=3.5", "hypothesis>=6.100", "ruff>=0.6", "mypy>=1.10"]
TEST_LIBRARIES = ["sacremoses>=0.1", "attrs>=23"]  # XLM's tokenizer; CorDA, one of peft's initialisations

setup(
    name="flair",
    version=version(),
    description="Sequence labelling, text classification and embeddings on top of torch and transformers",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="flair contributors",
    license="MIT",
    packages=find_packages(include=["flair", "flair.*"]),
    python_requires=">=3.10",
    install_requires=requirements(),
    extras_require={**EXTRAS, "test": TEST_TOOLS + TEST_LIBRARIES},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
)
