"""Every kind of file that flair 0.15.1 writes (folders below ``golden/``): it loads, and says what it said there."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import flair
from flair.checkpoint import UnsafeCheckpointError, inspect_file, load_state, save_state
from flair.embeddings import document, image, token, transformer
from flair.embeddings.base import EMBEDDING_CLASSES, load_embeddings
from flair.models import LanguageModel, RegexpTagger
from flair.nn import Model
from tests.golden import inputs

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-5
NEEDED = {
    "byte_pair": ("sentencepiece", "gensim"),
    "fast_text": ("gensim",),
    "onnx": ("onnx", "onnxruntime"),
    "layoutlmv3": ("PIL",),
    "tfidf": ("sklearn",),
}
"""Part of a file's name -> the libraries that its embeddings are made with."""


def files(folder: str) -> list[Path]:
    found = sorted((GOLDEN / folder).glob("*.pt"))
    assert found
    return found


def each(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files(folder), ids=lambda file: file.stem)


def recorded(file: Path) -> dict[str, Any]:
    for part, libraries in NEEDED.items():
        if part in file.stem:
            for library in libraries:
                pytest.importorskip(library)
    return json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache with the English table of MUSE, sentence-transformers, and the folder that ONNX graphs lie in."""
    monkeypatch.setattr(flair, "cache_root", tmp_path / "cache")
    inputs.cache_with_muse(tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "sentence_transformers", inputs.sentence_transformers())
    monkeypatch.chdir(GOLDEN / "models")


def assert_same(found: Any, expected: Any) -> None:
    """Equal in everything but the last digits of numbers."""
    if isinstance(expected, list):
        assert len(found) == len(expected)
        if expected and all(isinstance(item, float) for item in expected):
            assert found == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE)
            return
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=TOLERANCE)
    else:
        assert found == expected


def assert_predicts(model: Any, record: dict[str, Any]) -> None:
    found = inputs.predictions(model, record)
    assert {"labels", "vectors"} <= record.keys()
    for key in ("labels", "vectors", "all"):
        if key in record:
            assert_same(found[key], record[key])


# --- models ---


@each("models")
def test_models_predict_as_the_release_did(file: Path) -> None:
    record = recorded(file)
    model: Any = Model.load(file)
    assert type(model).__name__ == record["class"]
    assert_predicts(model, record)


@each("models")
@pytest.mark.parametrize("suffix", [".pt", ""], ids=["file", "folder"])
def test_models_are_the_same_after_another_round(file: Path, suffix: str, tmp_path: Path) -> None:
    record = recorded(file)
    Model.load(file).save(tmp_path / f"again{suffix}")
    assert_predicts(Model.load(tmp_path / f"again{suffix}"), record)


@each("models")
def test_models_hold_nothing_but_data(file: Path) -> None:
    found = inspect_file(file)
    assert found["unsafe"] == []
    assert found["damaged"] == []
    assert found["class"] == json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["class"]


def test_every_class_of_embeddings_has_a_file() -> None:
    """But those that 0.15.1 itself cannot write, or that need published weights."""
    seen: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("__cls__"), str):
                seen.add(value["__cls__"])
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    for folder in ("models", "embeddings"):
        for file in files(folder):
            look(load_state(file))
    modules = {module.__name__ for module in (document, image, token, transformer)}
    own = {name for name, cls in EMBEDDING_CLASSES.items() if cls.__module__ in modules}
    missing = own - seen
    bases = {"TransformerOnnxEmbeddings", "TransformerJitEmbeddings"}
    assert missing == {"IdentityImageEmbeddings", "NetworkImageEmbeddings", *bases}


# --- embeddings ---


def points_for(record: dict[str, Any], file: Path) -> list[Any]:
    return inputs.images() if file.stem.startswith("image_") else inputs.questions(record)[: inputs.EMBEDDED]


def assert_embeds(embedding: Any, record: dict[str, Any], file: Path) -> None:
    with torch.no_grad():
        assert_same(inputs.vectors(embedding.eval(), points_for(record, file)), record["vectors"])
    assert embedding.embedding_length == record["length"]


@each("embeddings")
def test_saved_embeddings_give_the_same_vectors(file: Path) -> None:
    record = recorded(file)
    for params in (load_state(file), torch.load(file, weights_only=False)):
        embedding = load_embeddings(params)
        assert_embeds(embedding, record, file)
        embedding.train()  # empties the pool, if there is one
        again = io.BytesIO()
        save_state(embedding.save_embeddings(), again)
        assert_embeds(load_embeddings(load_state(io.BytesIO(again.getvalue()))), record, file)


@pytest.mark.parametrize(
    "file",
    [f for f in files("objects") if "class" in f.stem or (GOLDEN / "embeddings" / f.name).exists()],
    ids=lambda f: f.stem,
)
def test_pickled_embeddings_give_the_same_vectors(file: Path) -> None:
    """Objects that users pickled whole. Python runs such files: only ``torch.load`` or ``pickle`` reads them."""
    record = recorded(file)
    embedding = torch.load(file, weights_only=False)
    assert type(embedding).__name__ == record["class"]
    assert_embeds(embedding, record, file)
    embedding.train()  # empties the pool, if there is one
    assert_embeds(load_embeddings(embedding.save_embeddings()), record, file)


# --- language models ---


@each("language_models")
def test_language_models_have_the_same_perplexity(file: Path) -> None:
    record = recorded(file)
    model = LanguageModel.load_language_model(file)
    for text, expected in zip(record["sentences"], record.get("perplexity", []), strict=False):
        assert model.calculate_perplexity(text) == pytest.approx(expected, rel=TOLERANCE)
    assert ("perplexity" in record) == (model.decoder is not None)
    for one in (model, LanguageModel.load_language_model(file, has_decoder=False)):
        with torch.no_grad():
            states = one.get_representation(record["sentences"][: inputs.EMBEDDED], "\n", "\n")
        torch.testing.assert_close(states, torch.tensor(record["states"]), atol=TOLERANCE, rtol=TOLERANCE)


def test_language_models_in_training() -> None:
    file = GOLDEN / "language_models" / "checkpoint.pt"
    found = LanguageModel.load_checkpoint(file)
    assert {key: found[key] for key in ("epoch", "split", "loss")} == recorded(file)["progress"]
    assert found["optimizer_state_dict"]["param_groups"][0]["momentum"] == 0.9
    torch.optim.SGD(found["model"].parameters(), lr=1.0).load_state_dict(found["optimizer_state_dict"])


# --- objects ---


def test_a_pickled_language_model() -> None:
    file = GOLDEN / "objects" / "language_model.pt"
    record = recorded(file)
    model = torch.load(file, weights_only=False)
    assert isinstance(model, LanguageModel)
    found = [model.calculate_perplexity(text) for text in record["sentences"]]
    assert found == pytest.approx(record["perplexity"], rel=TOLERANCE)


def test_pickled_rules() -> None:
    file = GOLDEN / "objects" / "regexp_tagger.pt"
    record = recorded(file)
    rules = torch.load(file, weights_only=False)
    assert isinstance(rules, RegexpTagger)
    sentences = rules.predict(inputs.questions(record))
    found = [[[label.data_point.text, label.value] for label in sentence.get_labels()] for sentence in sentences]
    assert found == record["labels"]


def test_a_model_around_an_embeddings_object(tmp_path: Path) -> None:
    """An early layout: in place of a description the embeddings stand there as a pickled object."""
    file = GOLDEN / "objects" / "tagger_with_embeddings_object.pt"
    record = recorded(file)
    with pytest.raises(UnsafeCheckpointError, match="allow_pickle"):
        Model.load(file)
    model = Model.load(file, allow_pickle=True)
    assert_predicts(model, record)
    model.save(tmp_path / "new.pt")
    assert_predicts(Model.load(tmp_path / "new.pt"), record)
