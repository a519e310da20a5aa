"""Short names of published embeddings: the URLs they stand for, and the files of a cache that are used as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flair.data import Dictionary, Sentence
from flair.data import dictionary as dictionary_module
from flair.embeddings import (
    BytePairEmbeddings,
    FlairEmbeddings,
    MuseCrosslingualEmbeddings,
    NILCEmbeddings,
    WordEmbeddings,
)
from flair.embeddings._token import contextual, muse, subword, word
from flair.embeddings._token.pretrained import FLAIR_EMBEDDINGS, MUSE_LANGUAGES, WORD_EMBEDDINGS

NAMES = json.loads((Path(__file__).parent / "pretrained_names.json").read_text())


class Reached(Exception):
    """Raised in place of reading the last file."""


@pytest.fixture
def fetched(monkeypatch):
    """What is fetched: pairs of URL and path below the cache root."""
    seen = []

    def record(url, cache_dir):
        seen.append([url, f"{Path(cache_dir).as_posix()}/{url.rsplit('/', 1)[-1]}"])
        return Path("nowhere") / url.rsplit("/", 1)[-1]

    def stop(*args, **options):
        raise Reached

    for module in (contextual, muse, word, dictionary_module):
        monkeypatch.setattr(module, "cached_path", record)
    for module in (muse, word):
        monkeypatch.setattr(module, "read_vectors", stop)
    monkeypatch.setattr(contextual.LanguageModel, "load_language_model", stop)
    monkeypatch.setattr(Dictionary, "load_from_file", stop)
    return seen


@pytest.mark.parametrize("name", NAMES["flair"])
def test_flair(fetched, name):
    with pytest.raises(Reached):
        FlairEmbeddings(name)
    assert fetched == [NAMES["flair"][name]]


def test_the_tables_have_no_other_names():
    assert FLAIR_EMBEDDINGS.keys() == NAMES["flair"].keys()
    assert WORD_EMBEDDINGS.keys() == {name for name in NAMES["word"] if not name.startswith("XX")}
    assert set(MUSE_LANGUAGES) == set(NAMES["muse"])


@pytest.mark.parametrize(("spelled", "code"), [("german-forward", "de-forward"), ("persian-backward", "fa-backward")])
def test_flair_languages_by_name(fetched, spelled, code):
    with pytest.raises(Reached):
        FlairEmbeddings(spelled)
    assert fetched == [NAMES["flair"][code]]


@pytest.mark.parametrize("name", NAMES["word"])
@pytest.mark.parametrize("upper", [False, True])
def test_words(fetched, name, upper):
    given = name.replace("XX", "hu")
    with pytest.raises(Reached):
        WordEmbeddings(given.upper() if upper else given)
    assert fetched == [[part.replace("XX", "hu") for part in file] for file in NAMES["word"][name]]


@pytest.mark.parametrize("name", NAMES["characters"])
def test_characters(fetched, name):
    with pytest.raises(Reached):
        Dictionary.load(name)
    assert fetched == [NAMES["characters"][name]]


@pytest.mark.parametrize("language", NAMES["muse"])
def test_muse(fetched, language):
    sentence = Sentence("word")
    sentence.language_code = language
    with pytest.raises(Reached):
        MuseCrosslingualEmbeddings().embed(sentence)
    file = f"muse.{language}.vec.gensim"
    base = "https://flair.informatik.hu-berlin.de/resources/embeddings/muse"
    assert fetched == [[f"{base}/{part}", f"embeddings/MUSE/{part}"] for part in (f"{file}.vectors.npy", file)]


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("glove",), "glove/glove_s100.zip"),
        (("fastText", "cbow", 300), "fasttext/cbow_s300.zip"),
        (("word2vec",), "word2vec/skip_s100.zip"),
        (("wang2vec", "skip", 50), "wang2vec/skip_s50.zip"),
    ],
)
def test_nilc(monkeypatch, arguments, path):
    seen = []

    def record(url, cache_dir):
        seen.append((url, Path(cache_dir)))
        raise Reached

    monkeypatch.setattr(word, "extract_single_zip_file", record)
    with pytest.raises(Reached):
        NILCEmbeddings(*arguments)
    base = "http://143.107.183.175:22980/download.php?file=embeddings/"
    assert seen == [(base + path, Path("embeddings") / f"nilc-{arguments[0].lower()}")]


def test_byte_pairs(monkeypatch, tmp_path):
    seen = {}

    def published(**options):
        seen.update(options)
        raise Reached

    monkeypatch.setattr(subword, "lazy_import", lambda *names: (published,))
    monkeypatch.setattr(subword._runtime, "cache_root", tmp_path)
    with pytest.raises(Reached):
        BytePairEmbeddings("en")
    assert seen == {"lang": "en", "vs": 100000, "dim": 50, "cache_dir": tmp_path / "embeddings"}
