"""Column files and JSON lines: what becomes a token, a label, a span; and what is refused."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flair.data import Sentence, get_spans_from_bio
from flair.datasets.sequence_labeling import (
    ColumnCorpus,
    ColumnDataset,
    JsonlCorpus,
    JsonlDataset,
    MultiFileColumnCorpus,
    MultiFileJsonlCorpus,
    bio_to_bioes,
    bioes_to_bio,
)
from flair.tokenization import SegtokTokenizer, SpaceTokenizer

NER = {0: "text", 1: "ner"}
CONLL = """-DOCSTART- -X- O

EU NNP B-ORG
rejects VBZ O
German JJ B-MISC
call NN O

Peter NNP B-PER
Blackburn NNP I-PER
"""


@pytest.fixture(params=[True, False], ids=["memory", "disk"])
def in_memory(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the package logs; its logger does not propagate."""
    logger = logging.getLogger("flair")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def dataset(folder: Path, content: str | bytes, columns: dict[int, str] | None = None, **options: Any) -> ColumnDataset:
    path = folder / "data.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ColumnDataset(path, columns or NER, **options)


def texts(data: Any) -> list[str]:
    return [data[i].to_original_text() for i in range(len(data))]


def spans(sentence: Sentence, label_type: str = "ner") -> list[tuple[str, str]]:
    return [(label.data_point.text, label.value) for label in sentence.get_labels(label_type)]


def tags(sentence: Sentence, label_type: str) -> list[str]:
    return [token.get_label(label_type).value for token in sentence]


# --- spans and token labels ---


def test_a_file_of_the_shared_task(tmp_path: Path, in_memory: bool) -> None:
    columns = {0: "text", 1: "pos", 2: "ner"}
    data = dataset(tmp_path, CONLL, columns, document_separator_token="-DOCSTART-", in_memory=in_memory)
    assert texts(data) == ["-DOCSTART-", "EU rejects German call", "Peter Blackburn"]
    assert [data[i].is_document_boundary for i in range(3)] == [True, False, False]
    assert tags(data[1], "pos") == ["NNP", "VBZ", "JJ", "NN"]
    assert spans(data[1]) == [("EU", "ORG"), ("German", "MISC")]
    assert spans(data[2]) == [("Peter Blackburn", "PER")]
    assert data.span_level_tag_columns == {2: "ner"}
    assert data.is_in_memory() is in_memory
    assert [token.text for token in data[2].left_context(3)] == ["rejects", "German", "call"]
    assert data[1].next_sentence() is not None
    assert data[1].previous_sentence().text == "-DOCSTART-"  # type: ignore[union-attr]
    assert data[-1].text == "Peter Blackburn"
    with pytest.raises(IndexError):
        data[3]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["O", "B-X", "I-X"], [("b c", "X")]),
        (["B-X", "E-X", "S-X"], [("a b", "X"), ("c", "X")]),
        (["I-X", "I-X", "I-Y"], [("a b", "X"), ("c", "Y")]),
        (["B-X-1", "I-X-1", "O"], [("a b", "X-1")]),
        (["X", "X", "O"], [("a", "X"), ("b", "X")]),
        (["O", "X", "B-Y"], [("b", "X"), ("c", "B-Y")]),
        (["_", "B-X", "O"], [("a", "_"), ("b", "B-X")]),
        (["U-X", "O", "O"], [("a", "U-X")]),
    ],
)
def test_the_first_value_tells_spans_from_token_labels(
    tmp_path: Path, in_memory: bool, values: list[str], expected: list[tuple[str, str]]
) -> None:
    outside = "x O\ny O\n\n" * 30
    lines = "\n".join(f"{word} {value}" for word, value in zip("abc", values, strict=True))
    data = dataset(tmp_path, outside + lines, in_memory=in_memory)
    assert spans(data[30]) == expected
    assert not data[0].labels


def test_several_columns(tmp_path: Path) -> None:
    data = dataset(tmp_path, "A B-X B-Y n\nB I-X O v\n", {0: "text", 1: "ner", 2: "ner", 3: "pos"})
    assert spans(data[0]) == [("A B", "X"), ("A", "Y")]
    assert tags(data[0], "pos") == ["n", "v"]
    reordered = dataset(tmp_path, "1 A x B-X\n2 B y z I-X\n", {1: "text", -1: "ner"})
    assert texts(reordered) == ["A B"]
    assert spans(reordered[0]) == [("A B", "X")]
    plain = dataset(tmp_path, "A x\nB y\n", {0: "word", 1: "pos"})
    assert texts(plain) == ["A B"]
    assert plain[0].get_labels("word") == []


