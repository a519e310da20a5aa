"""First weights and training losses from equal seeds, dropout included: this package against the released one.

Where both draw the same random numbers in the same order, a seed starts the same training in both. Left out: plain
``dropout`` behind the RNN of a tagger (the same distribution, but the mask lies in memory in another order).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from drive import dictionary_of, main

WORDS = ["the", "cat", "sat", "on", "mat", "in", "Berlin", "and"]
TAGGERS: dict[str, dict[str, Any]] = {
    "rnn crf": {"use_crf": True},
    "rnn": {"use_crf": False, "rnn_layers": 2},
    "gru": {"use_crf": False, "rnn_type": "GRU", "bidirectional": False},
    "crf": {"use_crf": True, "use_rnn": False},
    "linear": {"use_crf": False, "use_rnn": False, "reproject_embeddings": False},
    "linear, dropouts": {"use_crf": False, "use_rnn": False, "dropout": 0.3, "word_dropout": 0.4},
    "crf, dropouts": {"use_crf": True, "use_rnn": False, "dropout": 0.3, "word_dropout": 0.4, "locked_dropout": 0.2},
}
DROPOUTS: dict[str, dict[str, float]] = {
    "default": {},
    "dropout": {"dropout": 0.3},
    "word": {"dropout": 0.0, "word_dropout": 0.3},
    "locked": {"dropout": 0.0, "locked_dropout": 0.4},
    "all": {"dropout": 0.3, "word_dropout": 0.1, "locked_dropout": 0.4},
}


def prepare(folder: Path) -> None:
    """Nothing: all weights come from seeds."""


def models() -> dict[str, Callable[[], Any]]:
    """Name -> how to build the model."""
    import flair
    from flair.embeddings import DocumentCNNEmbeddings, DocumentPoolEmbeddings, DocumentRNNEmbeddings, WordEmbeddings
    from flair.models import SequenceTagger, TextClassifier, TokenClassifier

    def words() -> WordEmbeddings:
        made = WordEmbeddings(None, vocab={w: i for i, w in enumerate(WORDS)}, embedding_length=10, name="words")
        torch.manual_seed(7)
        made.embedding.weight.data.normal_()
        flair.set_seed(1)
        return made

    def tagger(**options: Any) -> SequenceTagger:
        return SequenceTagger(words(), dictionary_of("PER", "LOC", spans=True), "ner", hidden_size=6, **options)

    def tokens(**options: Any) -> TokenClassifier:
        return TokenClassifier(words(), dictionary_of("PER", "LOC", spans=True), "ner", **options)

    def texts(embeddings: Any, **options: Any) -> TextClassifier:
        return TextClassifier(embeddings, label_dictionary=dictionary_of("A", "B"), label_type="topic", **options)

    def cnn(**options: Any) -> TextClassifier:
        return texts(DocumentCNNEmbeddings([words()], kernels=((5, 2), (4, 3)), **options))

    def rnn(**options: Any) -> TextClassifier:
        return texts(DocumentRNNEmbeddings([words()], hidden_size=6, **options))

    made: dict[str, Callable[[], Any]] = {
        f"tagger {name}": _bound(tagger, options) for name, options in TAGGERS.items()
    }
    for name, options in DROPOUTS.items():
        made[f"tokens, {name}"] = _bound(tokens, options)
        made[f"pool, {name}"] = _bound(lambda **o: texts(DocumentPoolEmbeddings([words()]), **o), options)
        made[f"rnn, {name}"] = _bound(rnn, options)
        made[f"rnn plain, {name}"] = _bound(rnn, {**options, "reproject_words": False})
        made[f"rnn twice, {name}"] = _bound(
            rnn, {**options, "rnn_type": "LSTM", "rnn_layers": 2, "bidirectional": True}
        )
        if not options.get("locked_dropout"):  # the released class cannot run with it
            made[f"cnn, {name}"] = _bound(cnn, options)
    return made


def _bound(build: Callable[..., Any], options: dict[str, Any]) -> Callable[[], Any]:
    return lambda: build(**options)


def batch() -> list[Any]:
    from flair.data import Sentence

    made = [Sentence(text) for text in ("the cat sat on", "in Berlin", "and Berlin sat on the mat", "the cat and mat")]
    made[1][1:2].add_label("ner", "LOC")
    for sentence, topic in zip(made, "ABAA"):
        sentence.add_label("topic", topic)
    return made


def work(folder: Path) -> dict[str, Any]:
    import flair

    results: dict[str, Any] = {}
    for name, build in models().items():
        model = build()
        results[f"{name}: next random number"] = float(torch.rand(1))
        results[f"{name}: first weights"] = {key: p.detach().clone() for key, p in model.named_parameters()}
        torch.manual_seed(3)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if key.endswith(("weight", "weight_ih_l0", "weight_hh_l0")) and "embedding.weight" not in key:
                    parameter.normal_()  # large enough for differences to be seen
        model.train()
        for epoch in range(2):
            flair.set_seed(epoch)
            results[f"{name}: loss {epoch}"] = float(model.forward_loss(batch())[0].detach())
        results[f"{name}: random number after the loss"] = float(torch.rand(1))
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work))
