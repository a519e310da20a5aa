"""Readers of labelled texts: FastText format and CSV, and the finding and reading of files below them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flair.data import DataPair
from flair.datasets import (
    ClassificationCorpus,
    ClassificationDataset,
    CSVClassificationCorpus,
    CSVClassificationDataset,
    MongoDataset,
)
from flair.datasets.base import find_train_dev_test_files, line_at, text_lines

MODES = ("full", "partial", "disk")
Row = tuple[list[str], str]


def write(path: Path, text: str | bytes, encoding: str = "utf-8") -> Path:
    """A file with exactly these characters, line endings included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def rows(data: Any) -> list[Row]:
    """Labels and text of each item."""
    return [([label.value for label in data[i].labels], data[i].text) for i in range(len(data))]


def read(path: Path, mode: str = "full", **options: Any) -> list[Row]:
    return rows(ClassificationDataset(path, "topic", memory_mode=mode, **options))


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the package logs; its logger does not propagate."""
    logger = logging.getLogger("flair")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


# --- finding files ---


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a_train.txt", "b_dev.txt", "c_test.txt"], ("b_dev.txt", "c_test.txt", "a_train.txt")),
        (["eng.train", "eng.testa", "eng.testb"], ("eng.testa", "eng.testb", "eng.train")),
        (["train.txt", "train.txt.gz", "test.txt", "dev.txt.swp"], (None, "test.txt", "train.txt")),
        (["train.txt", "testing.txt"], (None, "testing.txt", "train.txt")),
        (["other.txt"], (None, None, None)),
    ],
)
def test_splits_are_found_by_name(tmp_path: Path, names: list[str], expected: tuple[str | None, ...]) -> None:
    for name in names:
        write(tmp_path / name, "x")
    (tmp_path / "test").mkdir()
    found = find_train_dev_test_files(str(tmp_path), None, None, None)
    assert tuple(None if file is None else file.name for file in found) == expected
    assert find_train_dev_test_files(tmp_path, None, None, None, autofind_splits=False) == (None, None, None)


def test_named_files_are_taken(tmp_path: Path) -> None:
    for name in ("train.txt", "test.txt", "b"):
        write(tmp_path / name, "x")
    assert find_train_dev_test_files(tmp_path, None, None, "b") == (None, None, tmp_path / "b")
    found = find_train_dev_test_files(tmp_path, "b", None, None)
    assert found == (tmp_path / "b", tmp_path / "test.txt", tmp_path / "train.txt")


@pytest.mark.parametrize(
    "corpus", [ClassificationCorpus, lambda folder: CSVClassificationCorpus(folder, {0: "text"}, "t")]
)
def test_missing_folders_and_files(tmp_path: Path, corpus: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"data folder .*nowhere does not exist"):
        corpus(tmp_path / "nowhere")
    file = write(tmp_path / "some" / "readme.md", "x")
    with pytest.raises(FileNotFoundError, match=r"(?s)'train', 'dev' or 'test'.*readme\.md"):
        corpus(file.parent)
    with pytest.raises(NotADirectoryError, match="is a file"):
        corpus(file)


def test_a_missing_file_is_named_beside_those_there_are(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "x")
    with pytest.raises(FileNotFoundError, match=r"a\.txt does not exist. The folder has: b\.txt"):
        ClassificationCorpus(tmp_path, train_file="a.txt")
    with pytest.raises(FileNotFoundError, match=r"a\.txt does not exist"):
        ClassificationDataset(tmp_path / "a.txt", "topic")
    with pytest.raises(FileNotFoundError, match=r"a\.txt does not exist"):
        CSVClassificationDataset(tmp_path / "a.txt", {0: "text"}, "topic")


# --- lines ---

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252")
LINE_TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=8)


@given(lines=st.lists(LINE_TEXT, min_size=1, max_size=6), ending=st.sampled_from(["\n", "\r\n", "\r"]))
@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name != "cp1252"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_lines_and_their_offsets(tmp_path: Path, encoding: str, lines: list[str], ending: str) -> None:
    path = write(tmp_path / "file.txt", "".join(line + ending for line in lines), encoding)
    read_lines = list(text_lines(path, encoding))
    assert [number for number, _, _ in read_lines] == list(range(1, len(lines) + 1))
    assert [line for _, _, line in read_lines] == lines
    assert [line_at(path, offset, encoding) for _, offset, _ in read_lines] == lines


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("mode", MODES)
def test_encodings(tmp_path: Path, encoding: str, mode: str) -> None:
    path = write(tmp_path / "train.txt", "__label__A caf\u00e9\r\n__label__B \u00ff", encoding)
    assert read(path, mode, encoding=encoding) == [(["A"], "caf\u00e9"), (["B"], "\u00ff")]


@pytest.mark.parametrize("mode", MODES)
def test_a_wide_character_that_contains_the_byte_of_a_line_ending(tmp_path: Path, mode: str) -> None:
    path = write(tmp_path / "train.txt", "__label__A \u010a\u0a00 x\n__label__B y\n", "utf-16-le")
    assert read(path, mode, encoding="utf-16-le") == [(["A"], "\u010a\u0a00 x"), (["B"], "y")]


@pytest.mark.parametrize("mode", MODES)
def test_a_byte_order_mark_is_no_part_of_the_first_label(tmp_path: Path, mode: str) -> None:
    path = write(tmp_path / "train.txt", "\ufeff__label__A x\n__label__B y\n")
    assert read(path, mode) == [(["A"], "x"), (["B"], "y")]


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ("__label__A ok\n__label__B caf\u00e9\n".encode("latin-1"), "utf-8", r"t\.txt, line 2: not valid utf-8"),
        ("__label__A ok\n__label__B x\n".encode("utf-16-le")[:-1], "utf-16-le", r"t\.txt, line 2: not valid utf-16-le"),
        (b"\x1f\x8b\x08\x00\x00rest\n", "latin-1", r"t\.txt, line 1: zero bytes, so this is no text in latin-1"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, encoding: str, message: str) -> None:
    path = write(tmp_path / "t.txt", content)
    with pytest.raises(ValueError, match=message):
        ClassificationDataset(path, "topic", encoding=encoding)
    with pytest.raises(ValueError, match=message):
        CSVClassificationDataset(path, {0: "text"}, "topic", encoding=encoding)


# --- FastText format ---

FILE = """__label__A the first text.
__label__B __label__C Second one here