def test_label_names(tmp_path: Path, in_memory: bool) -> None:
    names = {"X": "person name", "Y": "O", "NN": "noun", "noun": "other"}
    columns = {0: "text", 1: "ner", 2: "pos"}
    data = dataset(tmp_path, "A B-X NN\nB I-X O\nC B-Y Y\n", columns, label_name_map=names, in_memory=in_memory)
    assert spans(data[0]) == [("A B", "person name")]
    assert tags(data[0], "pos") == ["noun", "O", "O"]


def test_the_same_objects_on_every_access(tmp_path: Path) -> None:
    data = dataset(tmp_path, CONLL)
    assert data[0] is data[0]
    assert data.sentences[1] is data[1]
    found: list[Sentence] = []
    again = dataset(tmp_path, CONLL)
    threads = [threading.Thread(target=lambda: found.append(again[1])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(sentence) for sentence in found}) == 1
    on_disk = dataset(tmp_path, CONLL, in_memory=False)
    assert on_disk[0] is not on_disk[0]
    assert on_disk.sentences == []


TOKEN = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=4).filter(
    lambda word: not word.startswith("#") and word.split() == [word] and not any(c in "\x85\x1c\x1d\x1e" for c in word)
)
SENTENCES = st.lists(
    st.lists(st.tuples(TOKEN, st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"])), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
)


@given(sentences=SENTENCES, delimiter=st.sampled_from([r"\s+", "\t"]))
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[list[tuple[str, str]]], delimiter: str
) -> None:
    content = "\n\n".join("\n".join(f"{word}\t{tag}" for word, tag in rows) for rows in sentences)
    anchored = f"x\tB-X\n\n{content}\n"
    folder = tmp_path_factory.mktemp("written")
    for in_memory in (True, False):
        data = dataset(folder, anchored, column_delimiter=delimiter, in_memory=in_memory)
        assert len(data) == len(sentences) + 1
        for i, rows in enumerate(sentences, 1):
            assert [token.text for token in data[i]] == [word for word, _ in rows]
            expected = get_spans_from_bio([tag for _, tag in rows])
            found = [(span[0].idx - 1, span[-1].idx - 1, span.get_label("ner").value) for span in data[i].get_spans()]
            assert found == [(places[0], places[-1], label) for places, _, label in expected]


# --- spaces, heads, features ---


def test_spaces(tmp_path: Path, in_memory: bool) -> None:
    columns = {0: "text", 1: "ner", 2: "space-after"}
    data = dataset(tmp_path, "A B-X -\nB I-X +\nC O -\nD O +\n", columns, in_memory=in_memory)
    assert texts(data) == ["AB CD"]
    assert [token.start_position for token in data[0]] == [0, 1, 3, 4]
    assert spans(data[0]) == [("AB", "X")]
    joined = dataset(tmp_path, "日 O\n本 O\n", default_whitespace_after=0)
    assert texts(joined) == ["日本"]
    features = dataset(tmp_path, "A SpaceAfter=No\nB X=Y|SpaceAfter=No\nC _\n", {0: "text", 1: "misc"})
    assert texts(features) == ["ABC"]
    assert tags(features[0], "X") == ["O", "Y", "O"]


def test_heads_and_features(tmp_path: Path) -> None:
    data = dataset(
        tmp_path, "A 2 Number=Sing|Case=Nom x=y\nB 0 _ a:b|c=\n", {0: "text", 1: "head", 2: "feats", 3: "misc"}
    )
    assert [token.head_id for token in data[0]] == [2, 0]
    assert data[0][0].get_head() is data[0][1]
    assert {name: tags(data[0], name) for name in ("Number", "Case", "x")} == {
        "Number": ["Sing", "O"],
        "Case": ["Nom", "O"],
        "x": ["y", "O"],
    }
    assert set(data[0].annotation_layers) == {"Number", "Case", "x"}
    assert data.head_id_column == 1


def test_labels_of_a_token_are_in_the_order_of_the_columns(tmp_path: Path) -> None:
    data = dataset(tmp_path, "A N Case=Nom D\n", {0: "text", 1: "pos", 2: "feats", 3: "dep"})
    assert [label.value for label in data[0][0].labels] == ["N", "Nom", "D"]


# --- comments and relations ---

RELATED = """# id = 17
# relations = 1;2;4;4;founder|4;4;1;2;founded by
Larry B-PER
Page I-PER
founded O
Google B-ORG
"""


def test_relations(tmp_path: Path, in_memory: bool) -> None:
    data = dataset(tmp_path, RELATED, comment_symbol="# ", in_memory=in_memory)
    found = [(r.first.text, r.second.text, r.tag) for r in data[0].get_relations("relation")]
    assert sorted(found) == [("Google", "Larry Page", "founded by"), ("Larry Page", "Google", "founder")]
    assert data[0].get_metadata("# id ") == " 17"
    renamed = dataset(tmp_path, RELATED, comment_symbol="# ", label_name_map={"founder": "O", "founded by": "by"})
    assert [r.tag for r in renamed[0].get_relations("relation")] == ["by"]


def test_comments_are_no_sentences(tmp_path: Path, in_memory: bool) -> None:
    content = "# first\n\nA O\n# between\nB O\n\n# alone\n\n#x O\n\n# last"
    data = dataset(tmp_path, content, comment_symbol="# ", in_memory=in_memory)
    assert texts(data) == ["A B", "#x"]
    assert texts(dataset(tmp_path, "#x O\nA O\n", in_memory=in_memory)) == ["#x A"]


# --- documents, choice of sentences ---


def test_documents(tmp_path: Path, in_memory: bool) -> None:
    content = "A B-X\n\nB O\n--- O\n\nC O\n\nD B-X\n"
    options: dict[str, Any] = {"document_separator_token": "---", "in_memory": in_memory}
    whole = dataset(tmp_path, content, documents_as_sentences=True, **options)
    assert texts(whole) == ["A B ---", "C D"]
    assert spans(whole[0]) + spans(whole[1]) == [("A", "X"), ("D", "X")]
    assert all(whole[i].is_document_boundary for i in range(2))
    alone = dataset(tmp_path, content, every_sentence_is_independent=True, in_memory=in_memory)
    assert len(alone) == 4
    assert all(alone[i].is_document_boundary for i in range(4))
    assert alone[1].left_context(5) == []


def test_first_line_and_banned_texts(tmp_path: Path, in_memory: bool) -> None:
    content = "word tag\nA B-X\nB O\n\nC O\n\nD O\nA O\n"
    assert texts(dataset(tmp_path, content, skip_first_line=True, in_memory=in_memory)) == ["A B", "C", "D A"]
    banned = dataset(tmp_path, content, skip_first_line=True, banned_sentences=["B", "D A"], in_memory=in_memory)
    assert texts(banned) == ["C"]


def test_another_tokenizer(tmp_path: Path, in_memory: bool) -> None:
    (tmp_path / "train.txt").write_text("can't B-X\ngo. O\n")
    tokenizer = SegtokTokenizer()
    corpus = ColumnCorpus(tmp_path, NER, use_tokenizer=tokenizer, in_memory=in_memory, sample_missing_splits=False)
    sentence = corpus.train[0]  # type: ignore[index]
    assert [token.text for token in sentence] == ["ca", "n't", "go", "."]
    assert spans(sentence) == [("can't", "X")]
    assert corpus.tokenizer is tokenizer is corpus.corpus_tokenizer
    assert ColumnCorpus(tmp_path, NER, sample_missing_splits=False).corpus_tokenizer is None


# --- what files look like ---


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_and_line_endings(tmp_path: Path, in_memory: bool, encoding: str, ending: str) -> None:
    content = ending.join(["", "Ä B-X", "b I-X ", " \t", "c O", "", ""]).encode(encoding)
    data = dataset(tmp_path, content, encoding=encoding, in_memory=in_memory)
    assert texts(data) == ["Ä b", "c"]
    assert spans(data[0]) == [("Ä b", "X")]


@pytest.mark.parametrize(
    ("delimiter", "line"),
    [("\t", "New York\tB-X"), (",", "New York,B-X"), (r"\|", "New York|B-X"), ("::?", "New York:B-X")],
)
def test_delimiters(tmp_path: Path, in_memory: bool, delimiter: str, line: str) -> None:
    data = dataset(tmp_path, line, column_delimiter=delimiter, in_memory=in_memory)
    assert spans(data[0]) == [("New York", "X")]
    assert len(data[0]) == 1


def test_a_token_of_white_space_is_left_out(tmp_path: Path, in_memory: bool) -> None:
    data = dataset(tmp_path, "A B-X\n\u00a0 I-X\nB I-X\n\n\u00a0 O\n", in_memory=in_memory)
    assert texts(data) == ["A B"]
    assert spans(data[0]) == [("A B", "X")]


def test_lines_without_label(tmp_path: Path, in_memory: bool, logged: pytest.LogCaptureFixture) -> None:
    data = dataset(tmp_path, "A B-X\nB I-X\nC\n\nD\n", in_memory=in_memory)
    assert spans(data[0]) == [("A B", "X")]
    assert "2 lines, the first of them line 3, have no column 1 ('ner')" in logged.text
    assert len(data[1]) == 1


def test_tags_without_prefix_among_spans(tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    data = dataset(tmp_path, "A B-X\nB Q\n\nC Q\n")
    assert spans(data[0]) == [("A B", "X")]
    assert spans(data[1]) == []
    assert "do not begin with B-, I-, S-, E-: Q" in logged.text


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("A O\nB O\n\nC x O\n", {"column_name_map": {2: "text"}}, r"data\.txt, line 1: the line has 2 columns"),
        ("A O x\nB\n", {"column_name_map": {1: "text"}}, r"data\.txt, line 2: .*column 1"),
        ("A O\n\nB O\n\u00c4 O\n".encode("latin-1"), {}, r"data\.txt, line 4: not valid utf-8"),
        (b"PK\x03\x04\x00\x00", {}, r"data\.txt, line 1: zero bytes"),
        ("A 2\nB one\n", {"column_name_map": {0: "text", 1: "head"}}, r"data\.txt, line 2: .*'one'"),
        ("A O\n\n# relations = 1;1;2;2;x\nB O\n", {"comment_symbol": "#"}, r"data\.txt, line 3: '1;1;2;2;x' is no"),
        ("# relations = 1;1;1;x\nB O\n", {"comment_symbol": "#"}, r"data\.txt, line 1: '1;1;1;x' is no relation"),
        ("A|O\n", {"column_delimiter": "|"}, r"write '\\\\\|'"),
        ("A|O\n", {"column_delimiter": "("}, "no regular expression"),
    ],
)
def test_malformed_files(
    tmp_path: Path, in_memory: bool, content: str | bytes, options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        ColumnDataset(path, **{"column_name_map": NER, "in_memory": in_memory, **options})


def test_column_numbers_are_numbers(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'text': column numbers are int"):
        dataset(tmp_path, "A O\n", {"text": 0, "ner": 1})  # type: ignore[dict-item]


# --- corpora ---


def files(folder: Path, **contents: str) -> None:
    for name, content in contents.items():
        (folder / f"{name}.txt").write_text(content)


def test_folders(tmp_path: Path) -> None:
    files(tmp_path, train="A B-X\n\n" * 9, dev="B O\n", testb="C O\n")
    corpus = ColumnCorpus(str(tmp_path), NER)
    assert str(corpus) == "Corpus: 9 train + 1 dev + 1 test sentences"
    assert corpus.name == str(tmp_path)
    assert corpus.make_label_dictionary("ner").get_items() == ["<unk>", "X"]
    named = ColumnCorpus(tmp_path, NER, train_file="dev.txt", name="mine", sample_missing_splits=False)
    assert str(named) == "Corpus: 1 train + 0 dev + 0 test sentences"
    assert named.name == "mine"
    both = MultiFileColumnCorpus(
        NER, train_files=[tmp_path / "train.txt", tmp_path / "dev.txt"], test_files=str(tmp_path / "testb.txt")
    )
    assert str(both) == "Corpus: 9 train + 1 dev + 1 test sentences"


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ColumnCorpus(tmp_path / "nowhere", NER)
    files(tmp_path, some="A O\n", empty="")
    with pytest.raises(FileNotFoundError, match=r"The folder has: empty\.txt, some\.txt"):
        ColumnCorpus(tmp_path, NER)
    with pytest.raises(FileNotFoundError, match=r"other\.txt"):
        MultiFileColumnCorpus(NER, train_files=[tmp_path / "other.txt"])
    with pytest.raises(RuntimeError, match="No data"):
        ColumnCorpus(tmp_path, NER, train_file="empty.txt")


# --- BIO and BIOES ---


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["PER", "A-B"])), max_size=5))
def test_tag_schemes_say_the_same(parts: list[tuple[int, int, str]]) -> None:
    bio: list[str] = []
    for gap, length, label in parts:
        bio += ["O"] * gap + [f"B-{label}"] + [f"I-{label}"] * (length - 1)
    bioes = bio_to_bioes(bio)
    assert bioes_to_bio(bioes) == bio
    assert bio_to_bioes(bioes) == bioes
    assert get_spans_from_bio(list(bioes)) == get_spans_from_bio(list(bio))
    lengths = [length for _, length, _ in parts]
    assert sum(tag.startswith("S-") for tag in bioes) == lengths.count(1)
    assert sum(tag.startswith("E-") for tag in bioes) == sum(length > 1 for length in lengths)


