"""Hold transformer embeddings against the released package: same weights, same sentences, one process for each.

    FLAIR_REFERENCE_PYTHON=/path/to/released/python python tests/parity/transformer_embeddings.py [KIND ...]

The other interpreter needs flair 0.15.1. KIND is a family of tiny random models or the path of a model folder. Every
pooling x layers x layer_mean x context x long-sentence setting is run on both sides; the table shows the largest
difference for each, and the exit status is 1 where one is above the bar. ``--short`` leaves out what needs windows: the
released package cannot make them with tokenizers written in Python (XLM, Japanese BERT).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve()
REPOSITORY = HERE.parents[2]
BAR = 1e-5
LIMIT = 40
KINDS = ("bert", "distilbert", "electra", "roberta", "xlm-roberta", "t5", "gpt2", "modernbert", "llama")
SENTENCES = [
    ["The", "quick", "fox", "jumps", "!"],
    ["unbelievable", "internationalisation", "of", "Berlin", "and", "Paris"],
    ["I", "love", "\u200b", "this", "\ue000", "film", "\u200d"],
    ["Great"],
    ("George Washington went to Washington and never came back ; what a terrible waste of time ! " * 4).split(),
]


def settings(document: bool, full: bool) -> list[dict]:
    """All combinations of the constructor options that change vectors."""
    layers = ("-1", "-1,-2", "0,1", "all") if full else ("-1", "-1,-2")
    axes = {
        "cls_pooling" if document else "subtoken_pooling": ("cls", "mean", "max")
        if document
        else ("first", "last", "first_last", "mean"),
        "layers": layers,
        "layer_mean": (True, False),
        "use_context": (False, 4),
        "allow_long_sentences": (True, False),
    }
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def cases(kind: str, full: bool, short: bool = False) -> list[dict]:
    """Settings under which both packages define a result."""
    found = []
    for document in (False, True):
        for options in settings(document, full):
            windows_of_many = options["use_context"] or kind in ("t5", "gpt2")
            if document and options["allow_long_sentences"] and options["cls_pooling"] == "cls" and windows_of_many:
                continue  # the released package takes the first rows, which are windows of one sentence
            found.append({"document": document, "options": options})
    if short:
        return [case for case in found if not case["options"]["allow_long_sentences"]]
    extra = {"force_max_length": True, "allow_long_sentences": False}
    found.append({"document": False, "options": extra})
    found.append({"document": True, "options": extra})
    found.append({"document": False, "options": {"use_context": 4, "use_context_separator": False}})
    return found


def worker(job: Path) -> None:
    """Run in either interpreter: embed the sentences under every setting, write the vectors."""
    import numpy as np
    import torch

    task = json.loads(job.read_text())
    if task["reference"]:
        sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != REPOSITORY]
    else:
        sys.path.insert(0, str(REPOSITORY))
    import flair

    flair.device = torch.device("cpu")
    torch.set_num_threads(1)
    import logging

    logging.getLogger("flair").setLevel(logging.ERROR)
    from flair.data import Sentence
    from flair.embeddings.document import TransformerDocumentEmbeddings

    if task["reference"]:
        from flair.embeddings import TransformerWordEmbeddings
    else:
        from flair.embeddings._transformer.word import TransformerWordEmbeddings

    vectors = {}
    for number, case in enumerate(task["cases"]):
        embedding_class = TransformerDocumentEmbeddings if case["document"] else TransformerWordEmbeddings
        embedding = embedding_class(task["folder"], **case["options"])
        embedding.eval()
        sentences = [Sentence(words) for words in task["sentences"]]
        Sentence.set_context_for_sentences(sentences)
        embedding.embed(sentences)
        points = sentences if case["document"] else [token for sentence in sentences for token in sentence]
        vectors[str(number)] = np.stack([point.get_embedding([embedding.name]).cpu().numpy() for point in points])
    np.savez(task["out"], **vectors)


def prepare(source: str, folder: Path) -> None:
    """Copy a real model and give it the [FLERT] token, so that neither package draws a random row for it."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[FLERT]"]})
    tokenizer.model_max_length = 64
    model.resize_token_embeddings(len(tokenizer))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def run(python: str, arguments: list[str], cwd: str, environment: dict[str, str]) -> None:
    """Run this script in an interpreter; its errors are ours."""
    done = subprocess.run(
        [python, str(HERE), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def compare(kind: str, reference: str, scratch: Path, verbose: bool, short: bool = False) -> tuple[float, list[str]]:
    """The largest difference for one model, and the rows of the table."""
    import numpy as np

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    outside = {key: value for key, value in environment.items() if key != "PYTHONPATH"}
    folder = scratch / Path(kind).name
    real = Path(kind).is_dir()
    if real:
        run(reference, ["--prepare", kind, str(folder)], str(scratch), outside)
    else:
        sys.path.insert(0, str(REPOSITORY / "tests" / "embeddings"))
        from tiny_transformers import make_model_folder

        make_model_folder(folder, kind, max_length=LIMIT, separator=True)
    todo = cases(kind, full=not real, short=short)
    results = []
    for is_reference, python in ((True, reference), (False, sys.executable)):
        job, out = scratch / f"job{is_reference}.json", scratch / f"out{is_reference}.npz"
        task = {
            "reference": is_reference,
            "folder": str(folder),
            "cases": todo,
            "sentences": SENTENCES[:-1] if short else SENTENCES,
            "out": str(out),
        }
        job.write_text(json.dumps(task))
        run(python, ["--worker", str(job)], str(scratch), outside if is_reference else environment)
        results.append(np.load(out))
    groups: dict[str, list[float]] = {}
    for number, case in enumerate(todo):
        released, ours = (result[str(number)] for result in results)
        options = case["options"]
        pooling = options.get("cls_pooling") or options.get("subtoken_pooling") or next(iter(options))
        row = f"{'document' if case['document'] else 'token':9s}{pooling:18s}"
        same = released.shape == ours.shape
        groups.setdefault(row, []).append(float(np.abs(released - ours).max()) if same else float("inf"))
        if groups[row][-1] > BAR and verbose:
            print(f"above the bar: {kind} {case} {groups[row][-1]:.2e}")
    lines = [
        f"{Path(kind).name:14s}{row} {len(values):4d} settings  max {max(values):.1e}" for row, values in groups.items()
    ]
    return max(max(values) for values in groups.values()), lines


def main() -> int:
    """Compare all models; 1 where a difference is above the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--verbose", action="store_true", help="name every setting above the bar")
    parser.add_argument("--short", action="store_true", help="no long sentences, for slow tokenizers")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker)
        return 0
    if arguments.prepare:
        prepare(arguments.prepare[0], Path(arguments.prepare[1]))
        return 0
    reference = os.environ.get("FLAIR_REFERENCE_PYTHON")
    if not reference:
        raise SystemExit("Set FLAIR_REFERENCE_PYTHON to a Python that has flair 0.15.1.")
    largest = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        for kind in arguments.kinds:
            difference, lines = compare(kind, reference, Path(scratch), arguments.verbose, arguments.short)
            print("\n".join(lines), flush=True)
            largest = max(largest, difference)
    print(f"largest difference: {largest:.2e} (bar {BAR:.0e})")
    return 0 if largest <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
