"""Readers of column files, JSON lines and treebanks: the same generated files in this package and the released one.

Left out is what this package does differently on purpose: lines without a label column among spans (the released one
drops all spans of the sentence), empty labels, unsplit contractions' heads, ``banned_sentences`` on disk.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

from drive import main

ALPHABET = "abcdefgxyzABCÄßé日本1234567890.,'\"-–’"
LABELS = ("PER", "LOC", "A-B", "x")
COLUMNS = {0: "text", 1: "pos", 2: "ner", 3: "space-after", 4: "feats"}
OPTIONS: dict[str, dict[str, Any]] = {
    "memory": {"comment_symbol": "# "},
    "disk": {"comment_symbol": "# ", "in_memory": False},
    "every comment": {"comment_symbol": "#"},
    "documents": {"document_separator_token": "-DOC-", "comment_symbol": "# "},
    "whole documents": {
        "document_separator_token": "-DOC-",
        "documents_as_sentences": True,
        "comment_symbol": "# ",
    },
    "independent": {"every_sentence_is_independent": True, "comment_symbol": "# "},
    "first line": {"skip_first_line": True, "comment_symbol": "# "},
    "names": {"label_name_map": {"PER": "person", "N": "noun", "LOC": "O", "rel": "O"}, "comment_symbol": "# "},
    "no spaces": {"default_whitespace_after": 0, "comment_symbol": "# "},
    "banned": {"banned_sentences": ["ab", "-DOC-"], "comment_symbol": "# "},
}
FILES = 60


def word(rng: random.Random) -> str:
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, 5)))


def tags(rng: random.Random, length: int, scheme: str) -> list[str]:
    """One tag a token; "wild" ones do not fit together."""
    if scheme == "wild":
        values = ["O", "O", *(prefix + label for prefix in ("B-", "I-", "S-", "E-") for label in LABELS)]
        return [rng.choice(values) for _ in range(length)]
    made: list[str] = []
    while len(made) < length:
        if rng.random() < 0.5:
            made.append("O")
            continue
        label, size = rng.choice(LABELS), rng.randint(1, 3)
        inner = [f"I-{label}"] * (size - 1)
        if scheme == "BIOES":
            span = [f"S-{label}"] if size == 1 else [f"B-{label}", *inner[:-1], f"E-{label}"]
        else:
            span = [f"{'I' if scheme == 'IOB' else 'B'}-{label}", *inner]
        made.extend(span)
    return made[:length]


def column_file(rng: random.Random, delimiter: str) -> str:
    scheme = rng.choice(["BIO", "BIOES", "IOB", "wild"])
    blocks = []
    for number in range(rng.randint(1, 12)):
        if rng.random() < 0.15:
            blocks.append(delimiter.join(["-DOC-", "O", "O", "+", "_"]))
            continue
        length = rng.randint(1, 10)
        lines = []
        if rng.random() < 0.3:
            lines.append(f"# id = {number}")
        if rng.random() < 0.3 and length > 2:
            a, b = sorted(rng.sample(range(1, length + 1), 2))
            lines.append(f"# relations = {a};{a};{b};{b};rel|1;2;{length};{length};other rel")
        for tag in tags(rng, length, scheme):
            feature = rng.choice(["_", "Case=Nom", "Case=Acc|Num=Sing", "SpaceAfter=No", "X=1|SpaceAfter=No"])
            fields = [word(rng), rng.choice(["N", "V", "O", "ADJ"]), tag, rng.choice("+++-"), feature]
            lines.append(delimiter.join(fields))
        blocks.append("\n".join(lines))
    return ("\n" * rng.randint(1, 2)).join(block + "\n" for block in blocks)


def json_file(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(1, 6)):
        text = " ".join("".join(rng.choice("abcdefg") for _ in range(rng.randint(1, 6))) for _ in range(8))
        labels = []
        for _ in range(rng.randint(0, 3)):
            start = rng.randrange(len(text) - 4)
            labels.append([start, start + rng.randint(2, len(text) - start), rng.choice(LABELS)])
        lines.append(json.dumps({"data": text, "label": labels, "metadata": [["n", rng.random()]]}))
    return "\n".join(lines) + "\n"


def treebank(rng: random.Random) -> str:
    blocks = []
    for number in range(rng.randint(1, 6)):
        lines, total = [f"# sent_id = {number}"], rng.randint(1, 8)
        words = [word(rng) for _ in range(total)]
        contraction = rng.randint(1, total - 1) if total > 1 and rng.random() < 0.5 else None
        for i in range(1, total + 1):
            if i == contraction:
                whole = rng.choice([words[i - 1] + words[i], word(rng)])
                lines.append(f"{i}-{i + 1}\t{whole}" + "\t_" * 8)
            feats = rng.choice(["_", "Case=Nom", "Case=Acc|Number=Sing"])
            head = rng.randint(0, total)
            inside = contraction is not None and i in (contraction, contraction + 1)  # the whole says what follows it
            misc = "SpaceAfter=No" if rng.random() < 0.3 and not inside else rng.choice(["_", "Gloss=x"])
            fields = [
                str(i),
                words[i - 1],
                word(rng),
                rng.choice(["NOUN", "_"]),
                "NN",
                feats,
                str(head),
                "dep",
                "_",
                misc,
            ]
            lines.append("\t".join(fields))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def prepare(folder: Path) -> None:
    rng = random.Random(5)
    for number in range(FILES):
        delimiter = " " if number % 2 else "\t"
        (folder / f"{number}.txt").write_text(column_file(rng, delimiter), encoding="utf-8")
        (folder / f"{number}.jsonl").write_text(json_file(rng), encoding="utf-8")
        (folder / f"{number}.conllu").write_text(treebank(rng), encoding="utf-8")


def described(data: Any, with_heads: bool = True) -> list[Any]:
    rows = []
    for i in range(len(data)):
        sentence = data[i]
        tokens = [
            (token.text, token.start_position, token.whitespace_after, token.head_id if with_heads else None)
            for token in sentence
        ]
        names = sorted(name for name in sentence.annotation_layers if sentence.annotation_layers[name])
        labels = [
            (name, [(label.unlabeled_identifier, label.value, label.score) for label in sentence.get_labels(name)])
            for name in names
        ]
        rows.append((sentence.to_original_text(), sentence.to_plain_string(), sentence.is_document_boundary))
        rows.append((tokens, labels))
    return rows


def work(folder: Path) -> dict[str, Any]:
    from flair.datasets import ColumnCorpus, UniversalDependenciesCorpus
    from flair.datasets.sequence_labeling import ColumnDataset, JsonlDataset, MultiFileColumnCorpus
    from flair.datasets.treebanks import UniversalDependenciesDataset

    results: dict[str, Any] = {}
    for name, options in OPTIONS.items():
        found: list[Any] = []
        for number in range(FILES):
            delimiter = r"\s+" if number % 2 else "\t"
            data = ColumnDataset(folder / f"{number}.txt", COLUMNS, column_delimiter=delimiter, **options)
            sentences = [data[i] for i in range(len(data))]
            context = [(s.previous_sentence() is None, s.next_sentence() is None) for s in sentences]
            found.append((described(data), context, sorted(data.span_level_tag_columns.items())))
        results[f"columns, {name}"] = found
    results["JSON lines"] = [described(JsonlDataset(folder / f"{n}.jsonl")) for n in range(FILES)]
    for split in (True, False):
        results[f"treebank, contractions {'split' if split else 'kept'}"] = [
            described(UniversalDependenciesDataset(folder / f"{n}.conllu", split_multiwords=split), split)
            for n in range(FILES)
        ]
    one = ColumnCorpus(folder, {0: "text", 1: "pos", 2: "ner"}, train_file="1.txt", dev_file="3.txt", test_file="5.txt")
    several = MultiFileColumnCorpus(
        {0: "text", 1: "pos", 2: "ner"}, train_files=[folder / "1.txt", folder / "3.txt"], dev_files=[folder / "5.txt"]
    )
    trees = UniversalDependenciesCorpus(folder, train_file="1.conllu", dev_file="2.conllu", test_file="3.conllu")
    results["corpora"] = [str(corpus).replace("\n", " ") for corpus in (one, several, trees)]
    results["dictionaries"] = [
        sorted(one.make_label_dictionary(name, min_count=-1, add_unk=False).get_items()) for name in ("ner", "pos")
    ]
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work))