def test_tag_schemes_by_example() -> None:
    assert bio_to_bioes(["I-X", "I-X", "I-Y", "O", "B-X"]) == ["B-X", "E-X", "S-Y", "O", "S-X"]
    assert bioes_to_bio(["S-X", "S-X", "B-Y", "I-Y", "E-Y", "O"]) == ["B-X", "B-X", "B-Y", "I-Y", "I-Y", "O"]


# --- JSON lines ---


def lines(*objects: Any) -> str:
    return "".join(json.dumps(item) + "\n" for item in objects)


WASHINGTON = {"data": "George Washington went to Paris.", "label": [[0, 17, "PER"], [26, 31, "LOC"]]}


def jsonl(folder: Path, content: str, **options: Any) -> JsonlDataset:
    path = folder / "data.jsonl"
    path.write_text(content, encoding="utf-8")
    return JsonlDataset(path, **options)


def test_json_lines(tmp_path: Path) -> None:
    noted = {"data": "x y", "label": [], "metadata": [["id", "1"], ["n", 2]]}
    data = jsonl(tmp_path, lines(WASHINGTON) + "\n" + lines(noted, {**noted, "metadata": {"id": "3"}}))
    assert len(data) == 3
    assert spans(data[0]) == [("George Washington", "PER"), ("Paris", "LOC")]
    assert [data[1].get_metadata("id"), data[1].get_metadata("n"), data[2].get_metadata("id")] == ["1", 2, "3"]
    assert data.is_in_memory()
    other = jsonl(
        tmp_path,
        lines({"t": "a.b c", "l": [[0, 3, "X"]]}),
        text_column_name="t",
        label_column_name="l",
        label_type="other",
        use_tokenizer=SpaceTokenizer(),
    )
    assert spans(other[0], "other") == [("a.b", "X")]


