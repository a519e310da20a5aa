"""Pages and text trees: escaped, complete, and readable."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flair.data import Dictionary, Sentence, Token
from flair.embeddings import FlairEmbeddings, HashEmbeddings, StackedEmbeddings
from flair.models import LanguageModel
from flair.splitter import SegtokSentenceSplitter
from flair.visual import Highlighter, Visualizer
from flair.visual.manifold import tSNE
from flair.visual.ner_html import HTML_PAGE, PARAGRAPH, TAGGED_ENTITY, render_ner_html, split_to_spans
from flair.visual.tree_printer import NodeToken, tree_printer


class Text(HTMLParser):
    """The text that a page shows, and its tags; raises where they are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "circle":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.text[tag] = self.text.get(tag, "") + data


def tagged() -> Sentence:
    sentence = Sentence('George Washington saw <Paris> & the "UN".')
    words = [token.text for token in sentence]
    sentence[0:2].add_label("ner", "PER")
    place = words.index("Paris")
    sentence[place : place + 1].add_label("ner", "<LOC>")
    return sentence


# --- entities ---


def test_pieces_of_a_sentence() -> None:
    pieces = [
        *(("George Washington", "PER"), (" saw <", None), ("Paris", "<LOC>")),
        ('> & the "UN".', None),
    ]
    assert split_to_spans(tagged()) == pieces
    assert split_to_spans(tagged(), "other") == [(tagged().text, None)]


def test_sentences_within_a_document() -> None:
    first, second = SegtokSentenceSplitter().split("It rained.  Anna  left Rome .")
    second[0:1].add_label("ner", "PER")
    assert split_to_spans(second) == [("Anna", "PER"), ("  left Rome .", None)]
    assert split_to_spans(first) == [("It rained.", None)]


def test_overlapping_entities_repeat_no_other_text() -> None:
    sentence = Sentence("New York City Hall opened")
    for start, end, label in ((0, 4, "FAC"), (1, 2, "X"), (0, 3, "LOC")):
        sentence[start:end].add_label("ner", label)
    assert split_to_spans(sentence) == [
        *(("New York City Hall", "FAC"), ("New York City", "LOC"), ("York", "X")),
        (" opened", None),
    ]


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1), min_size=1), st.data()
)
def test_pieces_are_the_whole_text(words: list[str], data: st.DataObject) -> None:
    sentence = Sentence(words)
    end = 0
    while end < len(sentence):
        start = data.draw(st.integers(end, len(sentence) - 1))
        end = data.draw(st.integers(start + 1, len(sentence)))
        sentence[start:end].add_label("ner", "A")
    assert "".join(text for text, _ in split_to_spans(sentence)) == sentence.to_original_text()


def test_the_page_shows_the_text_and_nothing_of_it_is_markup() -> None:
    page = render_ner_html([tagged(), tagged()], title="A <b>&")
    parsed = Text(page)
    assert parsed.text["title"] == "A <b>&"
    assert [tag for tag, _ in parsed.tags if tag == "p"] == ["p", "p"]
    assert parsed.text["mark"] == 2 * "George WashingtonPERParis<LOC>"
    assert parsed.text["p"] == 2 * 'George WashingtonPER saw <Paris<LOC>> & the "UN".'
    styles = [attributes["style"] or "" for tag, attributes in parsed.tags if tag == "mark"]
    assert "background: #F7FF53; color: #000;" in styles[0]
    assert "background: #ddd; color: #000;" in styles[1]


def test_paragraphs_alone_and_colours() -> None:
    parts = render_ner_html(tagged(), wrap_page=False, colors={"PER": "#00f"}, default_color="teal")
    assert parts.startswith("<p>")
    assert parts.endswith("</p>")
    assert "background: #00f; color: #fff;" in parts
    assert "background: teal; color: #000;" in parts
    assert render_ner_html([], wrap_page=False) == ""
    for template, names in ((TAGGED_ENTITY, "color entity label"), (PARAGRAPH, "sentence"), (HTML_PAGE, "text title")):
        assert sorted(set(re.findall(r"(?<!{){(\w+)}", template))) == names.split()


# --- trees ---


def parsed_sentence(words: str, heads: list[int | None], labels: str = "") -> Sentence:
    sentence = Sentence([Token(word, head_id=head) for word, head in zip(words.split(), heads, strict=True)])
    for token, label in zip(sentence, labels.split(), strict=False):
        token.add_label("dep", label)
    return sentence


def test_trees(capsys: pytest.CaptureFixture[str]) -> None:
    tree_printer(parsed_sentence("The cat sat on mats", [2, 3, 0, 5, 3], "det nsubj root case obl"), "dep")
    assert capsys.readouterr().out.splitlines() == [
        "sat(root)",
        "├── cat(nsubj)",
        "│   └── The(det)",
        "└── mats(obl)",
        "    └── on(case)",
    ]
    tree_printer(parsed_sentence("a b", [0, 0]), "dep")
    assert capsys.readouterr().out.splitlines() == ["a", "b"]
    sentence = parsed_sentence("a b", [0, 1], "x y")
    node, child = NodeToken(sentence[0], "dep"), NodeToken(sentence[1], "dep")
    child.set_haed(node)
    assert (str(node), node.children) == (" a(x) ", [child])


