"""Makes the golden files: tiny models of the released package, and what they predict.

    REFERENCE_PYTHON tests/golden/make_golden.py [FOLDER] [--only NAME ...]

Run it with an interpreter that has flair 0.15.1, transformers < 5 and peft. Each model becomes ``NAME.pt`` and
``NAME.json``: the sentences, and per sentence the labels with their scores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

import flair
from flair.data import Corpus, Dictionary, Sentence
from flair.datasets import FlairDatapointDataset
from flair.embeddings import (
    DocumentPoolEmbeddings,
    DocumentRNNEmbeddings,
    FlairEmbeddings,
    StackedEmbeddings,
    TransformerDocumentEmbeddings,
    TransformerWordEmbeddings,
    WordEmbeddings,
)
from flair.models import LanguageModel, PrefixedSequenceTagger, SequenceTagger, TextClassifier, TokenClassifier
from flair.models.prefixed_tagger import EntityTypeTaskPromptAugmentationStrategy
from flair.nn.decoder import DeepNCMDecoder, PrototypicalDecoder
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


def builders(folder: Path):
    transformer = str(folder / "bert")

    def documents(**options):
        return TransformerDocumentEmbeddings(transformer, **options)

    def stacked():
        return StackedEmbeddings(
            [word_vectors(), FlairEmbeddings(language_model(True)), FlairEmbeddings(language_model(False))]
        )

    def low_rank():
        from peft import LoraConfig, TaskType

        config = LoraConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            r=4,
            lora_alpha=8,
            target_modules=["query", "value"],
            lora_dropout=0.0,
        )
        return trained(classifier(documents(peft_config=config)), sentences(), folder)

    def with_optimizer():
        model = trained(classifier(documents()), sentences(), folder)
        optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=0.01)
        model.forward_loss(sentences())[0].backward()
        optimizer.step()
        model.optimizer_state_dict = optimizer.state_dict()
        model.scheduler_state_dict = {"last_epoch": 3, "_last_lr": [0.01]}
        return model

    def prefixed():
        model = PrefixedSequenceTagger(
            word_vectors(),
            tag_dictionary=entities(),
            tag_type="ner",
            hidden_size=16,
            augmentation_strategy=EntityTypeTaskPromptAugmentationStrategy(["persons", "places"]),
        )
        with torch.no_grad():  # untrained, and yet not all the same
            model.linear.weight.mul_(30)
        return model

    return {
        "classifier_transformer": with_optimizer,
        "classifier_multi_label": lambda: trained(
            classifier(
                documents(cls_pooling="mean"), multi_label=True, loss_weights={"food": 2.0}, multi_label_threshold=0.3
            ),
            sentences(),
            folder,
        ),
        "classifier_lora": low_rank,
        "classifier_pool": lambda: trained(classifier(DocumentPoolEmbeddings([word_vectors()])), sentences(), folder),
        "classifier_rnn": lambda: trained(
            classifier(DocumentRNNEmbeddings([word_vectors()], hidden_size=16)), sentences(), folder
        ),
        "classifier_prototypes": lambda: classifier(
            DocumentPoolEmbeddings([word_vectors()]),
            decoder=PrototypicalDecoder(num_prototypes=3, embeddings_size=12),
        ),
        "classifier_deepncm": lambda: classifier(
            DocumentPoolEmbeddings([word_vectors()]), decoder=DeepNCMDecoder(topics(), embeddings_size=12)
        ),
        "tagger_crf": lambda: trained(
            SequenceTagger(stacked(), entities(), tag_type="ner", hidden_size=16, tag_format="BIOES"), tagged(), folder
        ),
        "tagger_transformer": lambda: trained(
            SequenceTagger(
                TransformerWordEmbeddings(transformer),
                entities(),
                tag_type="ner",
                use_crf=False,
                use_rnn=False,
                reproject_embeddings=False,
            ),
            tagged(),
            folder,
        ),
        "token_classifier": lambda: trained(
            TokenClassifier(TransformerWordEmbeddings(transformer), label_dictionary=entities(), label_type="ner"),
            tagged(),
            folder,
        ),
        "token_classifier_words": lambda: trained(
            TokenClassifier(word_vectors(), label_dictionary=cases(), label_type="case"), tagged(), folder
        ),
        "prefixed_tagger": prefixed,
    }


def predictions(model) -> dict[str, list]:
    plain = [Sentence(text) for text in QUESTIONS]
    model.predict(plain, label_name="p")
    found = {
        "labels": [[(label.data_point.text, label.value, label.score) for label in s.get_labels("p")] for s in plain]
    }
    if isinstance(model, TextClassifier):
        model.predict(plain, label_name="all", return_probabilities_for_all_classes=True)
        found["all"] = [[(label.value, label.score) for label in s.get_labels("all")] for s in plain]
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    arguments.add_argument("--only", nargs="*", default=None)
    chosen = arguments.parse_args()
    flair.device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        flair.set_seed(0)
        (scratch / "bert").mkdir()
        vocabulary(scratch / "bert")
        for seed, (title, build) in enumerate(builders(scratch).items()):
            if chosen.only is not None and title not in chosen.only:
                continue
            flair.set_seed(seed)
            model = build()
            model.eval()
            file = chosen.folder / f"{title}.pt"
            model.save(file)
            record = {
                "class": type(model).__name__,
                "flair": flair.__version__,
                "sentences": QUESTIONS,
                **predictions(model),
            }
            file.with_suffix(".json").write_text(json.dumps(record, indent=1), encoding="utf-8")
            print(f"{title}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
