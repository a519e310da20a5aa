"""Train the same model with the released package and with this one, and compare the losses.

    FLAIR_REFERENCE_PYTHON=<interpreter with the released package> python tests/parity/training.py

Each package runs in a process of its own: a tiny random transformer, the same seed, no shuffling, no dropout. Both must
report the same loss for each epoch (within 1e-4) and write logs and loss files of the same shape.

With ``embeddings_storage_mode="cpu"`` the released package evaluates dev data with the embeddings of the first epoch,
also when the transformer is trained; where dev losses are compared, embeddings are therefore not stored.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SETTINGS: dict[str, dict[str, Any]] = {
    "fine_tune": {"method": "fine_tune", "max_epochs": 3, "learning_rate": 1e-3, "mini_batch_size": 4},
    "decoder rate": {
        "method": "fine_tune", "max_epochs": 2, "learning_rate": 1e-3, "decoder_learning_rate": 1e-2,
        "mini_batch_size": 4, "monitor_test": True,
    },
    "train in chunks": {
        "method": "train", "max_epochs": 4, "learning_rate": 0.02, "mini_batch_size": 8, "mini_batch_chunk_size": 3,
        "patience": 0, "embeddings_storage_mode": "none",
    },
    "train with dev": {
        "method": "train", "max_epochs": 2, "learning_rate": 0.02, "mini_batch_size": 8, "train_with_dev": True,
    },
}  # fmt: skip
READ_BY_TOOLS = (
    "Corpus", "Train:", "        (train_with_dev", "Training Params", " - ", "Plugins:", "Final evaluation",
    "Computation", "Model training", "epoch ", "EPOCH ", "DEV ", "TEST ", "saving best", "Loading model",
    "Testing using", "-" * 100,
)  # fmt: skip
NEW_LINES = (" - optimizer",)  # since the released version
WORDS = "the a cat dog movie film is was very house car good nice bad awful".split()  # noqa: SIM905


def make_transformer(folder: Path) -> None:
    """Write a BERT with two tiny layers and no dropout; both packages load this same folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)


def make_corpus() -> Any:
    from flair.data import Corpus, Sentence
    from flair.datasets import FlairDatapointDataset

    def split(count: int, seed: int) -> Any:
        draw, result = random.Random(seed), []
        for _ in range(count):
            label = draw.choice(["pos", "neg"])
            words = [draw.choice(WORDS[:11]) for _ in range(draw.randint(3, 8))]
            words.insert(draw.randint(0, len(words)), draw.choice(WORDS[11:13] if label == "pos" else WORDS[13:]))
            sentence = Sentence(" ".join(words))
            sentence.add_label("cls", label)
            result.append(sentence)
        return FlairDatapointDataset(result)

    return Corpus(train=split(44, 1), dev=split(12, 2), test=split(12, 3), name="tiny")


def run_package(folder: Path, transformer: Path) -> None:
    """Train all settings with the package of this interpreter; writes ``losses.json`` into the folder."""
    import torch

    import flair
    from flair.embeddings import TransformerDocumentEmbeddings
    from flair.models import TextClassifier
    from flair.trainers import ModelTrainer
    from flair.trainers.plugins import MetricHistoryPlugin

    torch.set_num_threads(1)
    flair.device = torch.device("cpu")
    outcome = {}
    for name, options in SETTINGS.items():
        settings = dict(options)
        corpus = make_corpus()
        labels = corpus.make_label_dictionary("cls", min_count=-1, add_unk=False)
        flair.set_seed(5)
        model = TextClassifier(
            TransformerDocumentEmbeddings(str(transformer), fine_tune=True), label_dictionary=labels, label_type="cls"
        )
        with torch.no_grad():  # the same start, however either package draws its initial weights
            torch.manual_seed(7)
            for parameter in model.decoder.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.1)
        train = getattr(ModelTrainer(model, corpus), settings.pop("method"))
        result = train(str(folder / name), shuffle=False, plugins=[MetricHistoryPlugin()], **settings)
        outcome[name] = {
            key: [float(item) for item in value] if isinstance(value, list) else float(value)
            for key, value in result.items()
        }
    (folder / "losses.json").write_text(json.dumps(outcome))


def shape(line: str) -> str:
    """A log line or a row with all that may differ taken out."""
    line = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ ", "", line)
    line = re.sub(r'"/[^"]*"', '"<path>"', line)
    line = re.sub(r"\d\d:\d\d:\d\d", "<time>", line)
    return re.sub(r"-?\d+\.\d+(e-?\d+)?", "#", line)


def log_lines(folder: Path) -> list[str]:
    """The shapes of those lines of a training log that tools read."""
    lines = [shape(line) for line in (folder / "training.log").read_text().splitlines()]
    return [line for line in lines if line.startswith(READ_BY_TOOLS) and not line.startswith(NEW_LINES)]


def compare(ours: Path, theirs: Path) -> list[str]:
    """What differs, one line each."""
    problems = []
    first, second = (json.loads((folder / "losses.json").read_text()) for folder in (ours, theirs))
    for name in SETTINGS:
        for key, values in second[name].items():
            mine = first[name][key]
            pairs = zip(mine, values) if isinstance(values, list) else [(mine, values)]
            worst = max((abs(a - b) for a, b in pairs), default=0.0)
            print(f"{name:16} {key:20} largest difference {worst:.2e}")
            if worst > 1e-4:
                problems.append(f"{name}: {key} differs by {worst:.2e}: {mine} and {values}")
        tables = [[shape(row) for row in (f / name / "loss.tsv").read_text().splitlines()] for f in (ours, theirs)]
        if tables[0] != tables[1]:
            problems.append(f"{name}: loss.tsv: {tables[0]} and {tables[1]}")
        written = [{path.name for path in (folder / name).iterdir()} for folder in (ours, theirs)]
        if written[0] != written[1]:
            problems.append(f"{name}: files: {written[0] ^ written[1]} in only one of both")
        logs = [log_lines(folder / name) for folder in (ours, theirs)]
        if logs[0] != logs[1]:
            differing = [pair for pair in zip(*logs) if pair[0] != pair[1]][:3]
            problems.append(f"{name}: training.log ({len(logs[0])} and {len(logs[1])} lines): {differing}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", nargs=2, type=Path, metavar=("FOLDER", "TRANSFORMER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_package(*arguments.run)
        return 0
    reference = os.environ.get("FLAIR_REFERENCE_PYTHON")
    if not reference:
        print("Set FLAIR_REFERENCE_PYTHON to an interpreter that has the released package.")
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_transformer(folder / "transformer")
        for label, python, path in (
            ("ours", sys.executable, str(Path(__file__).parents[2])),
            ("theirs", reference, ""),
        ):
            (folder / label).mkdir()
            environment = {**os.environ, "HF_HUB_OFFLINE": "1", "FLAIR_DEVICE": "cpu", "PYTHONPATH": path}
            command = [python, __file__, "--run", str(folder / label), str(folder / "transformer")]
            subprocess.run(command, check=True, env=environment, cwd=folder, stdout=subprocess.DEVNULL)
        problems = compare(folder / "ours", folder / "theirs")
    print("\n".join(problems) or "Both packages train alike.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
