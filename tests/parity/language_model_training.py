"""Training of character language models: this package against the released one, from equal seeds.

Also goes on from a checkpoint that the released package wrote.
"""

from __future__ import annotations

import os
import random
import re
import sys
from pathlib import Path
from typing import Any

import torch
from drive import main

WORDS = ["abc", "Def", "fed", "cab", "bad", "face", "dead", "BEEF"]
SPLITS = 3
RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "annealed": {"learning_rate": 40, "patience": 0, "anneal_factor": 0.5},
    "growing": {"grow_to_sequence_length": 12, "momentum": 0.9, "learning_rate": 0.5, "checkpoint": True},
    "adam": {"optimizer": "Adam", "learning_rate": 0.01, "clip": 1.0},
}


def prepare(folder: Path) -> None:
    import flair
    from flair.data import Dictionary
    from flair.models import LanguageModel
    from flair.trainers.language_model_trainer import LanguageModelTrainer

    draw = random.Random(3)

    def text(lines: int) -> str:
        return "".join(" ".join(draw.choice(WORDS) for _ in range(6)) + "\n" for _ in range(lines))

    (folder / "corpus" / "train").mkdir(parents=True)
    for split in range(SPLITS):
        (folder / "corpus" / "train" / f"{split}.txt").write_text(text(60))
    for part in ("valid", "test"):
        (folder / "corpus" / f"{part}.txt").write_text(text(30))
    dictionary = Dictionary()
    for character in "abcdefABDEF \n":
        dictionary.add_item(character)
    flair.set_seed(1)
    for forward in (True, False):
        LanguageModel(dictionary, forward, hidden_size=10, nlayers=1, embedding_size=6).save(folder / f"{forward}.pt")
    model, corpus = _parts(folder, True)
    LanguageModelTrainer(model, corpus).train(folder / "before", 8, max_epochs=2, **_settings({"momentum": 0.5}))


def _settings(changed: dict[str, Any]) -> dict[str, Any]:
    return {"learning_rate": 5, "mini_batch_size": 7, "num_workers": 0, **changed}


def _parts(folder: Path, forward: bool) -> tuple[Any, Any]:
    from flair.models import LanguageModel
    from flair.trainers.language_model_trainer import TextCorpus

    model = LanguageModel.load_language_model(folder / f"{forward}.pt")
    return model, TextCorpus(folder / "corpus", model.dictionary, forward=forward)


def work(folder: Path) -> dict[str, Any]:
    import flair
    from flair.models import LanguageModel
    from flair.trainers.language_model_trainer import LanguageModelTrainer, TextDataset

    results: dict[str, Any] = {}
    for forward in (True, False):
        flair.set_seed(6)
        model, corpus = _parts(folder, forward)
        key = "forward" if forward else "backward"
        results[f"{key}: valid"] = corpus.valid
        for option in ({"document_delimiter": "cab"}, {"split_on_char": False}, {"shuffle": False}):
            flair.set_seed(4)
            data = TextDataset(folder / "corpus" / "train", corpus.dictionary, forward=forward, **option)
            results[f"{key}: text {option}"] = [data[index] for index in range(SPLITS)]
        for name, changed in RUNS.items():
            flair.set_seed(2)
            model, corpus = _parts(folder, forward)
            settings = _settings(changed)
            optimizer = getattr(torch.optim, settings.pop("optimizer", "SGD"))
            out = folder / f"{os.getpid()}-{forward}-{name}"
            LanguageModelTrainer(model, corpus, optimizer).train(out, 8, max_epochs=3, **settings)
            results |= {f"{key}, {name}: {what}": value for what, value in _outcome(model, out).items()}
    flair.set_seed(5)
    _, corpus = _parts(folder, True)
    trainer = LanguageModelTrainer.load_checkpoint(folder / "before" / "epoch_1.pt", corpus)
    out = folder / f"{os.getpid()}-continued"
    trainer.train(out, 8, max_epochs=3, **_settings({"momentum": 0.5}))
    results |= {f"continued: {what}": value for what, value in _outcome(trainer.model, out).items()}
    best = LanguageModel.load_language_model(folder / "before" / "best-lm.pt")
    results["released file: perplexity"] = best.calculate_perplexity("abc fed")
    return results


def _outcome(model: Any, out: Path) -> dict[str, Any]:
    log = (out / "training.log").read_text()
    lines = re.sub(r"\d", "#", re.sub(r"time: .*?s \|", "", (out / "loss.txt").read_text()))
    generated = [line.split(" ", 2)[2][:200] for line in log.splitlines() if "('" in line]
    best = [float(number) for number in re.findall(r"best loss so far ([\d.]+)", log)]
    return {
        "loss.txt": lines,
        "generated": generated,
        "best": best,
        "weights": dict(model.state_dict()),
        "files": sorted(path.name for path in out.iterdir()),
        "evaluation": model.calculate_perplexity("bad face Def\n"),
    }


if __name__ == "__main__":
    sys.exit(main(prepare, work))
