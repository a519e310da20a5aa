"""What a user does wrong ends in one clear error: what was found, in which file and line, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flair.checkpoint import CheckpointError
from flair.data import Corpus, Dictionary, Sentence
from flair.datasets import (
    ClassificationCorpus,
    ClassificationDataset,
    CSVClassificationCorpus,
    CSVClassificationDataset,
    FlairDatapointDataset,
)
from flair.embeddings import (
    FlairEmbeddings,
    TransformerDocumentEmbeddings,
    TransformerWordEmbeddings,
    WordEmbeddings,
)
from flair.models import LanguageModel, SequenceTagger, TextClassifier
from flair.nn import Classifier, Model
from flair.trainers import ModelTrainer
from flair.trainers.loop import NonFiniteLossError
from tests.embeddings.tiny_transformers import make_model_folder

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00\xff\xfe" + bytes(range(256)) * 4
HTML = b"<!DOCTYPE html>\n<html><body>404 not found</body></html>"


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def says(error: Any, *parts: str) -> None:
    message = str(error.value)
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"
    assert len(message) < 1200, "one clear error, not a listing"


# --- model files ---

LOADERS: dict[str, Callable[[Path], Any]] = {
    "TextClassifier": TextClassifier.load,
    "SequenceTagger": SequenceTagger.load,
    "Classifier": Classifier.load,
    "Model": Model.load,
    "LanguageModel": LanguageModel.load_language_model,
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_missing_model_file(load: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "resources" / "best-model.pt"
    with pytest.raises((FileNotFoundError, ValueError)) as error:
        load(path)
    says(error, str(path))
    assert any(words in str(error.value) for words in ("No model file", "no local path and no pretrained name"))


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize(
    ("content", "seen"),
    [(PNG, "PNG picture"), (HTML, "HTML page"), (b"", "empty file"), (b"Hello\n", "text file that begins with 'Hello")],
    ids=["png", "html", "empty", "text"],
)
def test_a_file_that_is_no_model(load: Callable[[Path], Any], content: bytes, seen: str, tmp_path: Path) -> None:
    path = write(tmp_path / "best-model.pt", content)
    with pytest.raises(CheckpointError) as error:
        load(path)
    says(error, str(path), "no model file", seen)


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_folder_that_is_no_model(load: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError) as error:
        load(tmp_path)
    says(error, str(tmp_path), "no model folder", "config.json", "model.safetensors")


def test_another_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError) as error:
        TextClassifier.load(path)
    says(error, str(path), "'state_dict'", "weight")


# --- files of embeddings ---


@pytest.mark.parametrize("make", [TransformerWordEmbeddings, TransformerDocumentEmbeddings])
def test_a_wrong_path_of_a_transformer(make: Callable[[str], Any], tmp_path: Path) -> None:
    for path in (str(tmp_path / "bret-base"), "./models/bret", "no-such-organisation/bret-base"):
        with pytest.raises(FileNotFoundError) as error:
            make(path)
        says(error, f"Transformer '{path}' not found", "no such folder", "save_pretrained")


def test_a_folder_that_is_no_transformer(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error:
        TransformerDocumentEmbeddings(str(tmp_path))
    says(error, str(tmp_path), "config.json is missing", "save_pretrained")


@pytest.mark.parametrize("make", [FlairEmbeddings, WordEmbeddings])
def test_a_wrong_path_of_other_embeddings(make: Callable[[str], Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        make(str(tmp_path / "nowhere.pt"))
    says(error, str(tmp_path / "nowhere.pt"), "not available or is not a valid path")


@pytest.mark.parametrize("content", [PNG, HTML], ids=["png", "html"])
def test_a_file_that_holds_no_word_vectors(content: bytes, tmp_path: Path) -> None:
    for name in ("vectors.txt", "vectors.bin", "vectors.gensim"):
        if not name.endswith(".txt"):
            pytest.importorskip("gensim")
        path = write(tmp_path / name, content)
        with pytest.raises(ValueError) as error:
            WordEmbeddings(str(path))
        says(error, str(path))
        assert any(part in str(error.value) for part in ("line 1", "holds no word vectors"))
    with pytest.raises(ValueError) as error:
        WordEmbeddings(str(tmp_path))
    says(error, str(tmp_path), "is a folder")


def test_a_file_that_is_no_flair_embedding(tmp_path: Path) -> None:
    path = write(tmp_path / "news-forward.pt", HTML)
    with pytest.raises(CheckpointError) as error:
        FlairEmbeddings(str(path))
    says(error, str(path), "HTML page")


# --- corpora ---


def test_missing_corpus_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        ClassificationCorpus(tmp_path / "data")
    says(error, str(tmp_path / "data"), "does not exist")
    write(tmp_path / "sentences.txt", "__label__a b")
    with pytest.raises(FileNotFoundError) as error:
        ClassificationCorpus(tmp_path)
    says(error, str(tmp_path), "'train', 'dev' or 'test'", "sentences.txt", "train_file=")
    for make in (ClassificationDataset, lambda path, kind: CSVClassificationDataset(path, {0: "text"}, kind)):
        with pytest.raises(FileNotFoundError) as error:
            make(tmp_path / "train.txt", "topic")
        says(error, str(tmp_path / "train.txt"), "does not exist")


def test_empty_corpora(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as error:
        Corpus(FlairDatapointDataset([]), name="reviews")
    says(error, "'reviews'", "missing or empty")
    write(tmp_path / "train.txt", "")
    with pytest.raises(RuntimeError) as error:
        ClassificationCorpus(tmp_path)
    says(error, str(tmp_path), "missing or empty")
    with pytest.raises(RuntimeError) as error:
        CSVClassificationCorpus(tmp_path, {0: "text", 1: "label"}, "topic", name="table")
    says(error, "'table'", "missing or empty")


def test_a_corpus_without_labels_of_the_type() -> None:
    sentence = Sentence("good").add_label("topic", "a")
    corpus = Corpus(FlairDatapointDataset([sentence] * 3), sample_missing_splits=False)
    with pytest.raises(ValueError) as error:
        corpus.make_label_dictionary("topik")
    says(error, "topik", "'topic'")


@pytest.mark.parametrize("memory_mode", ["full", "partial", "disk"])
def test_a_binary_file_given_as_corpus(memory_mode: str, tmp_path: Path) -> None:
    path = write(tmp_path / "train.txt", PNG)
    with pytest.raises(ValueError) as error:
        ClassificationCorpus(tmp_path, memory_mode=memory_mode)
    says(error, f"{path}, line 1", "utf-8")
    write(path, b"__label__good It works.\n__label__good It\n__label__bad caf\xe9 au lait\n")
    with pytest.raises(ValueError) as error:
        ClassificationCorpus(tmp_path, memory_mode=memory_mode)
    says(error, f"{path}, line 3", "not valid utf-8", "encoding='latin-1'")
    write(path, HTML)
    with pytest.raises(ValueError) as error:
        ClassificationCorpus(tmp_path, memory_mode=memory_mode)
    says(error, str(path), "no line has a label", "__label__topic", "line 1")


@pytest.mark.parametrize("in_memory", [True, False])
def test_tables_that_do_not_fit(in_memory: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "good,It works.\nbad\n")
    columns = {0: "label_topic", 1: "text"}
    with pytest.raises(ValueError) as error:
        CSVClassificationCorpus(tmp_path, columns, "topic", in_memory=in_memory)
    says(error, f"{path}, line 2", "1 columns", "needs 2", "['bad']")
    write(path, "good\tIt works.\nbad\tIt does not.\n")
    with pytest.raises(ValueError) as error:
        CSVClassificationCorpus(tmp_path, columns, "topic", in_memory=in_memory)
    says(error, f"{path}, line 1", "1 columns", "needs 2", "delimiter=','")
    with pytest.raises(ValueError) as error:
        CSVClassificationCorpus(tmp_path, {0: "label_topic", 1: "txt"}, "topic", in_memory=in_memory)
    says(error, "{0: 'label_topic', 1: 'txt'}", "no 'text' column")
    write(path, PNG)
    with pytest.raises(ValueError) as error:
        CSVClassificationCorpus(tmp_path, columns, "topic", in_memory=in_memory)
    says(error, f"{path}, line 1", "utf-8")


# --- training ---


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("bert"), "bert")


def classifier(bert: Path, labels: str = "ab", **options: Any) -> TextClassifier:
    dictionary = Dictionary(add_unk=False)
    for label in labels:
        dictionary.add_item(label)
    return TextClassifier(TransformerDocumentEmbeddings(str(bert)), "topic", label_dictionary=dictionary, **options)


def corpus_of(*labels: str) -> Corpus:
    sentences = [Sentence(f"text {number}").add_label("topic", label) for number, label in enumerate(labels)]
    return Corpus(FlairDatapointDataset(sentences), sample_missing_splits=False)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_label_unknown_to_the_dictionary(bert: Path, tmp_path: Path, multi_label: bool) -> None:
    model = classifier(bert, multi_label=multi_label)
    with pytest.raises(IndexError) as error:
        ModelTrainer(model, corpus_of("a", "b", "mystery")).fine_tune(tmp_path / "run", max_epochs=1)
    says(error, 'Sentence[2]: "text 2"', "'mystery'", "'topic'", "a, b", "make_label_dictionary('topic')", "add_unk")


def test_a_data_point_without_label_of_the_type(bert: Path) -> None:
    with pytest.raises(IndexError) as error:
        classifier(bert).forward_loss([Sentence("no label")])
    says(error, 'Sentence[2]: "no label"', "no 'topic' label", "make_label_dictionary")


def test_nothing_to_train_on(bert: Path, tmp_path: Path) -> None:
    empty = FlairDatapointDataset([])
    corpus = Corpus(empty, corpus_of("a", "b").train, name="reviews", sample_missing_splits=False)
    with pytest.raises(ValueError) as error:
        ModelTrainer(classifier(bert), corpus).train(tmp_path / "run")
    says(error, "train split of corpus 'reviews' is empty", "dev: 2")
    assert not (tmp_path / "run").exists()


def test_token_embeddings_for_a_text_classifier(bert: Path) -> None:
    with pytest.raises(TypeError) as error:
        TextClassifier(TransformerWordEmbeddings(str(bert)), "topic", label_dictionary=Dictionary())  # type: ignore
    says(
        error, "TransformerWordEmbeddings gives one a token", "TransformerDocumentEmbeddings", "DocumentPoolEmbeddings"
    )


def test_a_path_in_place_of_a_corpus(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError) as error:
        ModelTrainer(classifier(bert), "data/reviews").train(tmp_path / "run")  # type: ignore[arg-type]
    says(error, "needs a Corpus, got str", "ClassificationCorpus")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number(bert: Path, tmp_path: Path, value: float) -> None:
    model = classifier(bert)
    with torch.no_grad():
        model.decoder.bias[0] = value
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(NonFiniteLossError) as error:
        ModelTrainer(model, corpus_of(*"abab")).fine_tune(tmp_path, max_epochs=1, mini_batch_size=2)
    says(error, "loss is", "epoch 1, batch 1 of 2", "learning_rate", "weights were not changed")
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(before[name].numpy(), tensor.numpy(), err_msg=name)
    assert not (tmp_path / "final-model.pt").exists()


def test_no_data_to_predict_or_evaluate(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = classifier(bert)
    assert model.predict([]) == []
    with caplog.at_level("WARNING", logger="flair"):
        assert model.evaluate([], gold_label_type="topic").main_score == 0.0
    assert "nothing to score" in caplog.text


def test_a_training_folder_that_is_a_file(bert: Path, tmp_path: Path) -> None:
    blocked = write(tmp_path / "run", "a file where the folder should be")
    with pytest.raises(OSError) as error:
        ModelTrainer(classifier(bert), corpus_of("a", "b")).train(blocked)
    says(error, str(blocked))
