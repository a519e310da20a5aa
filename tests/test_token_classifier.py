"""TokenClassifier: labels of tokens and spans, prediction, evaluation, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import flair
from flair.data import Dictionary, Sentence
from flair.embeddings import StackedEmbeddings, TransformerWordEmbeddings, WordEmbeddings
from flair.models import SequenceTagger, TokenClassifier, WordTagger
from flair.models.sequence_tagger_utils import tags
from flair.nn import Classifier, Model
from tests.embeddings.tiny_transformers import make_model_folder

WORDS = ["the", "cat", "sat", "on", "mat", "in", "Berlin", "and", "Paris", "Peter", "Smith", "."]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("bert"), "bert")


def words(**options: Any) -> WordEmbeddings:
    made = WordEmbeddings(None, vocab={w: i for i, w in enumerate(WORDS)}, embedding_length=5, name="words", **options)
    torch.manual_seed(0)
    made.embedding.weight.data[:-1].normal_()
    return made


def labels(*names: str, spans: bool = False, unk: bool = False) -> Dictionary:
    made = Dictionary(add_unk=unk)
    for name in names:
        made.add_item(name)
    made.span_labels = spans
    return made


SPANS: dict[str, Any] = {"label_dictionary": labels("PER", "LOC", spans=True), "label_type": "ner"}
TOKENS: dict[str, Any] = {"label_dictionary": labels("NOUN", "VERB"), "label_type": "pos"}
VARIANTS = {
    "spans": SPANS,
    "BIO spans": {**SPANS, "span_encoding": "bio"},
    "tokens": TOKENS,
    "unknown tokens": {"label_dictionary": labels("NOUN", unk=True), "label_type": "pos"},
    "several labels": {**TOKENS, "multi_label": True, "multi_label_threshold": 0.4},
    "weights": {**SPANS, "loss_weights": {"S-LOC": 3.0}, "dropout": 0.1, "word_dropout": 0.1, "locked_dropout": 0.1},
}


@pytest.fixture(params=VARIANTS)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return VARIANTS[request.param]


def classifier(embeddings: Any = None, cls: type[TokenClassifier] = TokenClassifier, **options: Any) -> TokenClassifier:
    made = words() if embeddings is None else embeddings
    torch.manual_seed(1)
    return cls(made, **(options or SPANS))


def sentences() -> list[Sentence]:
    one, two = Sentence("the cat sat in Berlin ."), Sentence("Peter Smith sat")
    one[4:5].add_label("ner", "LOC")
    two[0:2].add_label("ner", "PER")
    for sentence in (one, two):
        for token in sentence:
            token.add_label("pos", "VERB" if token.text == "sat" else "NOUN")
    return [two, Sentence([]), one]


def predicted(model: TokenClassifier, data: list[Sentence] | None = None) -> list[list[tuple[str, str, float]]]:
    data = sentences() if data is None else data
    model.predict(data, label_name="p")
    return [[(lb.unlabeled_identifier, lb.value, lb.score) for lb in s.get_labels("p")] for s in data]


# --- labels ---


def test_tags_of_spans() -> None:
    assert classifier().label_dictionary.get_items() == [
        "O",
        *("S-PER", "B-PER", "E-PER", "I-PER"),
        *("S-LOC", "B-LOC", "E-LOC", "I-LOC"),
    ]
    bio = classifier(**VARIANTS["BIO spans"])
    assert bio.label_dictionary.get_items() == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    assert bio.span_encoding == "BIO"
    assert bio.span_prediction_problem
    plain = classifier(**TOKENS)
    assert plain.label_dictionary.get_items() == ["NOUN", "VERB"]
    assert not plain.span_prediction_problem
    with pytest.raises(AssertionError, match="IOB"):
        classifier(**SPANS, span_encoding="IOB")
    with pytest.raises(ValueError, match="multi_label"):
        classifier(**SPANS, multi_label=True)


@pytest.mark.parametrize("encoding", ["BIOES", "BIO"])
def test_gold_tags_do_not_change_the_sentence(encoding: str) -> None:
    model = classifier(**SPANS, span_encoding=encoding)
    for sentence in sentences():
        before = str(sentence)
        gold = [model._get_label_of_datapoint(token)[0] for token in sentence]
        assert gold == tags.span_tags(sentence, "ner", encoding)
        model.forward_loss([sentence])
        assert str(sentence) == before


def test_where_spans_overlap_the_later_one_counts() -> None:
    sentence = Sentence("a b c d")
    sentence[0:3].add_label("ner", "PER")
    sentence[1:4].add_label("ner", "LOC")
    for encoding in ("BIOES", "BIO"):
        expected = tags.span_tags(sentence, "ner", encoding)
        assert [tags.span_tag(token, "ner", encoding) for token in sentence] == expected
        assert expected[:2] == ["B-PER", "B-LOC"]


# --- training and prediction ---


def test_learns(options: dict[str, Any]) -> None:
    model = classifier(words(fine_tune=True), **options)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss, count = model.forward_loss(sentences())
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert count == 9
    assert losses[-1] < 0.3 * losses[0]
    if options["label_dictionary"].add_unk:
        return  # "VERB" is unknown, so gold and prediction differ
    data = sentences()
    result = model.evaluate(data, gold_label_type=model.label_type)
    assert result.main_score == 1.0
    gold = [(lb.unlabeled_identifier, lb.value) for s in data for lb in s.get_labels(model.label_type)]
    assert [(name, value) for row in predicted(model, data) for name, value, _ in row] == gold


def test_padding_and_batches_do_not_matter(options: dict[str, Any]) -> None:
    model = classifier(StackedEmbeddings([words(), words()]), **options).eval()
    together = model.forward_loss(sentences())
    alone = [model.forward_loss([sentence]) for sentence in sentences() if len(sentence)]
    assert together[1] == sum(count for _, count in alone) == 9
    assert float(together[0]) == pytest.approx(sum(float(loss) for loss, _ in alone), rel=1e-5)
    one = predicted(model)
    data = sentences()
    model.predict(data, label_name="p", mini_batch_size=1, embedding_storage_mode="cpu")
    two = [[(lb.unlabeled_identifier, lb.value) for lb in s.get_labels("p")] for s in data]
    assert [[row[:2] for row in rows] for rows in one] == two
    assert all(token.get_embedding().numel() == 10 for sentence in data for token in sentence)


def test_tensor_road_and_object_road_agree(bert: Path) -> None:
    class Hooked(TokenClassifier):
        calls = 0

        def _get_embedding_for_data_point(self, prediction_data_point: Any) -> torch.Tensor:
            type(self).calls += 1
            return super()._get_embedding_for_data_point(prediction_data_point)

    for options in (SPANS, {**TOKENS, "train_on_gold_pairs_only": True}):
        flair.set_seed(1)
        plain = classifier(TransformerWordEmbeddings(str(bert)), **options).eval()
        hooked = classifier(TransformerWordEmbeddings(str(bert)), cls=Hooked, **options).eval()
        hooked.load_state_dict(plain.state_dict())
        partly = sentences()
        partly[0][1].remove_labels("pos")
        losses = [float(model.forward_loss(partly)[0].detach()) for model in (plain, hooked)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        assert [[row[:2] for row in rows] for rows in predicted(plain)] == [
            [row[:2] for row in rows] for rows in predicted(hooked)
        ]
    assert Hooked.calls > 0


def test_all_scores(options: dict[str, Any]) -> None:
    model = classifier(**options).eval()
    data = sentences()
    model.predict(data, label_name="p", return_probabilities_for_all_classes=True)
    for token in data[0]:
        rows = token.get_tags_proba_dist("p") if model.span_prediction_problem else token.get_labels("p")
        assert [row.value for row in rows] == model.label_dictionary.get_items()
        if not model.multi_label:
            assert sum(row.score for row in rows) == pytest.approx(1.0, abs=1e-5)


def test_predictions_replace_older_ones(options: dict[str, Any]) -> None:
    model = classifier(**options)
    assert model.training
    data = sentences()
    first = predicted(model, data)
    assert predicted(model, data) == first
    assert model.training
    model.predict(data)
    own = [[(lb.unlabeled_identifier, lb.value, lb.score) for lb in s.get_labels(model.label_type)] for s in data]
    assert own == first


def test_inputs_that_hold_nothing() -> None:
    model = classifier()
    empty = Sentence([])
    assert model.predict([empty]) == [empty]
    loss, count = model.forward_loss([empty])
    assert (float(loss.detach()), count) == (0.0, 1)
    with pytest.raises(AttributeError, match="Sentence"):
        model.predict("text")  # type: ignore[arg-type]


def test_loss_of_labels_outside_the_dictionary() -> None:
    model = classifier()
    sentence = Sentence("the cat")
    sentence[0:2].add_label("ner", "ORG")
    with pytest.raises(IndexError, match="B-ORG"):
        model.forward_loss([sentence])
    assert model.predict([sentence, *sentences()], label_name="p", return_loss=True)[1] == 9


def test_prediction_file(tmp_path: Path) -> None:
    model = classifier()
    data = sentences()[:1]
    model.evaluate(data, "ner", out_path=tmp_path / "out.tsv")
    data[0].remove_labels("predicted")
    data[0][1:3].add_label("predicted", "LOC")
    assert model._print_predictions(data, "ner") == ["Peter B-PER O\n", "Smith I-PER B-LOC\n", "sat O I-LOC\n", "\n"]
    assert data[0][1].get_label("predicted_bio").value == "B-LOC"
    assert [line.split()[:2] for line in (tmp_path / "out.tsv").read_text().splitlines()[:3]] == [
        ["Peter", "B-PER"],
        ["Smith", "I-PER"],
        ["sat", "O"],
    ]
    plain = classifier(**TOKENS)
    plain.evaluate(data, "pos", out_path=tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_text().startswith("Peter NOUN ")


def test_agrees_with_a_tagger_of_the_same_weights() -> None:
    """A tagger without CRF, network and projection computes the same thing."""
    model = classifier().eval()
    tagger = SequenceTagger(
        words(),
        tag_dictionary=labels("PER", "LOC", spans=True),
        tag_type="ner",
        use_crf=False,
        use_rnn=False,
        reproject_embeddings=False,
    ).eval()
    tagger.linear.load_state_dict(model.decoder.state_dict())
    assert float(model.forward_loss(sentences())[0]) == pytest.approx(float(tagger.forward_loss(sentences())[0]))
    data = sentences()
    tagger.predict(data, label_name="p")
    found = [[(lb.unlabeled_identifier, lb.value) for lb in s.get_labels("p")] for s in data]
    assert [[row[:2] for row in rows] for rows in predicted(model)] == found


# --- files ---


def equal(model: Model, other: Model) -> None:
    ours, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        assert parameter.dtype == theirs[name].dtype, name
        assert torch.equal(parameter, theirs[name]), name
        assert parameter.requires_grad == theirs[name].requires_grad, name


@pytest.mark.parametrize("target", ["model.pt", "model"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_files(tmp_path: Path, options: dict[str, Any], target: str, dtype: str) -> None:
    model = classifier(**options).to(getattr(torch, dtype)).eval()
    model.save(tmp_path / target)
    for loaded in (TokenClassifier.load(tmp_path / target), Classifier.load(tmp_path / target)):
        assert type(loaded) is TokenClassifier
        equal(model, loaded)
        assert predicted(loaded) == predicted(model)
        assert loaded.label_dictionary == model.label_dictionary
        for name in ("span_prediction_problem", "label_type", "multi_label", "weight_dict", "multi_label_threshold"):
            assert getattr(loaded, name) == getattr(model, name), name
        if model.span_prediction_problem:
            assert loaded.span_encoding == model.span_encoding
        assert float(loaded.forward_loss(sentences())[0]) == float(model.forward_loss(sentences())[0])


@pytest.mark.parametrize("form", [".pt", "folder", "adapters only"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("variant", ["spans", "tokens"])
def test_files_with_adapters(bert: Path, tmp_path: Path, form: str, dtype: str, variant: str) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    embeddings = TransformerWordEmbeddings(str(bert), peft_config=config, dtype=dtype)
    model = classifier(embeddings, **VARIANTS[variant])
    model.forward_loss(sentences())[0].backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    path = tmp_path / ("model" if form == "folder" else "model.pt")
    model.save(path, adapters_only=form == "adapters only")
    loaded = TokenClassifier.load(path)
    equal(model, loaded)
    assert any("lora_A" in name for name, _ in loaded.named_parameters())
    assert predicted(loaded) == predicted(model)


def test_loading_in_another_type(tmp_path: Path) -> None:
    classifier().save(tmp_path / "model.pt")
    loaded = TokenClassifier.load(tmp_path / "model.pt", dtype="bfloat16")
    assert loaded.decoder.weight.dtype == torch.bfloat16
    assert len(predicted(loaded)) == 3


def test_the_former_name(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="TokenClassifier"):
        model = classifier(cls=WordTagger)
    model.save(tmp_path / "model.pt")
    with pytest.warns(DeprecationWarning, match="TokenClassifier"):
        assert type(Classifier.load(tmp_path / "model.pt")) is WordTagger
    loaded = TokenClassifier.load(tmp_path / "model.pt")
    equal(model, loaded)
