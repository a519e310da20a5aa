"""What the golden models are made of: texts, dictionaries, and tiny embeddings with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from flair.data import Corpus, Dictionary, Sentence
from flair.datasets import FlairDatapointDataset
from flair.embeddings import WordEmbeddings
from flair.models import LanguageModel, TextClassifier
from flair.trainers import ModelTrainer

WORDS = """
the a my oven water soup bread train bus flight is was will not heat cook bake leave arrive from in to Berlin Paris Anna
Peter lives works at night late . , ? ! un ##s ##ed ##ing salt kitchen ticket hot cold broken new
""".split()  # noqa: SIM905 - prose is easier to read
TEXTS = [
    ("the oven will not heat .", "repair"),
    ("water from the kitchen is cold", "repair"),
    ("bake the bread in a hot oven", "food"),
    ("the soup was not cooked , salt !", "food"),
    ("my train to Berlin is late", "travel"),
    ("a night flight from Paris", "travel"),
]
TAGGED = [
    ("Anna lives in Berlin .", {0: "PER", 3: "LOC"}),
    ("Peter works at night in Paris", {0: "PER", 5: "LOC"}),
    ("the train leaves Berlin", {3: "LOC"}),
]
QUESTIONS = (
    [text for text, _ in TEXTS] + [text for text, _ in TAGGED] + ["Anna !", "a broken bus ? new ticket to Paris"]
)


def vocabulary(folder: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *WORDS]
    tokens = list(dict.fromkeys(tokens))
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)


def word_vectors() -> WordEmbeddings:
    table = {word: index for index, word in enumerate(WORDS)}
    embeddings = WordEmbeddings(
        embeddings=None, vocab=table, embedding_length=12, name="tiny", fine_tune=False, force_cpu=True
    )
    with torch.no_grad():
        embeddings.embedding.weight.normal_()
    return embeddings


def sentences() -> list[Sentence]:
    return [Sentence(text).add_label("topic", value) for text, value in TEXTS]


def tagged() -> list[Sentence]:
    made = []
    for text, spans in TAGGED:
        sentence = Sentence(text)
        for index, value in spans.items():
            sentence[index : index + 1].add_label("ner", value)
        for token in sentence:
            token.add_label("case", "upper" if token.text[0].isupper() else "lower")
        made.append(sentence)
    return made


def topics() -> Dictionary:
    dictionary = Dictionary(add_unk=False)
    for label in ("food", "repair", "travel"):
        dictionary.add_item(label)
    return dictionary


def entities() -> Dictionary:
    dictionary = Dictionary(add_unk=False)
    dictionary.span_labels = True
    for label in ("PER", "LOC"):
        dictionary.add_item(label)
    return dictionary


def cases() -> Dictionary:
    dictionary = Dictionary(add_unk=True)
    for label in ("lower", "upper"):
        dictionary.add_item(label)
    return dictionary


def classifier(embeddings, **options) -> TextClassifier:
    return TextClassifier(embeddings, label_type="topic", label_dictionary=topics(), **options)


def trained(model, data, folder: Path):
    corpus = Corpus(train=FlairDatapointDataset(data), sample_missing_splits=False)
    ModelTrainer(model, corpus).fine_tune(
        folder, max_epochs=4, learning_rate=5e-3, mini_batch_size=2, save_final_model=False
    )
    return model


def language_model(forward: bool) -> LanguageModel:
    dictionary = Dictionary()
    for character in "abcdefghijklmnopqrstuvwxyzABPE .,?!\n":
        dictionary.add_item(character)
    return LanguageModel(dictionary, forward, hidden_size=16, nlayers=1, embedding_size=8)
