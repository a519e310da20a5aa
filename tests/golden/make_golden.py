"""Makes the golden files: tiny models of the released package, and what they predict.

    REFERENCE_PYTHON tests/golden/make_golden.py [FOLDER] [--only NAME ...]

Run it with an interpreter that has flair 0.15.1, transformers < 5, peft, gensim, sentencepiece, onnx and onnxruntime
(what an interpreter lacks can be lent to it with PYTHONPATH). Each model becomes ``NAME.pt`` and ``NAME.json``: the
sentences, and per sentence the labels with their scores. Folders beside hold further models, embeddings, language
models and pickled objects, see ``kinds_of_files.py``; ``--only`` takes patterns as ``models/*``.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import tempfile
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "embeddings"))

import kinds_of_files as kinds
import torch
from embedding_kinds import prepare
from material import (
    QUESTIONS,
    cases,
    classifier,
    entities,
    language_model,
    sentences,
    tagged,
    topics,
    trained,
    word_vectors,
)

import flair
from flair.data import Sentence
from flair.embeddings import (
    DocumentPoolEmbeddings,
    DocumentRNNEmbeddings,
    FlairEmbeddings,
    StackedEmbeddings,
    TransformerDocumentEmbeddings,
    TransformerWordEmbeddings,
)
from flair.models import PrefixedSequenceTagger, SequenceTagger, TextClassifier, TokenClassifier
from flair.models.prefixed_tagger import EntityTypeTaskPromptAugmentationStrategy
from flair.nn.decoder import DeepNCMDecoder, PrototypicalDecoder


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


def save_first(title: str, model, file: Path) -> dict:
    model.eval()
    model.save(file)
    return {"class": type(model).__name__, "flair": flair.__version__, "sentences": QUESTIONS, **predictions(model)}


def steps(scratch: Path):
    """Paths without suffix, and functions that write a file there and return its record."""
    for title, build in builders(scratch).items():
        yield title, lambda file, title=title, build=build: save_first(title, build(), file)
    for title, (kind, build) in kinds.models(scratch).items():
        yield f"models/{title}", lambda file, kind=kind, build=build: kinds.save_model(kind, build(), file)
    for title, (kind, build) in kinds.embeddings(scratch).items():
        yield f"embeddings/{title}", lambda file, kind=kind, build=build: kinds.save_embedding(kind, build(), file)
        if title not in kinds.IN_NO_PICKLE:
            yield (
                f"objects/{title}",
                lambda file, kind=kind, build=build: kinds.save_embedding(kind, build(), file, whole=True),
            )
    for title, build in kinds.language_models().items():
        yield (
            f"language_models/{title}",
            lambda file, title=title, build=build: kinds.save_language_model(title, build(), file),
        )
    for title in kinds.OBJECTS:
        yield f"objects/{title}", lambda file, title=title: kinds.save_object(title, scratch, file)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    arguments.add_argument("--only", nargs="*", default=None)
    chosen = arguments.parse_args()
    golden = chosen.folder.resolve()
    flair.device = torch.device("cpu")
    failed = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.chdir(scratch)
        flair.set_seed(0)
        prepare(scratch, golden)
        for number, (title, write) in enumerate(steps(scratch)):
            if chosen.only is not None and not any(fnmatch.fnmatch(title, pattern) for pattern in chosen.only):
                continue
            flair.set_seed(zlib.crc32(title.encode()) % 2**31 if "/" in title else number)
            file = golden / f"{title}.pt"
            file.parent.mkdir(exist_ok=True)
            try:
                record = write(file)
            except Exception as error:
                failed.append(title)
                file.unlink(missing_ok=True)
                print(f"{title}: {type(error).__name__}: {str(error)[:300]}")
                continue
            indent = None if "/" in title else 1
            file.with_suffix(".json").write_text(json.dumps(record, indent=indent), encoding="utf-8")
            print(f"{title}: {file.stat().st_size} bytes")
    if failed:
        sys.exit(f"Not written: {', '.join(failed)}")


if __name__ == "__main__":
    main()
