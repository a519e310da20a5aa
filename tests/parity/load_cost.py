"""What loading a model costs, beside loading its transformer and tokenizer with transformers: time and memory.

    PYTHONPATH=. python tests/parity/load_cost.py TRANSFORMER_FOLDER [--rounds 7] [--bar 1.3]

Every measurement is a fresh process, forked from one that has imported all that is needed (by loading a tiny model of
each kind) and measures nothing itself; the kinds take turns. Models saved with adapters only are held against
transformers plus peft: the base by ``from_pretrained``, the adapter by ``PeftModel.from_pretrained``. Memory is the
growth of the peak of resident memory during the load, over the size of the weights. Pages of a mapped file count once
they are touched: those of whole files when the model first computes, those of an adapters' base when it is checked to
be the right one. Status 1 if a kind misses the bar.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", FLAIR_DEVICE="cpu", OMP_NUM_THREADS="1")

YARDSTICKS = {"whole.pt": "bare", "whole": "bare", "adapters.pt": "bare+peft", "adapters": "bare+peft"}
"""Models saved whole or with adapters only, as a file or a folder; and what each is held against."""
KINDS = ("bare", "bare+peft", *YARDSTICKS)


def prepare(transformer: Path, place: Path, targets: str) -> None:
    """Write a classifier on the transformer in each form, and tiny ones for warming up."""
    from peft import LoraConfig

    from flair.data.dictionary import Dictionary
    from flair.embeddings import TransformerDocumentEmbeddings
    from flair.models import TextClassifier

    modules = targets if "," not in targets else targets.split(",")
    labels = Dictionary(add_unk=False)
    for label in ("a", "b", "c"):
        labels.add_item(label)
    tiny = shrink(transformer, place / "tiny-transformer")
    for size, source in (("real", transformer), ("tiny", tiny)):
        for kind, config in (("whole", None), ("adapters", LoraConfig(r=8, target_modules=modules))):
            embeddings = TransformerDocumentEmbeddings(str(source), peft_config=config, use_context_separator=False)
            model = TextClassifier(embeddings, label_type="topic", label_dictionary=labels)
            for suffix in (".pt", ""):
                model.save(place / size / f"{kind}{suffix}", adapters_only=kind == "adapters")


def shrink(transformer: Path, target: Path) -> Path:
    """A random transformer of the same family with one small layer."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(transformer)
    config.num_hidden_layers = 1
    AutoModel.from_config(config).save_pretrained(target)
    AutoTokenizer.from_pretrained(transformer).save_pretrained(target)
    return target


def load(kind: str, place: Path, transformer: Path) -> Any:
    if kind not in ("bare", "bare+peft"):
        from flair.models import TextClassifier

        return TextClassifier.load(place / kind)
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(transformer), AutoTokenizer.from_pretrained(transformer)
    if kind == "bare":
        return model, tokenizer
    from peft import PeftModel

    adapter = next((place / "adapters").rglob("adapter_config.json")).parent
    return PeftModel.from_pretrained(model, adapter), tokenizer


def memory() -> dict[str, int]:
    """Resident memory of this process in bytes: at its peak, now, and of mapped files."""
    status = Path("/proc/self/status").read_text()
    found = {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB", status, re.MULTILINE)}
    return {"peak": found["VmHWM"], "anonymous": found["RssAnon"], "mapped": found["RssFile"]}


def measure(kind: str, place: Path, transformer: Path) -> dict[str, float]:
    """One load in this process, after a tiny one that touches the pages of code it shares with its parent."""
    load(kind, place / "tiny", place / "tiny-transformer")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = memory()
    start, cpu = time.perf_counter(), time.process_time()
    loaded = load(kind, place / "real", transformer)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    after = memory()
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    weights = {t.data_ptr(): t.nbytes for t in [*model.parameters(), *model.buffers()]}
    return {
        "seconds": seconds,
        "cpu": cpu,
        "peak": after["peak"] - before["anonymous"] - before["mapped"],
        "anonymous": after["anonymous"] - before["anonymous"],
        "mapped": after["mapped"] - before["mapped"],
        "weights": sum(weights.values()),
    }


def measure_in_child(kind: str, place: Path, transformer: Path) -> dict[str, float]:
    """One load in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.write(writing, json.dumps(measure(kind, place, transformer)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise SystemExit(f"Loading {kind} failed.")
    return json.loads(answer)


def warm_up(kinds: list[str], place: Path) -> None:
    """Import all that loading needs."""
    import logging

    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    logging.getLogger("flair").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    for kind in kinds:
        load(kind, place / "tiny", place / "tiny-transformer")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("transformer", type=Path, help="a folder with config.json, model.safetensors and a tokenizer")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bar", type=float, default=1.3, help="the most times the bare load's cost")
    parser.add_argument("--targets", default="query,value", help="modules with LoRA of rank 8, or all-linear")
    parser.add_argument("--place", type=Path, help="a folder for the models, written where it is empty")
    parser.add_argument("--kinds", nargs="+", choices=YARDSTICKS, default=list(YARDSTICKS), help="what to measure")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = arguments.place or Path(scratch)
        if not (place / "real").exists():
            prepare(arguments.transformer, place, arguments.targets)
        kinds = [*dict.fromkeys(YARDSTICKS[kind] for kind in arguments.kinds), *arguments.kinds]
        warm_up(kinds, place)
        rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for number in range(arguments.rounds):
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                rounds[kind].append(measure_in_child(kind, place, arguments.transformer))
    return report(rounds, arguments.bar)


def report(rounds: dict[str, list[dict[str, float]]], bar: float) -> int:
    """Print the medians; 1 if some kind costs more than the bar."""
    medians = {
        kind: {name: statistics.median(one[name] for one in runs) for name in runs[0]} for kind, runs in rounds.items()
    }
    missed = []
    titles = ("ms", "× bare", "CPU ms", "× bare", "peak MB", "× weights", "mapped MB")
    print(f"{'':12}", *(f"{title:>9}" for title in titles))
    for kind, found in medians.items():
        bare = medians[YARDSTICKS.get(kind, kind)]
        ratios = (found["seconds"] / bare["seconds"], found["cpu"] / bare["cpu"], found["peak"] / found["weights"])
        print(
            f"{kind:12} {found['seconds'] * 1e3:9.0f} {ratios[0]:9.2f} {found['cpu'] * 1e3:9.0f} {ratios[1]:9.2f} "
            f"{found['peak'] / 1e6:9.1f} {ratios[2]:9.2f} {found['mapped'] / 1e6:9.1f}"
        )
        if kind in YARDSTICKS and (ratios[0] > bar or ratios[2] > bar):
            missed.append(kind)
    runs = next(iter(rounds.values()))
    print(f"Above {bar}: {', '.join(missed) or 'none'}. Medians of {len(runs)} processes each.")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
