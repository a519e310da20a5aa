"""One dtype for the whole model: at construction, after ``to``, and through files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flair.data import Dictionary, Sentence
from flair.embeddings import FlairEmbeddings, TransformerDocumentEmbeddings, TransformerWordEmbeddings
from flair.models import LanguageModel, PrefixedSequenceTagger, SequenceTagger, TextClassifier, TokenClassifier
from flair.models.prefixed_tagger import EntityTypeTaskPromptAugmentationStrategy
from flair.nn import Model, PrototypicalDecoder
from tests.embeddings.tiny_transformers import make_model_folder
from tests.peft.adapted import dictionary

HALF = torch.bfloat16
TEXT = "the quick fox jumps over Berlin ."
DTYPES = [("float32", torch.float32), ("bfloat16", HALF), ("auto", torch.float32)]


@pytest.fixture(scope="module", params=["bert", "modernbert", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp(request.param), request.param)


def classifier(folder: Path, prototypes: bool = False, **options: Any) -> TextClassifier:
    decoder = {"decoder": PrototypicalDecoder(num_prototypes=2, embeddings_size=16)} if prototypes else {}
    embeddings = TransformerDocumentEmbeddings(str(folder), **options)
    return TextClassifier(embeddings, label_dictionary=dictionary("PER", "LOC"), label_type="topic", **decoder)


def tagger(folder: Path, rnn: bool = True, prefixed: bool = False, **options: Any) -> SequenceTagger:
    embeddings = TransformerWordEmbeddings(str(folder), **options)
    head: dict[str, Any] = {"use_crf": rnn, "use_rnn": rnn, "reproject_embeddings": rnn, "hidden_size": 6}
    head.update(tag_dictionary=dictionary("PER", "LOC", spans=True), tag_type="ner")
    if prefixed:
        strategy = EntityTypeTaskPromptAugmentationStrategy(["PER", "LOC"])
        return PrefixedSequenceTagger(embeddings, augmentation_strategy=strategy, **head)
    return SequenceTagger(embeddings, **head)


BUILD = {
    "classifier": classifier,
    "prototypes": lambda folder, **options: classifier(folder, prototypes=True, **options),
    "crf tagger": tagger,
    "linear tagger": lambda folder, **options: tagger(folder, rnn=False, **options),
    "prefixed tagger": lambda folder, **options: tagger(folder, prefixed=True, **options),
    "token classifier": lambda folder, **options: TokenClassifier(
        TransformerWordEmbeddings(str(folder), **options),
        label_dictionary=dictionary("PER", "LOC", spans=True),
        label_type="ner",
    ),
}


@pytest.fixture(params=BUILD)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def check(model: Model, dtype: torch.dtype) -> None:
    """Every parameter and floating buffer, but for the rotary frequencies, which transformers keep in float32."""
    wrong = {name: p.dtype for name, p in model.named_parameters() if p.dtype != dtype}
    buffers = [(name, b) for name, b in model.named_buffers() if b.is_floating_point() and "inv_freq" not in name]
    wrong.update({name: buffer.dtype for name, buffer in buffers if buffer.dtype != dtype})
    assert not wrong
    assert model.dtype == dtype


def outputs(model: Model) -> list[torch.Tensor]:
    model.eval()
    sentence = Sentence(TEXT)
    model.embeddings.embed(sentence)
    points = [sentence] if sentence.get_embedding().numel() else list(sentence)
    for point in points:
        assert point.get_embedding().dtype == point.embedding.dtype == torch.float32
        assert point.get_embedding().cpu().detach().numpy().dtype == np.float32
    return [point.get_embedding().detach() for point in points]


@pytest.mark.parametrize(("asked", "dtype"), DTYPES, ids=[name for name, _ in DTYPES])
def test_construction_and_files(folder, kind, asked, dtype, tmp_path):
    model = BUILD[kind](folder, dtype=asked)
    check(model, dtype)
    expected = outputs(model)
    for name in ("model.pt", "model"):
        model.save(tmp_path / name)
        loaded = type(model).load(tmp_path / name)
        check(loaded, dtype)
        assert all(torch.equal(one, two) for one, two in zip(outputs(loaded), expected, strict=True))


@pytest.mark.parametrize("option", ["torch_dtype", "dtype"])
def test_dtype_of_the_transformers_options(folder, kind, option):
    check(BUILD[kind](folder, transformers_model_kwargs={option: HALF}), HALF)


def test_to_and_load_are_the_same(folder, kind, tmp_path):
    model = BUILD[kind](folder)
    model.save(tmp_path / "model.pt")
    loaded = type(model).load(tmp_path / "model.pt", dtype="bfloat16")
    model.to(HALF)
    check(model, HALF)
    check(loaded, HALF)
    assert {n: b.dtype for n, b in model.named_buffers()} == {n: b.dtype for n, b in loaded.named_buffers()}
    assert all(torch.equal(one, two) for one, two in zip(outputs(model), outputs(loaded), strict=True))
    check(type(model).load(tmp_path / "model.pt", dtype=torch.float32), torch.float32)


@pytest.mark.parametrize(("asked", "dtype"), DTYPES, ids=[name for name, _ in DTYPES])
def test_taggers_over_language_models(asked, dtype, tmp_path):
    characters = Dictionary()
    for character in TEXT:
        characters.add_item(character)
    embeddings = FlairEmbeddings(LanguageModel(characters, True, 6, 1, embedding_size=4))
    SequenceTagger(embeddings, dictionary("PER", "LOC", spans=True), "ner", hidden_size=6).save(tmp_path / "model.pt")
    model = SequenceTagger.load(tmp_path / "model.pt", dtype=asked)
    check(model, dtype)
    expected = outputs(model)
    model.save(tmp_path / "again.pt")
    again = SequenceTagger.load(tmp_path / "again.pt")
    check(again, dtype)
    assert all(torch.equal(one, two) for one, two in zip(outputs(again), expected, strict=True))


def test_an_unknown_dtype_is_named(tmp_path, folder):
    with pytest.raises(ValueError, match="float99"):
        classifier(folder, dtype="float99")
