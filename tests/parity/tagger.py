"""Sequence taggers with the same files: this package against the released one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from drive import main
from tagged_sentences import sentences

WORDS = ["the", "cat", "sat", "on", "mat", "in", "Berlin", "and", "Paris", "Peter", "Smith", "."]
SETTINGS: dict[str, dict[str, Any]] = {
    "crf rnn": {"use_crf": True},
    "crf": {"use_crf": True, "use_rnn": False},
    "crf plain": {"use_crf": True, "use_rnn": False, "reproject_embeddings": False},
    "softmax rnn": {"use_crf": False, "tag_format": "BIO"},
    "softmax": {"use_crf": False, "use_rnn": False},
    "weights": {"use_crf": False, "loss_weights": {"S-PER": 3.0, "O": 0.5}},
    "gru": {"use_crf": True, "rnn_type": "GRU", "rnn_layers": 2},
    "plain rnn": {"use_crf": False, "rnn_type": "RNN"},
    "initial state": {"use_crf": True, "train_initial_hidden_state": True},
    "unk": {"use_crf": True, "allow_unk_predictions": True},
    "dropouts": {"use_crf": True, "dropout": 0.2, "word_dropout": 0.0, "locked_dropout": 0.0},
}


def prepare(folder: Path) -> None:
    from flair.data import Dictionary
    from flair.embeddings import FlairEmbeddings, StackedEmbeddings, WordEmbeddings
    from flair.models import LanguageModel, SequenceTagger

    torch.manual_seed(11)
    characters = Dictionary()
    for character in "abcdefghijklmnopqrstuvwxyzPSB .\n":
        characters.add_item(character)

    def embeddings() -> StackedEmbeddings:
        word = WordEmbeddings(None, vocab={w: i for i, w in enumerate(WORDS)}, embedding_length=5, name="words")
        word.embedding.weight.data[:-1].normal_()
        lm = LanguageModel(characters, True, 6, 1, embedding_size=4)
        return StackedEmbeddings([word, FlairEmbeddings(lm)])

    spans = Dictionary(add_unk=False)
    pos = Dictionary(add_unk=True)
    for label in ("PER", "LOC"):
        spans.add_item(label)
    for label in ("NOUN", "VERB", "O"):
        pos.add_item(label)
    spans.span_labels = True
    for name, settings in SETTINGS.items():
        tagger = SequenceTagger(embeddings(), tag_dictionary=spans, tag_type="ner", hidden_size=7, **settings)
        tagger.linear.weight.data.mul_(3)
        tagger.save(folder / f"{name}.pt")
    tagger = SequenceTagger(embeddings(), tag_dictionary=pos, tag_type="pos", hidden_size=7, use_crf=True)
    tagger.save(folder / "pos.pt")


def work(folder: Path) -> dict[str, Any]:
    from flair.models import SequenceTagger

    results: dict[str, Any] = {}
    for name in [*SETTINGS, "pos"]:
        tagger = SequenceTagger.load(folder / f"{name}.pt")
        batch = sorted(sentences(), key=len, reverse=True)
        loss, count = tagger.forward_loss(batch)
        results[f"{name}: loss"], results[f"{name}: tokens"] = loss.detach() / count, count
        tagger.embeddings.embed(batch)
        with torch.no_grad():
            scores = tagger.forward(*tagger._prepare_tensors(batch))
        if isinstance(scores, tuple):
            inside = [row[: len(sentence)] for row, sentence in zip(scores[0], batch)]
            results[f"{name}: scores"] = [torch.where(row < -5000, torch.zeros(()), row) for row in inside]
        else:
            results[f"{name}: scores"] = scores
        batch = sentences()
        predicted_loss = tagger.predict(
            batch, mini_batch_size=2, return_probabilities_for_all_classes=True, label_name="p", return_loss=True
        )
        results[f"{name}: predicted loss"] = [predicted_loss[0] / predicted_loss[1], predicted_loss[1]]
        results[f"{name}: labels"] = [
            (label.unlabeled_identifier, label.value, float(label.score)) for s in batch for label in s.get_labels("p")
        ]
        results[f"{name}: all tags"] = [
            (label.value, float(label.score)) for s in batch for token in s for label in token.get_tags_proba_dist("p")
        ]
        tagger.predict(batch, label_name="q", force_token_predictions=True)
        results[f"{name}: token labels"] = [
            (label.unlabeled_identifier, label.value, float(label.score)) for s in batch for label in s.get_labels("q")
        ]
        out = folder / "predictions.tsv"
        gold = tagger.label_type
        result = tagger.evaluate(sentences(), gold_label_type=gold, out_path=out, mini_batch_size=2)
        results[f"{name}: evaluation"] = [float(result.main_score), float(result.loss)]
        results[f"{name}: prediction file"] = out.read_text()
        results[f"{name}: report"] = {
            key: ({k: float(v) for k, v in value.items()} if isinstance(value, dict) else float(value))
            for key, value in result.classification_report.items()
        }
        results[f"{name}: keys"] = {key: list(value.shape) for key, value in tagger.state_dict().items()}
        results[f"{name}: settings"] = sorted(set(tagger._get_state_dict()) - {"dtype", "tokenizer_info"})
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work))
