"""Token embeddings with the same weights: this package against the released one (needs gensim, sentencepiece)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from drive import main

# No word twice in a sentence: released versions give the first of several equal words a wrong character embedding.
TEXTS = [
    "The cat sat on mat 1234 in Berlin .",
    "A",
    "peter SMITH , 12 cats",
    "on the mat in Paris and Berlin peter smith sat with 12 cats , 3 dogs .",
]
WORDS = ["the", "cat", "sat", "on", "mat", "in", "berlin", "Berlin", "and", "####", "00", "peter", "smith", ".", ","]


def prepare(folder: Path) -> None:
    import numpy as np
    import sentencepiece
    from gensim.models import FastText, KeyedVectors

    from flair.data import Dictionary
    from flair.embeddings import (
        BytePairEmbeddings,
        CharacterEmbeddings,
        FlairEmbeddings,
        HashEmbeddings,
        OneHotEmbeddings,
        PooledFlairEmbeddings,
        StackedEmbeddings,
        WordEmbeddings,
    )
    from flair.models import LanguageModel

    random = np.random.RandomState(5)
    torch.manual_seed(5)
    vectors = KeyedVectors(6)
    vectors.add_vectors(WORDS, random.randn(len(WORDS), 6).astype("float32"))
    vectors.save_word2vec_format(str(folder / "vectors.bin"), binary=True)
    vectors.save_word2vec_format(str(folder / "vectors.txt"))
    vectors.save_word2vec_format(str(folder / "bare.txt"), write_header=False)
    vectors.save(str(folder / "vectors.gensim"))
    # a warm cache under the name of published vectors
    cache = folder / "cache" / "embeddings"
    cache.mkdir(parents=True)
    vectors.save(str(cache / "turian"), separately=["vectors"])
    fast = FastText(
        [text.split() for text in TEXTS], vector_size=5, min_count=1, bucket=50, epochs=1, workers=1, seed=1
    )
    fast.wv.save(str(folder / "fasttext.gensim"))
    (folder / "text.txt").write_text("\n".join(TEXTS * 20).lower())
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "units"),
        vocab_size=40,
        model_type="bpe",
        minloglevel=2,
    )
    units = sentencepiece.SentencePieceProcessor(model_file=str(folder / "units.model"))
    pieces = KeyedVectors(4)
    pieces.add_vectors([units.id_to_piece(i) for i in range(40)], random.randn(40, 4).astype("float32"))
    pieces.save_word2vec_format(str(folder / "units.bin"), binary=True)

    characters = Dictionary()
    for character in "abcdefghijklmnopqrstuvwxyzT ,.1":
        characters.add_item(character)
    vocabulary = Dictionary()
    for word in WORDS:
        vocabulary.add_item(word)

    def language_model(forward: bool) -> LanguageModel:
        return LanguageModel(characters, forward, 7, 1, embedding_size=5)

    def word(**options: Any) -> WordEmbeddings:
        return WordEmbeddings(str(folder / "vectors.gensim"), **options)

    members = [CharacterEmbeddings(characters, 4, 3), word(), FlairEmbeddings(language_model(True))]
    many = [CharacterEmbeddings(characters, 3, 2) for _ in range(12)]  # more than ten: names sort as text
    made = {
        "word": word(),
        "word stable": word(stable=True, fine_tune=True),
        "character": CharacterEmbeddings(characters, 4, 3),
        "flair": FlairEmbeddings(language_model(False), with_whitespace=True, is_lower=True),
        "pooled": PooledFlairEmbeddings(FlairEmbeddings(language_model(True)), pooling="mean"),
        "one-hot": OneHotEmbeddings(vocabulary, embedding_length=4, stable=True),
        "hash": HashEmbeddings(13, 4),
        "byte pairs": BytePairEmbeddings(
            model_file_path=folder / "units.model", embedding_file_path=folder / "units.bin", dim=4
        ),
        "stacked": StackedEmbeddings(members),
        "stacked many": StackedEmbeddings(many),
        "pooled min": PooledFlairEmbeddings(FlairEmbeddings(language_model(True))),
    }
    torch.save({name: embedding.save_embeddings() for name, embedding in made.items()}, folder / "saved.pt")


def work(folder: Path) -> dict[str, Any]:
    from flair.data import Sentence
    from flair.embeddings import FastTextEmbeddings, StackedEmbeddings, WordEmbeddings
    from flair.embeddings.base import load_embeddings

    saved, members = (torch.load(folder / "saved.pt", weights_only=False) for _ in range(2))
    made: dict[str, Any] = {name: load_embeddings(params) for name, params in saved.items()}
    # Not saved as a stack: released versions forget the names of some members, and so the order of the vectors.
    made["stacked pooled"] = StackedEmbeddings([load_embeddings(members[name]) for name in ("pooled min", "word")])
    made["word bin"] = WordEmbeddings(str(folder / "vectors.bin"))
    made["word txt"] = WordEmbeddings(str(folder / "vectors.txt"))
    made["word bare txt"] = WordEmbeddings(str(folder / "bare.txt"), no_header=True)
    made["word field"] = WordEmbeddings(str(folder / "vectors.gensim"), field="pos")
    made["word cached name"] = WordEmbeddings("turian")
    made["fasttext"] = FastTextEmbeddings(str(folder / "fasttext.gensim"))
    results: dict[str, Any] = {}
    for name, embedding in made.items():
        sentences = [Sentence(text) for text in TEXTS]
        for sentence in sentences:
            for number, token in enumerate(sentence):
                token.add_label("pos", WORDS[number % len(WORDS)])
        embedding.embed(sentences)
        names = embedding.get_names()
        results[f"{name}: vectors"] = [token.get_embedding(names).detach() for s in sentences for token in s]
        results[f"{name}: length"] = embedding.embedding_length
        results[f"{name}: type, names"] = [embedding.embedding_type, names if "fast" not in name else len(names)]
        results[f"{name}: keys"] = {key: list(value.shape) for key, value in embedding.state_dict().items()}
        if hasattr(embedding, "encode_tokens"):
            vectors = encoded(embedding, sentences, results[f"{name}: vectors"])
            assert vectors < 1e-6, f"{name}: encode_tokens differs from embed by {vectors}"
    return results


def encoded(embedding: Any, sentences: list[Any], vectors: list[torch.Tensor]) -> float:
    """How far the batched road is from the vectors on the tokens (this package only)."""
    if any(name.endswith("-context") for name in embedding.get_names()):
        return 0.0  # every call adds to the pool
    for sentence in sentences:
        sentence.clear_embeddings()
    padded, lengths = embedding.encode_tokens(sentences)
    assert lengths.tolist() == [len(sentence) for sentence in sentences]
    rows = torch.cat([row[:length] for row, length in zip(padded, lengths.tolist())])
    padding = max(
        (float(row[length:].detach().abs().sum()) for row, length in zip(padded, lengths.tolist())), default=0.0
    )
    return max(padding, float((rows.detach() - torch.stack(vectors)).abs().max()))


if __name__ == "__main__":
    sys.exit(main(prepare, work))
