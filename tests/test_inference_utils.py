"""Word vectors in a store on disk give the predictions that they give in memory."""

from __future__ import annotations

import copy
import pickle
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flair
from flair.data import Dictionary, Sentence
from flair.embeddings import DocumentPoolEmbeddings, StackedEmbeddings, WordEmbeddings
from flair.inference_utils import SqliteWordEmbeddingsStoreBackend, WordEmbeddingsStore
from flair.models import SequenceTagger, TextClassifier

WORDS = ["the", "cat", "Berlin", "0000", "##", 'x"y', "o'k", "naïve", "house"]
TEXT = "The cat in Berlin saw 1999 and 12 x\"y houses o'k NAÏVE"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flair, "cache_root", tmp_path / "cache")


@pytest.fixture(params=["sqlite", "lmdb"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "lmdb":
        pytest.importorskip("lmdb")
    return request.param


def vectors(folder: Path, size: int = 5, **options: Any) -> WordEmbeddings:
    file = folder / "embeddings" / "small.txt"
    file.parent.mkdir(exist_ok=True)
    generator = np.random.default_rng(size)
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in generator.normal(size=size))}" for word in WORDS]
    file.write_text(f"{len(WORDS)} {size}\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return WordEmbeddings(str(file), **options)


def embedded(embeddings: Any, text: str = TEXT) -> torch.Tensor:
    sentence = Sentence(text.split())
    embeddings.embed(sentence)
    return torch.stack([token.get_embedding(embeddings.get_names()) for token in sentence])


def tagger(folder: Path) -> SequenceTagger:
    torch.manual_seed(0)
    tags = Dictionary(add_unk=False)
    for tag in ("O", "S-A", "S-B"):
        tags.add_item(tag)
    embeddings = StackedEmbeddings([vectors(folder), vectors(folder)])
    return SequenceTagger(embeddings, tags, "ner", tag_format="BIOES", hidden_size=4, use_crf=False).eval()


def predicted(model: Any) -> list[Any]:
    sentences = [Sentence(TEXT), Sentence("cat"), Sentence("the house")]
    model.predict(sentences, return_probabilities_for_all_classes=True, force_token_predictions=True)
    return [label.score for s in sentences for token in s for label in token.get_tags_proba_dist("ner")]


@pytest.mark.parametrize("options", [{}, {"stable": True}])
def test_a_store_gives_the_vectors_of_the_embedding(tmp_path: Path, backend: str, options: dict[str, Any]) -> None:
    embedding = vectors(tmp_path, **options)
    store = WordEmbeddingsStore(embedding, backend, verbose=False)
    assert store.store_path == flair.cache_root / "embeddings" / f"small.txt.{backend}"
    assert store.get_names() == [embedding.name]
    assert store.embedding_length == 5
    assert torch.equal(embedded(store), embedded(embedding))
    rows, lengths = store.encode_tokens([Sentence("cat"), Sentence("the house")])
    assert torch.equal(rows, embedding.encode_tokens([Sentence("cat"), Sentence("the house")])[0])
    assert lengths.tolist() == [1, 2]
    assert store.backend._get_vector("nothing").tolist() == [0.0] * 5
    again = WordEmbeddingsStore(embedding, backend, verbose=False)
    assert torch.equal(embedded(again), embedded(embedding))


def test_models_predict_the_same_with_stores(tmp_path: Path, backend: str) -> None:
    model = tagger(tmp_path)
    expected = predicted(model)
    WordEmbeddingsStore.create_stores(model, backend)
    assert isinstance(model.embeddings.embeddings[0], WordEmbeddings)
    WordEmbeddingsStore.load_stores(model, backend)
    assert all(isinstance(member, WordEmbeddingsStore) for member in model.embeddings.embeddings)
    assert not any(isinstance(module, WordEmbeddings) for module in model.modules())
    assert predicted(model) == expected
    store = flair.cache_root / "embeddings" / f"small.txt.{backend}"
    assert store.exists()
    WordEmbeddingsStore.delete_stores(model, backend)
    assert not store.exists()
    with pytest.raises(FileNotFoundError, match=r"small\.txt"):
        model.predict(Sentence("something new"))


def test_document_embeddings_and_other_types(tmp_path: Path) -> None:
    topics = Dictionary()
    topics.add_item("a")
    model = TextClassifier(DocumentPoolEmbeddings([vectors(tmp_path)]), label_dictionary=topics, label_type="topic")
    model.to(torch.bfloat16).eval()
    sentences = [Sentence(TEXT), Sentence("cat")]
    expected = model.embeddings.encode_documents(sentences)
    WordEmbeddingsStore.load_stores(model)
    for sentence in sentences:
        sentence.clear_embeddings()
    assert torch.equal(model.embeddings.encode_documents(sentences), expected)
    model.predict(sentences)
    assert sentences[0].get_label("topic").score > 0


def test_stores_of_released_versions_are_used(tmp_path: Path) -> None:
    embedding = vectors(tmp_path)
    path = flair.cache_root / "embeddings" / "small.txt.sqlite"
    path.parent.mkdir(parents=True)
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE embedding(word text,v0 float,v1 float,v2 float,v3 float,v4 float)")
    for word, row in embedding.vocab.items():
        db.execute("INSERT INTO embedding VALUES (?,?,?,?,?,?)", (word, *embedding.embedding.weight[row].tolist()))
    db.execute("CREATE INDEX embedding_index ON embedding(word)")
    db.commit()
    db.close()
    written = path.read_bytes()
    assert torch.equal(embedded(WordEmbeddingsStore(embedding)), embedded(embedding))
    assert path.read_bytes() == written


@pytest.mark.parametrize("content", [b"", b"no database", None])
def test_stores_that_do_not_fit_are_made_anew(tmp_path: Path, content: bytes | None) -> None:
    path = flair.cache_root / "embeddings" / "small.txt.sqlite"
    path.parent.mkdir(parents=True)
    if content is None:
        WordEmbeddingsStore(vectors(tmp_path, size=3))
    else:
        path.write_bytes(content)
    embedding = vectors(tmp_path, size=5)
    assert torch.equal(embedded(WordEmbeddingsStore(embedding)), embedded(embedding))
    assert [file.name for file in path.parent.iterdir()] == ["small.txt.sqlite"]


def test_an_interrupted_store_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = vectors(tmp_path)

    def rows(*_: Any) -> Any:
        yield "the", np.zeros(5, dtype=np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr("flair.inference_utils._rows_of", rows)
    with pytest.raises(KeyboardInterrupt):
        WordEmbeddingsStore(embedding)
    assert list((flair.cache_root / "embeddings").iterdir()) == []


def test_files_of_equal_names_have_stores_of_their_own(tmp_path: Path) -> None:
    paths = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "v.txt").write_text("1 2\ncat 1 2\n")
        paths.add(WordEmbeddingsStore(WordEmbeddings(str(tmp_path / folder / "v.txt"))).store_path)
    assert len(paths) == 2


def test_copies_and_threads(tmp_path: Path) -> None:
    store = WordEmbeddingsStore(vectors(tmp_path))
    expected = embedded(store)
    assert torch.equal(embedded(pickle.loads(pickle.dumps(store))), expected)
    assert torch.equal(embedded(copy.deepcopy(store)), expected)
    store._known.clear()
    found: list[torch.Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(embedded(store))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(torch.equal(rows, expected) for rows in found)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='"paper" is not available'):
        WordEmbeddingsStore(vectors(tmp_path), backend="paper")
    without_vectors = WordEmbeddings(None, vocab={}, embedding_length=5, name="/somewhere/embeddings/lost")
    with pytest.raises(FileNotFoundError, match=r"lost\.sqlite.*create_stores"):
        SqliteWordEmbeddingsStoreBackend(without_vectors, verbose=False)
    with pytest.raises(ValueError, match="got str"):
        WordEmbeddingsStore.create_stores("model")
    store = WordEmbeddingsStore(vectors(tmp_path))
    with pytest.raises(NotImplementedError, match="WordEmbeddingsStore cannot be saved"):
        store.save_embeddings()
