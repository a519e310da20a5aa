"""Treebanks in CoNLL-U and CoNLL-U Plus."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flair.data import Sentence
from flair.datasets import UniversalDependenciesCorpus, UniversalDependenciesDataset

TREE = """# sent_id = 1
# text = I don't know.
1\tI\tI\tPRON\tPRP\tCase=Nom|Number=Sing\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\tMood=Ind\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tknow\tknow\tVERB\tVB\tVerbForm=Inf\t0\troot\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t4:punct\t_

# sent_id = 2
1\tSue\tSue\tPROPN\tNNP\t_\t2\tnsubj\t_\t_
2\tlikes\tlike\tVERB\tVBZ\t_\t0\troot\t_\t_
2.1\tlikes\tlike\tVERB\tVBZ\t_\t_\t_\t_\t_
3\ttea\t_\tNOUN\tNN\t_\t2\tobj\t_\t_
"""
PLUS = """# global.columns = ID FORM UPOS HEAD DEPREL PARSEME:MWE CUSTOM:NER
1\tA\tDET\t2\tdet\t*\tB-X
2\tB\tNOUN\t0\troot\t1:VID\tI-X
3\tC\tVERB\t2\tx\t1\tO

1\tD\tDET\t0\troot\t*\tB-Y
"""


@pytest.fixture(params=[True, False], ids=["memory", "disk"])
def in_memory(request: pytest.FixtureRequest) -> bool:
    return request.param


def read(folder: Path, content: str, **options: bool) -> list[Sentence]:
    path = folder / "train.conllu"
    path.write_text(content, encoding="utf-8")
    data = UniversalDependenciesDataset(path, **options)
    assert data.is_in_memory() is options.get("in_memory", True)
    assert len(data.sentences) == (len(data) if data.is_in_memory() else 0)
    assert len(data.indices) == (0 if data.is_in_memory() else len(data))
    return [data[i] for i in range(len(data))]


def tags(sentence: Sentence, label_type: str) -> list[str]:
    return [token.get_label(label_type).value for token in sentence]


def test_words_of_contractions(tmp_path: Path, in_memory: bool) -> None:
    one, two = read(tmp_path, TREE, in_memory=in_memory)
    assert one.to_original_text() == "I don't know."
    assert [token.text for token in one] == ["I", "do", "n't", "know", "."]
    assert [token.head_id for token in one] == [4, 4, 4, 0, 4]
    assert tags(one, "lemma") == ["I", "do", "not", "know", "."]
    assert tags(one, "upos") == ["PRON", "AUX", "PART", "VERB", "PUNCT"]
    assert tags(one, "pos") == ["PRP", "VBP", "RB", "VB", "."]
    assert tags(one, "dependency") == ["nsubj", "aux", "advmod", "root", "punct"]
    assert tags(one, "number") == ["Sing", "O", "O", "O", "O"]
    assert {"case", "mood", "verbform"} < set(one.annotation_layers)
    assert one.get_metadata("text") == "I don't know."
    assert two.to_original_text() == "Sue likes tea"
    assert tags(two, "lemma") == ["Sue", "like", "_"]
    assert two.previous_sentence() is None


def test_contractions_as_one_token(tmp_path: Path, in_memory: bool) -> None:
    one, _ = read(tmp_path, TREE, split_multiwords=False, in_memory=in_memory)
    assert one.to_original_text() == "I don't know."
    assert [token.text for token in one] == ["I", "don't", "know", "."]
    assert tags(one, "upos") == ["PRON", "O", "VERB", "PUNCT"]
    assert [token.head_id for token in one] == [3, None, 0, 3]
    assert one[0].get_head() is one[2]


@pytest.mark.parametrize("split", [True, False])
def test_a_contraction_without_space_behind(tmp_path: Path, split: bool) -> None:
    content = TREE.replace("don't\t_\t_\t_\t_\t_\t_\t_\t_", "don't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No")
    assert read(tmp_path, content, split_multiwords=split)[0].to_original_text() == "I don'tknow."


def test_words_that_do_not_spell_their_contraction(tmp_path: Path) -> None:
    content = "1-2\tzum" + "\t_" * 8 + "\n1\tzu" + "\t_" * 8 + "\n2\tdem" + "\t_" * 8 + "\n3\tHaus" + "\t_" * 8
    assert read(tmp_path, content)[0].to_original_text() == "zu dem Haus"
    assert read(tmp_path, content, split_multiwords=False)[0].to_original_text() == "zum Haus"


def test_further_columns(tmp_path: Path, in_memory: bool) -> None:
    one, two = read(tmp_path, PLUS, in_memory=in_memory)
    assert tags(one, "upos") == ["DET", "NOUN", "VERB"]
    assert tags(one, "mwe") == ["O", "1:VID", "1"]
    assert [(span.text, span.get_label("ner").value) for span in one.get_spans("ner")] == [("A B", "X")]
    assert [(span.text, span.get_label("ner").value) for span in two.get_spans("ner")] == [("D", "Y")]
    assert one.get_labels("lemma") == []
    assert [token.head_id for token in one] == [2, 0, 2]


WORD = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=3)


@given(groups=st.lists(st.tuples(st.lists(WORD, min_size=1, max_size=3), st.booleans()), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_both_ways_to_see_contractions_give_the_same_text(
    tmp_path_factory: pytest.TempPathFactory, groups: list[tuple[list[str], bool]]
) -> None:
    """Groups of words; several words in a group are a contraction."""
    lines, number, text = [], 1, ""
    for words, space in groups:
        misc = "_" if space else "SpaceAfter=No"
        whole = "".join(words)
        text += whole + (" " if space else "")
        if len(words) > 1:
            lines.append(f"{number}-{number + len(words) - 1}\t{whole}\t_\t_\t_\t_\t_\t_\t_\t{misc}")
        for word in words:
            lines.append(f"{number}\t{word}\tx\tX\tX\t_\t{number - 1}\tdep\t_\t{misc if len(words) == 1 else '_'}")
            number += 1
    folder = tmp_path_factory.mktemp("groups")
    (split,) = read(folder, "\n".join(lines), split_multiwords=True)
    (whole_tokens,) = read(folder, "\n".join(lines), split_multiwords=False)
    assert split.to_original_text() == whole_tokens.to_original_text() == text.rstrip(" ")
    assert [token.text for token in split] == [word for words, _ in groups for word in words]
    assert [token.text for token in whole_tokens] == ["".join(words) for words, _ in groups]
    assert [token.head_id for token in split] == list(range(number - 1))


def test_corpora(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        (tmp_path / f"en-ud-{split}.conllu").write_text(f"\n\n# only a comment\n\n{TREE}\n\n")
    corpus = UniversalDependenciesCorpus(tmp_path)
    assert str(corpus) == "Corpus: 2 train + 2 dev + 2 test sentences"
    assert corpus.name == str(tmp_path)
    assert corpus.make_label_dictionary("upos").has_item("PRON")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        UniversalDependenciesCorpus(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuntimeError, match="No data"):
        UniversalDependenciesCorpus(tmp_path / "empty")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\tA\tb\n", r"line 1: 3 columns, separated by tabs, where there should be 10"),
        (TREE.replace("\t4\tnsubj", "\tx\tnsubj"), r"line 3: the head must be 0 or the number of a word .* 'x'"),
        (TREE.replace("\t4\tnsubj", "\t9\tnsubj"), r"line 3: the head must be .* '9'"),
        (TREE.replace("2-3", "two"), r"line 4: 'two' is no number of a word"),
        ("\n# global.columns = ID UPOS\n", r"line 2: global\.columns lacks FORM"),
    ],
)
def test_malformed_files(tmp_path: Path, in_memory: bool, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"train\.conllu, {message}"):
        read(tmp_path, content, in_memory=in_memory)


def test_wrong_encoding(tmp_path: Path) -> None:
    (tmp_path / "train.conllu").write_bytes(TREE.replace("Sue", "Sü").encode("latin-1"))
    with pytest.raises(ValueError, match=r"train\.conllu, line 11: not valid utf-8"):
        UniversalDependenciesDataset(tmp_path / "train.conllu")
