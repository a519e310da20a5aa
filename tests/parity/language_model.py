"""Character language models and the embeddings made from them: this package against the released one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from drive import main

CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFG .,0123\n"
# Single spaces: where a text has more, released versions read states beside the word's border (tokenized_lm=False).
TEXTS = ["The cat, sat on the mat.", "a", "Überall ein Haus: ABC 0123!", "bad cab fed a dad", "on the mat " * 9]
VARIANTS = {
    "lstm": {"hidden_size": 12, "nlayers": 1},
    "two layers": {"hidden_size": 7, "nlayers": 2},
    "gru": {"hidden_size": 9, "nlayers": 1, "recurrent_type": "GRU"},
    "projected": {"hidden_size": 9, "nlayers": 1, "nout": 5},
    "long delimiter": {"hidden_size": 6, "nlayers": 1, "document_delimiter": "<d>"},
}


def prepare(folder: Path) -> None:
    from flair.data import Dictionary
    from flair.models import LanguageModel

    torch.manual_seed(3)
    dictionary = Dictionary()
    for character in CHARACTERS:
        dictionary.add_item(character)
    for name, settings in VARIANTS.items():
        for forward in (True, False):
            model = LanguageModel(dictionary, is_forward_lm=forward, embedding_size=8, **settings)
            for parameter in model.parameters():
                parameter.data.mul_(4)
            model.save(folder / f"{name}-{forward}.pt")
            model.save_checkpoint(
                folder / f"{name}-{forward}.ckpt", torch.optim.SGD(model.parameters(), 0.1), 3, 2, 1.5
            )


def work(folder: Path) -> dict[str, Any]:
    from flair.data import Sentence
    from flair.embeddings import FlairEmbeddings, PooledFlairEmbeddings
    from flair.models import LanguageModel

    results: dict[str, Any] = {}
    for name in VARIANTS:
        for forward in (True, False):
            file = folder / f"{name}-{forward}.pt"
            key = f"{name}, {'forward' if forward else 'backward'}"
            model = LanguageModel.load_language_model(file)
            with torch.no_grad():
                states = model.get_representation(TEXTS, "\n", " ", chars_per_chunk=7)
            results[f"{key}: representation"] = states
            results[f"{key}: perplexity"] = [model.calculate_perplexity(text) for text in TEXTS if len(text) > 1]
            torch.manual_seed(1)
            text, score = model.generate_text("ab", 40, temperature=0.7)
            results[f"{key}: text"], results[f"{key}: text score"] = text, score
            checkpoint = LanguageModel.load_checkpoint(folder / f"{name}-{forward}.ckpt")
            results[f"{key}: checkpoint"] = [checkpoint[field] for field in ("epoch", "split", "loss")]
            for option in ({}, {"tokenized_lm": False}, {"with_whitespace": False}, {"is_lower": True}):
                embeddings = FlairEmbeddings(str(file), chars_per_chunk=5, **option)
                sentences = [Sentence(text) for text in TEXTS]
                embeddings.embed(sentences)
                results[f"{key}: embeddings {option}"] = [t.embedding.detach() for s in sentences for t in s]
    for pooling in ("min", "max", "mean", "fade"):
        for capitalized in (False, True):
            pooled = PooledFlairEmbeddings(str(folder / "lstm-True.pt"), pooling=pooling, only_capitalized=capitalized)
            vectors = []
            for text in (*TEXTS, *TEXTS[:2]):
                sentence = Sentence(text)
                pooled.embed(sentence)
                vectors.extend(token.get_embedding(pooled.get_names()).detach() for token in sentence)
            results[f"pooled {pooling} {capitalized}"] = vectors
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work))