no label here
__label__A
__label__A   spaced   text\x20\x20
__label__D\ttab text
__label__A middle __label__B label
__label__B one two three four
"""
ALL = [
    (["A"], "the first text."),
    (["B", "C"], "Second one here"),
    (["A"], "spaced   text"),
    (["D"], "tab text"),
    (["A"], "middle __label__B label"),
    (["B"], "one two three four"),
]


@pytest.fixture
def fasttext(tmp_path: Path) -> Path:
    return write(tmp_path / "ft" / "train.txt", FILE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ALL),
        ({"truncate_to_max_tokens": 2}, [(a, b) for (a, _), b in zip(ALL, [
            "the first", "Second one", "spaced   text", "tab text", "middle __", "one two"])]),
        ({"truncate_to_max_chars": 6}, [(a, b[:6]) for a, b in ALL]),
        ({"filter_if_longer_than": 4}, [ALL[0], ALL[3], ALL[4]]),
        ({"label_name_map": {"A": "Alpha"}}, [(["Alpha" if x == "A" else x for x in a], b) for a, b in ALL]),
        ({"skip_labels": ["C", "A"]}, [ALL[3], ALL[5]]),
        ({"skip_labels": ["A"], "label_name_map": {"A": "Alpha"}}, [ALL[1], ALL[3], ALL[5]]),
        ({"skip_labels": ["Alpha"], "label_name_map": {"A": "Alpha"}}, [
            (["Alpha" if x == "A" else x for x in a], b) for a, b in ALL]),
        ({"allow_examples_without_labels": True}, [*ALL[:2], ([], "no label here"), *ALL[2:]]),
    ],
)  # fmt: skip
def test_options(fasttext: Path, mode: str, options: dict[str, Any], expected: list[Row]) -> None:
    data = ClassificationDataset(fasttext, "topic", memory_mode=mode, **options)
    assert rows(data) == expected
    assert len(data) == data.total_sentence_count == len(expected)
    assert data.is_in_memory() == (mode == "full")
    assert (data[0] is data[0]) == (mode == "full")
    assert set(data[0].annotation_layers) == {"topic"}


@pytest.mark.parametrize(("tokenizer", "tokens"), [(True, ["a", "."]), (False, ["a."])])
def test_tokenizer(tmp_path: Path, tokenizer: bool, tokens: list[str]) -> None:
    path = write(tmp_path / "train.txt", "__label__A a.")
    data = ClassificationDataset(path, "topic", tokenizer=tokenizer)
    assert [token.text for token in data[0]] == tokens


def test_what_is_left_out_is_told(fasttext: Path, logged: pytest.LogCaptureFixture) -> None:
    read(fasttext)
    assert [message.partition(": ")[2] for message in logged.messages] == [
        "1 lines were left out, they have no __label__... in front; the first is line 4.",
        "1 lines were left out, they have no text behind the label; the first is line 5.",
    ]


def test_unknown_memory_mode(fasttext: Path) -> None:
    with pytest.raises(RuntimeError, match=r"'ram' is unknown: use 'full', 'partial' or 'disk'"):
        ClassificationCorpus(fasttext.parent, memory_mode="ram")


def test_files_without_labels_and_empty_files(tmp_path: Path) -> None:
    path = write(tmp_path / "train.txt", "\nplain text\n")
    with pytest.raises(ValueError, match=r"train\.txt: no line has a label.*line 2 .*allow_examples_without_labels"):
        ClassificationCorpus(tmp_path)
    assert read(path, allow_examples_without_labels=True) == [([], "plain text")]
    write(path, "")
    with pytest.raises(RuntimeError, match="No data provided"):
        ClassificationCorpus(tmp_path)


def test_corpus_of_fasttext_files(fasttext: Path) -> None:
    write(fasttext.parent / "test.txt", "__label__A x\n__label__B y\n")
    corpus = ClassificationCorpus(fasttext.parent, label_type="topic", sample_missing_splits=False)
    assert str(corpus) == "Corpus: 6 train + 0 dev + 2 test sentences"
    assert corpus.dev is None
    assert corpus.name == str(fasttext.parent)
    assert rows(corpus.test) == [(["A"], "x"), (["B"], "y")]
    assert corpus.make_label_dictionary("topic").get_items() == ["<unk>", "A", "B", "C", "D"]
    sampled = ClassificationCorpus(fasttext.parent, label_type="topic")
    assert str(sampled) == "Corpus: 5 train + 1 dev + 2 test sentences"


LABELS = st.lists(st.text("abcXYZ09_-:", max_size=4), min_size=1, max_size=3)
WORDS = st.lists(st.text("abc.,!\u00e4\u4e2d", min_size=1, max_size=4), min_size=1, max_size=5)


@given(items=st.lists(st.tuples(LABELS, WORDS), min_size=1, max_size=5))
@pytest.mark.parametrize("mode", MODES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_what_is_written_is_read(tmp_path: Path, mode: str, items: list[tuple[list[str], list[str]]]) -> None:
    lines = [" ".join([*(f"__label__{label}" for label in labels), *words]) for labels, words in items]
    path = write(tmp_path / "train.txt", "\n".join(lines))
    assert read(path, mode) == [(labels, " ".join(words)) for labels, words in items]


# --- CSV ---

CSV = 'text,label\n"a, quoted",A\nplain text,B\n,C\nempty label,\n"two\nlines",A\n\nlast,B'
CSV_ROWS = [(["A"], "a, quoted"), (["B"], "plain text"), (["C"], ""), (["A"], "two\nlines"), (["B"], "last")]
COLUMNS = {0: "text", 1: "label_topic"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "csv" / "train.csv", CSV)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, CSV_ROWS),
        ({"max_tokens_per_doc": 1}, [(a, b) for (a, _), b in zip(CSV_ROWS, ["a", "plain", "", "two", "last"])]),
        ({"max_chars_per_doc": 4}, [(a, b) for (a, _), b in zip(CSV_ROWS, ["a, q", "plai", "", "two", "last"])]),
        ({"no_class_label": "B"}, [([x for x in a if x != "B"], b) for a, b in CSV_ROWS]),
    ],
)
def test_csv_options(table: Path, in_memory: bool, options: dict[str, Any], expected: list[Row]) -> None:
    data = CSVClassificationDataset(table, COLUMNS, "topic", skip_header=True, in_memory=in_memory, **options)
    assert [(labels, text.strip()) for labels, text in rows(data)] == expected
    assert len(data) == data.total_sentence_count == len(expected)
    assert data.is_in_memory() == in_memory
    assert (data[0] is data[0]) == in_memory


def test_the_header_is_a_row_unless_skipped(table: Path, logged: pytest.LogCaptureFixture) -> None:
    assert rows(CSVClassificationDataset(table, COLUMNS, "topic")) == [(["label"], "text"), *CSV_ROWS]
    assert logged.messages[-1:] == [f"{table}: 1 rows without label were left out."]


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({0: "text", 1: "text", 2: "label_a", 3: "label_b"}, [(["X", "Y"], "a1 a2"), (["Z"], "b1 b2")]),
        ({1: "text", 0: "text", 3: "label"}, [(["Y"], "a2 a1")]),
        ({0: "text", 2: "topic"}, []),
        ({0: "text", 1: "other", 2: "label"}, [(["X"], "a1"), (["Z"], "b1")]),
    ],
)
def test_columns(tmp_path: Path, in_memory: bool, columns: dict[int, str], expected: list[Row]) -> None:
    path = write(tmp_path / "train.tsv", "a1\ta2\tX\tY\nb1\tb2\tZ\t\n")
    assert rows(CSVClassificationDataset(path, columns, "topic", in_memory=in_memory, delimiter="\t")) == expected


@pytest.mark.parametrize("in_memory", [True, False])
def test_pairs(tmp_path: Path, in_memory: bool) -> None:
    path = write(tmp_path / "train.tsv", "a1;a2;X\n;b2;N\n")
    columns = {0: "text", 1: "pair", 2: "label"}
    data = CSVClassificationDataset(path, columns, "c", in_memory=in_memory, delimiter=";", no_class_label="N")
    first, second = data[0], data[1]
    assert isinstance(first, DataPair)
    assert (first.first.text, first.second.text, first.get_label("c").value) == ("a1", "a2", "X")
    assert first.first.labels == []
    assert (second.first.text, second.second.text, second.labels) == ("", "b2", [])


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("text", "columns", "options", "error", "message"),
    [
        ("a,X\nb\n", COLUMNS, {}, ValueError, r"t\.csv, line 2: the row has 1 columns, .* needs 2. Row: \['b'\]"),
        ("a,X\n", COLUMNS, {"delimiter": ";"}, ValueError, r"line 1: .*delimiter=';'"),
        ("a,X\n", {0: "text", 5: "label"}, {}, ValueError, "has 2 columns, .* needs 6"),
        ("a,X\n", {1: "label"}, {}, ValueError, "names no 'text' column"),
        ("a,X\n", {"0": "text"}, {}, TypeError, "'0': column numbers are int"),
        ('a,X\n"b" c,Y\n', COLUMNS, {"strict": True}, ValueError, r"t\.csv, line 2: no valid CSV"),
    ],
)
def test_bad_tables(
    tmp_path: Path,
    in_memory: bool,
    text: str,
    columns: dict[Any, str],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(error, match=message):
        CSVClassificationDataset(path, columns, "topic", in_memory=in_memory, **options)


def test_corpus_of_tables(table: Path) -> None:
    write(table.parent / "test.csv", "text,label\nt,A\n")
    corpus = CSVClassificationCorpus(table.parent, COLUMNS, "topic", skip_header=True, sample_missing_splits=False)
    assert str(corpus) == "Corpus: 5 train + 0 dev + 1 test sentences"
    assert corpus.name == "csv_corpus"
    assert not corpus.train.is_in_memory()
    assert rows(corpus.test) == [(["A"], "t")]
    write(table, "")
    write(table.parent / "test.csv", "")
    with pytest.raises(RuntimeError, match=r"No data provided .*'csv_corpus'"):
        CSVClassificationCorpus(table.parent, COLUMNS, "topic")


# --- MongoDB ---


class Collection:
    """As much of a collection as the reader uses: full-text search, and documents by key."""

    documents = ({"_id": 7, "body": "Good film.", "genre": "drama"}, {"_id": 9, "body": "No genre"})

    def find(self, query: dict[str, Any], projection: Any = None) -> list[dict[str, Any]]:
        assert query == {"$text": {"$search": "film"}}
        return [{"_id": document["_id"]} for document in self.documents]

    def find_one(self, query: dict[str, Any]) -> dict[str, Any]:
        return next(document for document in self.documents if document["_id"] == query["_id"])


@pytest.mark.parametrize("in_memory", [True, False])
def test_mongo(monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    client = type("pymongo", (), {"MongoClient": lambda host, port: {"db": {"films": Collection()}}})
    monkeypatch.setattr("flair.datasets.base.lazy_import", lambda group, module, symbol: client)
    data = MongoDataset("film", "localhost", 27017, "db", "films", "body", ["genre"], in_memory=in_memory)
    assert rows(data) == [(["drama"], "Good film."), ([], "No genre")]
    assert set(data[0].annotation_layers) == {"class"}
    assert data.is_in_memory() == in_memory
    assert data.indices == [7, 9]


def test_mongo_names_its_extra() -> None:
    try:
        import pymongo  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match=r"flair\[mongo\]"):
            MongoDataset("film", "localhost", 27017, "db", "films", "body")
    else:
        pytest.skip("pymongo is installed")
