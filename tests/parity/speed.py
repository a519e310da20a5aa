"""How fast the same work is through this package, the released one, and the bare transformer.

    python tests/parity/speed.py TRANSFORMER_FOLDER [CASE ...] [--rounds 5] [--threads 2]

One process a package stays up and does the work of a case once for warming up, then once a round; the processes take
turns, and the others wait meanwhile. Printed are the medians of the paired ratios, with the lowest and highest. The
bare transformer runs beside this package: sorted by length in batches as large as the models', it is what padding
allows.

The texts are those of the corpora in ``resources/``, several times over. ``FLAIR_REFERENCE_PYTHON`` names the
interpreter of the released package. Both interpreters need gensim; "lora" needs peft. Word vectors and language model
are stand-ins of the published sizes, see ``bench_cache.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drive import REPOSITORY, dictionary_of

TASKS = REPOSITORY / "resources" / "tasks"
BATCH = 32
TRAINING_BATCH = 16
CASES = {
    "classes": "bare",
    "entities": "bare",
    "lora": "bare lora",
    "full": "bare full",
    "words": None,
    "characters": None,
    "columns": None,
    "sentences": None,
}
"""What is measured -> the work of the bare transformer beside it."""


def texts(count: int) -> list[str]:
    """Sentences of both corpora, repeated as often as it takes."""
    requests = [
        line.split(" ", 1)[1]
        for line in (TASKS / "everyday_requests" / "train.txt").read_text(encoding="utf-8").splitlines()
    ]
    blocks = (TASKS / "everyday_entities" / "train.txt").read_text(encoding="utf-8").strip().split("\n\n")
    entities = [" ".join(row.split()[0] for row in block.splitlines()) for block in blocks]
    together = requests + entities
    return [together[number % len(together)] for number in range(count)]


# --- the work, done by whichever flair is importable ---


def _predicting(model: Any, count: int) -> Callable[[], None]:
    from flair.data import Sentence

    model.eval()
    chosen = texts(count)
    return lambda: model.predict([Sentence(text) for text in chosen], mini_batch_size=BATCH)


def _tagger(embeddings: Any, **options: Any) -> Any:
    from flair.models import SequenceTagger

    tags = dictionary_of("PER", "LOC", "ORG", spans=True)
    return SequenceTagger(embeddings, tag_dictionary=tags, tag_type="ner", use_crf=True, **options)


def _classifier(transformer: str, **options: Any) -> Any:
    from flair.embeddings import TransformerDocumentEmbeddings
    from flair.models import TextClassifier

    embeddings = TransformerDocumentEmbeddings(transformer, **options)
    return TextClassifier(embeddings, label_dictionary=dictionary_of("a", "b"), label_type="topic")


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(task_type="FEATURE_EXTRACTION", target_modules=["query", "value"])


def _training(transformer: str, count: int, **options: Any) -> Callable[[], None]:
    from flair.data import Corpus, Sentence
    from flair.datasets import FlairDatapointDataset
    from flair.trainers import ModelTrainer

    points = [Sentence(text).add_label("topic", "ab"[number % 2]) for number, text in enumerate(texts(count))]
    model = _classifier(transformer, fine_tune=True, **options)
    few = FlairDatapointDataset(points[:2])
    corpus = Corpus(train=FlairDatapointDataset(points), dev=few, test=few, sample_missing_splits=False)

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            ModelTrainer(model, corpus).fine_tune(
                folder, max_epochs=1, mini_batch_size=TRAINING_BATCH, save_final_model=False
            )

    return work


def _bare(transformer: str, count: int, train: bool, adapters: bool) -> Callable[[], None]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(transformer), AutoModel.from_pretrained(transformer)
    if adapters:
        from peft import get_peft_model

        model = get_peft_model(model, _lora())
    model.train(train)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    chosen, size = texts(count), TRAINING_BATCH if train else BATCH

    def work() -> None:
        rows = sorted(tokenizer(chosen)["input_ids"], key=len)
        with contextlib.nullcontext() if train else torch.inference_mode():
            for start in range(0, len(rows), size):
                batch = tokenizer.pad({"input_ids": rows[start : start + size]}, return_tensors="pt")
                states = model(**batch).last_hidden_state[:, 0]
                if train:
                    states.pow(2).mean().backward()
                    optimizer.step()
                    optimizer.zero_grad()

    return work


def _columns(count: int) -> Callable[[], None]:
    from flair.datasets import ColumnCorpus

    folder = Path(tempfile.mkdtemp())
    for split, size in (("train", count), ("dev", 10), ("test", 10)):
        blocks = [
            "".join(f"{word} {'B-PER' if place % 7 == 0 else 'O'}\n" for place, word in enumerate(text.split()))
            for text in texts(size)
        ]
        (folder / f"{split}.txt").write_text("\n".join(blocks), encoding="utf-8")

    def work() -> None:
        ColumnCorpus(folder, {0: "text", 1: "ner"})

    return work


def make(case: str, transformer: str) -> Callable[[], Any]:
    """The work of a case, ready to be done."""
    from flair.data import Sentence
    from flair.embeddings import FlairEmbeddings, TransformerWordEmbeddings, WordEmbeddings

    if case.startswith("bare"):
        training = case != "bare"
        return _bare(transformer, 384 if training else 1000, train=training, adapters=case.endswith("lora"))
    if case == "classes":
        return _predicting(_classifier(transformer), 1000)
    if case == "entities":
        plain = {"use_rnn": False, "reproject_embeddings": False}
        return _predicting(_tagger(TransformerWordEmbeddings(transformer), **plain), 1000)
    if case == "words":
        return _predicting(_tagger(WordEmbeddings("turian"), hidden_size=128), 1000)
    if case == "characters":
        return _predicting(_tagger(FlairEmbeddings("news-forward-fast"), hidden_size=128), 500)
    if case == "lora":
        return _training(transformer, 384, peft_config=_lora())
    if case == "full":
        return _training(transformer, 384)
    if case == "columns":
        return _columns(4000)
    words = [text.split() for text in texts(4000)]
    return lambda: [len(Sentence(row)) for row in words]


def worker(transformer: str, threads: int) -> None:
    """Read names of cases from standard input, do their work, answer with seconds."""
    import logging

    import torch

    import flair

    torch.set_num_threads(threads)
    logging.getLogger("flair").setLevel(logging.ERROR)
    flair.device = torch.device("cpu")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is no answer
    known: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        case = line.strip()
        if case not in known:
            known.clear()  # one model at a time
            known[case] = make(case, transformer)
            known[case]()
        start = time.perf_counter()
        known[case]()
        print(json.dumps(time.perf_counter() - start), file=answers, flush=True)


# --- the comparison ---


class Package:
    """A process that has one of the packages."""

    def __init__(self, python: str, options: list[str], cache: Path, own: bool) -> None:
        environment = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", FLAIR_CACHE_ROOT=str(cache))
        environment.pop("PYTHONPATH", None)
        if own:
            environment["PYTHONPATH"] = str(REPOSITORY)
        command = [python, str(Path(__file__).resolve()), *options, "--worker"]
        self.process = subprocess.Popen(
            command, env=environment, cwd=cache, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def seconds(self, case: str) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{case}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.process.args[0]} failed at {case!r}.")  # type: ignore[index]
        return float(json.loads(answer))


def ratios(name: str, slow: list[float], fast: list[float]) -> str:
    found = [one / other for one, other in zip(slow, fast, strict=True)]
    return f"{statistics.median(found):6.2f} × {name} ({min(found):.2f} to {max(found):.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("transformer", type=Path)
    parser.add_argument("cases", nargs="*", default=[], help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(str(arguments.transformer), arguments.threads)
        return 0
    reference = os.environ.get("FLAIR_REFERENCE_PYTHON")
    if not reference:
        print("Set FLAIR_REFERENCE_PYTHON to an interpreter that has the released package.")
        return 2
    unknown = sorted(set(arguments.cases) - CASES.keys())
    if unknown:
        parser.error(f"unknown cases {', '.join(unknown)}; there are {', '.join(CASES)}")
    options = [str(arguments.transformer.resolve()), "--threads", str(arguments.threads)]
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        maker = str(Path(__file__).with_name("bench_cache.py"))
        subprocess.run([reference, maker, folder], check=True, cwd=folder, env={**os.environ, "PYTHONPATH": ""})
        released = Package(reference, options, cache, own=False)
        ours, bare = (Package(sys.executable, options, cache, own=True) for _ in range(2))
        for case in arguments.cases or CASES:
            limit = CASES[case]
            workers = [(ours, case), (released, case), *([(bare, limit)] if limit else [])]
            seconds = [[package.seconds(work) for package, work in workers] for _ in range(arguments.rounds)]
            mine, theirs, *bound = (list(column) for column in zip(*seconds, strict=True))
            parts = [ratios("released", theirs, mine)]
            for limits in bound:
                parts += [ratios("bare", limits, mine), f"released: {ratios('bare', limits, theirs)}"]
            print(f"{case:12}", "   ".join(parts), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