@pytest.mark.parametrize(("heads", "message"), [([2, 1], "each other's"), ([0, 7], "has head 7"), ([0, None], "None")])
def test_what_is_no_tree(heads: list[int | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tree_printer(parsed_sentence("a b", heads), "dep")


def test_a_tree_as_deep_as_a_long_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    tree_printer(parsed_sentence("x " * 1500, list(range(1500))), "dep")
    assert len(capsys.readouterr().out.splitlines()) == 1500


# --- activations ---


def test_highlighting() -> None:
    highlighter = Highlighter()
    assert len(highlighter.color_map) == 25
    parsed = Text(highlighter.highlight(torch.tensor([-2.0, 0.0, 1.0, 2.0]), "<b c"))
    assert parsed.text["span"] == "<b\xa0c"
    found = [re.findall(r"background-color: (#\w+)", str(attributes["style"]))[0] for _, attributes in parsed.tags]
    assert found == [highlighter.color_map[place] for place in (0, 12, 18, 24)]
    assert highlighter.color_map[12] == "#ffffff"
    flat = Text(highlighter.highlight(np.zeros(3), "abc"))
    assert all("#ffffff" in str(attributes["style"]) for _, attributes in flat.tags)
    with pytest.raises(ValueError, match="4 characters"):
        highlighter.highlight([1.0], "abcd")


def test_selection_of_dimensions(tmp_path: Path) -> None:
    file = tmp_path / "new" / "page.html"
    assert Highlighter().highlight_selection(torch.randn(5, 7), "a <b>", file, n=3) is None
    parsed = Text(file.read_text(encoding="utf-8"))
    assert parsed.text["h4"].count("dimension") == 3
    assert parsed.text["p"].count("a\xa0<b>") == 3
    Highlighter().highlight_selection(torch.randn(5, 7), "a <b>", file, n=30)
    assert file.read_text(encoding="utf-8").count("dimension") == 7
    with pytest.raises(ValueError, match="two axes"):
        Highlighter().highlight_selection(torch.randn(5), "a <b>", file)


# --- points ---


def flair_embeddings(forward: bool) -> FlairEmbeddings:
    characters = Dictionary()
    for character in "abcdefg \n":
        characters.add_item(character)
    return FlairEmbeddings(LanguageModel(characters, forward, hidden_size=4, nlayers=1, embedding_size=3).eval())


def test_points_of_words(tmp_path: Path) -> None:
    sentences = [Sentence("a bed"), Sentence("cab <i> fed bad dad"), Sentence("abc")]
    embeddings = HashEmbeddings(num_embeddings=10, embedding_length=4)
    X = Visualizer.prepare_word_embeddings(embeddings, sentences)
    contexts = Visualizer.word_contexts(sentences)
    assert X.shape == (len(contexts), 4)
    assert X.dtype == np.float32
    embeddings.embed(sentences)
    expected = torch.stack([token.embedding for sentence in sentences for token in sentence]).detach().numpy()
    assert np.allclose(X, expected, atol=1e-6)
    assert contexts[1] == '<p>a<b><font color="red"> bed </font></b></p>'
    Visualizer().visualize_word_emeddings(embeddings, sentences, tmp_path / "words.html")
    page = (tmp_path / "words.html").read_text(encoding="utf-8")
    assert page.count("<circle") == len(contexts)
    stored = json.loads(re.findall(r"const contexts = (.*);\n", page)[0])
    assert stored == contexts
    assert "&lt;" in stored[3]
    assert "</p>" not in re.findall(r"const contexts = (.*);\n", page)[0], "it would end the script"


@pytest.mark.parametrize("forward", [True, False])
def test_points_of_characters(tmp_path: Path, forward: bool) -> None:
    sentences = [Sentence("ab cd"), Sentence("fed")]
    embeddings = flair_embeddings(forward)
    X = Visualizer.prepare_char_embeddings(embeddings, sentences)
    assert X.shape == (8, 4)
    lm = embeddings.lm
    text = "ab cd" if forward else "dc ba"
    with torch.no_grad():
        states, _ = lm(torch.tensor(lm.indices("\n" + text)).view(-1, 1), lm.init_hidden(1), decode=False)
    expected = states[1:, 0] if forward else states[1:, 0].flip(0)
    assert np.allclose(X[:5], expected.numpy(), atol=1e-6)
    contexts = Visualizer.char_contexts(sentences)
    assert contexts[6] == 'f<span style="background-color: yellow"><b>e</b></span>d'
    stack = StackedEmbeddings([flair_embeddings(True), flair_embeddings(False)])
    assert Visualizer.prepare_char_embeddings(stack, sentences).shape == (8, 8)
    Visualizer().visualize_char_emeddings(stack, sentences, tmp_path / "c.html")
    assert (tmp_path / "c.html").read_text(encoding="utf-8").count("<circle") == 8
    with pytest.raises(ValueError, match="FlairEmbeddings"):
        Visualizer.prepare_char_embeddings(HashEmbeddings(), sentences)


def test_points_and_contexts_belong_together(tmp_path: Path) -> None:
    Visualizer.visualize(np.array([[1.0, 5.0], [1.0, 2.0]]), ["a", "b"], tmp_path / "p.html")
    places = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', (tmp_path / "p.html").read_text(encoding="utf-8"))
    assert float(places[0][1]) < float(places[1][1]), "higher values stand higher"
    with pytest.raises(ValueError, match="3 contexts"):
        Visualizer.visualize(np.zeros((2, 2)), ["a", "b", "c"], tmp_path / "p.html")
    with pytest.raises(ValueError, match="at least two"):
        tSNE().fit(np.zeros((1, 4)))
