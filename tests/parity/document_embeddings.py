"""Document embeddings by language models and tf-idf: this package against the released one (needs scikit-learn)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from drive import main

TEXTS = ["the cat sat on the mat .", "A dog can't sit, can it?", "cats"]


def prepare(folder: Path) -> None:
    from flair.data import Dictionary, Sentence
    from flair.embeddings import DocumentLMEmbeddings, DocumentTFIDFEmbeddings, FlairEmbeddings
    from flair.models import LanguageModel

    torch.manual_seed(5)
    characters = Dictionary()
    for character in "abcdefghijklmnopqrstuvwxyz .'":
        characters.add_item(character)
    models = [FlairEmbeddings(LanguageModel(characters, way, 7, 1, embedding_size=5)) for way in (True, False)]
    made = {"lm": DocumentLMEmbeddings(models), "tfidf": DocumentTFIDFEmbeddings([Sentence(text) for text in TEXTS])}
    torch.save({name: embedding.save_embeddings() for name, embedding in made.items()}, folder / "saved.pt")


def work(folder: Path) -> dict[str, Any]:
    from flair.data import Sentence
    from flair.embeddings.base import load_embeddings

    results: dict[str, Any] = {}
    for name, params in torch.load(folder / "saved.pt", weights_only=False).items():
        embedding = load_embeddings(params)
        sentences = [Sentence(text) for text in TEXTS]
        embedding.embed(sentences)
        results[f"{name}: vectors"] = [sentence.get_embedding(embedding.get_names()).detach() for sentence in sentences]
        results[f"{name}: length, names"] = [embedding.embedding_length, embedding.name, embedding.get_names()]
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work))