def test_labels_that_cut_through_tokens_take_them_whole(tmp_path: Path) -> None:
    data = jsonl(tmp_path, lines({"data": "Abc def ghi", "label": [[1, 6, "X"], [0, 4, "Y"], [3, 7, "Z"]]}))
    assert sorted(spans(data[0])) == [("Abc", "Y"), ("Abc def", "X"), ("def", "Z")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": \n', r"data\.jsonl, line 1: no JSON"),
        ("[1, 2]\n", r"line 1: expected an object with the text under 'data', found list"),
        (lines(WASHINGTON, {"text": "a", "label": []}), r"line 2: .*an object with text, label"),
        (lines({"data": "a"}), r"line 1: the object has no 'label'"),
        (lines({"data": "abc", "label": [[5, 9, "X"]]}), r'line 1: \[5, 9, "X"\] is no label .*3 characters'),
        (lines({"data": "abc", "label": [{"start": 0}]}), r"line 1: .*is no label"),
        (lines({"data": "abc", "label": [], "metadata": [1]}), r"line 1: 'metadata' must be an object or a list"),
    ],
)
def test_malformed_json_lines(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jsonl(tmp_path, content)


def test_json_corpora(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.jsonl").write_text(lines(WASHINGTON) * 2)
    corpus = JsonlCorpus(tmp_path)
    assert str(corpus) == "Corpus: 2 train + 2 dev + 2 test sentences"
    assert corpus.name == str(tmp_path)
    both = MultiFileJsonlCorpus(train_files=[tmp_path / "train.jsonl", tmp_path / "dev.jsonl"], dev_files=None)
    assert len(both.get_all_sentences()) == 4
    with pytest.raises(RuntimeError, match="No data"):
        MultiFileJsonlCorpus()
