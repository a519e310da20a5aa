"""Token classifiers and taggers with a prompt, with the same files: this package against the released one.

Losses of token classifiers for spans are left out: the released one takes all gold tags for "O" once it was loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from drive import dictionary_of, main
from tagged_sentences import sentences

WORDS = ["the", "cat", "sat", "on", "mat", "in", "Berlin", "and", "Paris", "Peter", "Smith", ".", "[", "]", "Tag"]
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "spans": {"label_type": "ner"},
    "weights": {"label_type": "ner", "loss_weights": {"S-PER": 3.0, "O": 0.5}},
    "tokens": {"label_type": "pos"},
    "several labels": {"label_type": "pos", "multi_label": True, "multi_label_threshold": 0.4},
    "dropouts": {"label_type": "pos", "dropout": 0.3, "word_dropout": 0.2, "locked_dropout": 0.1},
}
TAGGERS: dict[str, dict[str, Any]] = {
    "crf": {"use_crf": True},
    "softmax": {"use_crf": False, "use_rnn": False, "tag_format": "BIO"},
}


def prepare(folder: Path) -> None:
    from flair.embeddings import WordEmbeddings
    from flair.models import PrefixedSequenceTagger, TokenClassifier
    from flair.models.prefixed_tagger import EntityTypeTaskPromptAugmentationStrategy

    torch.manual_seed(11)

    def embeddings() -> WordEmbeddings:
        word = WordEmbeddings(None, vocab={w: i for i, w in enumerate(WORDS)}, embedding_length=5, name="words")
        word.embedding.weight.data[:-1].normal_()
        return word

    def dictionary(label_type: str) -> Any:
        entities = label_type == "ner"
        return dictionary_of(*(("PER", "LOC") if entities else ("NOUN", "VERB", "O")), spans=entities)

    for name, settings in CLASSIFIERS.items():
        model = TokenClassifier(embeddings(), label_dictionary=dictionary(settings["label_type"]), **settings)
        model.decoder.weight.data.mul_(3)
        model.save(folder / f"classifier {name}.pt")
    for name, settings in TAGGERS.items():
        tagger = PrefixedSequenceTagger(
            embeddings(),
            tag_dictionary=dictionary("ner"),
            tag_type="ner",
            hidden_size=7,
            augmentation_strategy=EntityTypeTaskPromptAugmentationStrategy(["PER", "LOC"]),
            **settings,
        )
        tagger.linear.weight.data.mul_(6)
        tagger.save(folder / f"tagger {name}.pt")


def work(folder: Path) -> dict[str, Any]:
    from flair.models import PrefixedSequenceTagger, TokenClassifier

    results: dict[str, Any] = {}
    names = [(f"classifier {name}", TokenClassifier) for name in CLASSIFIERS]
    names += [(f"tagger {name}", PrefixedSequenceTagger) for name in TAGGERS]
    for name, cls in names:
        model = cls.load(folder / f"{name}.pt")
        model.eval()
        of_spans = cls is TokenClassifier and model.label_type == "ner"
        batch = sentences()
        predicted_loss = model.predict(batch, label_name="p", mini_batch_size=2, return_loss=True)
        if not of_spans:
            loss, count = model.forward_loss(sentences())
            results[f"{name}: loss"] = [float(loss.detach()), count]
            results[f"{name}: predicted loss"] = [float(predicted_loss[0]), predicted_loss[1]]
        results[f"{name}: labels"] = [
            (label.unlabeled_identifier, label.value, float(label.score)) for s in batch for label in s.get_labels("p")
        ]
        if cls is TokenClassifier and not of_spans:
            model.predict(batch, label_name="all", return_probabilities_for_all_classes=True)
            results[f"{name}: all labels"] = [
                (label.unlabeled_identifier, label.value, float(label.score))
                for s in batch
                for label in s.get_labels("all")
            ]
        out = folder / "predictions.tsv"
        result = model.evaluate(sentences(), gold_label_type=model.label_type, out_path=out, mini_batch_size=2)
        results[f"{name}: evaluation"] = [float(result.main_score), 0.0 if of_spans else float(result.loss)]
        results[f"{name}: prediction file"] = out.read_text()
        results[f"{name}: tags"] = model.label_dictionary.get_items()
        results[f"{name}: weights"] = {key: list(value.shape) for key, value in model.state_dict().items()}
        results[f"{name}: settings"] = sorted(set(model._get_state_dict()) - {"dtype", "tokenizer_info"})
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work))
