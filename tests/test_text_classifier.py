"""TextClassifier: losses, predictions, evaluation, saving and loading."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

import flair
from flair.checkpoint import CheckpointError
from flair.data import Corpus, Dictionary, Sentence
from flair.datasets import FlairDatapointDataset
from flair.embeddings import TransformerDocumentEmbeddings
from flair.models import TextClassifier
from flair.nn import Classifier, Model, PrototypicalDecoder
from flair.nn.evaluation import LabelTable, classification_result
from tests.embeddings.tiny_transformers import make_model_folder

TEXTS = ["the quick brown fox", "berlin is the capital of germany", "what a terrible waste of time", "i love it"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("bert"), "bert")


def labels(*names: str, add_unk: bool = False) -> Dictionary:
    dictionary = Dictionary(add_unk=add_unk)
    for name in names:
        dictionary.add_item(name)
    return dictionary


def classifier(folder: Path, *, seed: int = 1, embedding: dict | None = None, **options) -> TextClassifier:
    flair.set_seed(seed)
    options.setdefault("label_dictionary", labels("A", "B", "C"))
    embeddings = TransformerDocumentEmbeddings(str(folder), **{"fine_tune": True, **(embedding or {})})
    return TextClassifier(embeddings, label_type="topic", **options)


def sentences() -> list[Sentence]:
    return [Sentence(text).add_label("topic", "ABC"[i % 3]) for i, text in enumerate(TEXTS)]


def scores_of(model: Classifier, texts: list[str] = TEXTS) -> list[list[tuple[str, float]]]:
    points = [Sentence(text) for text in texts]
    model.predict(points, label_name="p", return_probabilities_for_all_classes=True)
    return [[(label.value, label.score) for label in point.get_labels("p")] for point in points]


def test_loss_is_summed_over_the_batch(bert: Path) -> None:
    model = classifier(bert).eval()
    total, count = model.forward_loss(sentences())
    singles = [model.forward_loss([sentence])[0] for sentence in sentences()]
    assert count == len(TEXTS)
    assert float(total.detach()) == pytest.approx(sum(float(loss.detach()) for loss in singles), rel=1e-5)


def test_empty_sentences_are_left_out(bert: Path) -> None:
    model = classifier(bert)
    loss, count = model.forward_loss([Sentence("")])
    assert (float(loss.detach()), count) == (0.0, 1)
    assert loss.requires_grad
    empty = Sentence("")
    assert model.predict([empty]) == [empty]
    mixed = [Sentence(""), Sentence("a dog")]
    assert model.predict(mixed) is None
    assert [len(point.get_labels("topic")) for point in mixed] == [0, 1]


def test_predict_replaces_labels_and_keeps_the_mode(bert: Path) -> None:
    model = classifier(bert, dropout=0.5)
    assert model.training
    first, second = scores_of(model), scores_of(model)
    assert first == second, "dropout must be off while predicting"
    assert model.training
    sentence = Sentence("a fox")
    model.predict(sentence)
    model.predict(sentence)
    assert len(sentence.get_labels("topic")) == 1


def test_predict_returns_loss(bert: Path) -> None:
    model = classifier(bert).eval()
    loss, count = model.predict(sentences(), label_name="p", return_loss=True)
    assert count == len(TEXTS)
    assert float(loss) == pytest.approx(float(model.forward_loss(sentences())[0].detach()), rel=1e-5)


def test_embeddings_stay_only_when_asked_for(bert: Path) -> None:
    model = classifier(bert)
    point = Sentence("a lazy dog")
    model.predict(point)
    assert point.get_embedding().numel() == 0
    model.predict(point, embedding_storage_mode="cpu")
    assert point.get_embedding().shape == (16,)


def test_tensor_road_and_object_road_agree(bert: Path) -> None:
    class Doubled(TextClassifier):
        """A model in the released style: it overrides the hook for one data point."""

        calls = 0

        def _get_embedding_for_data_point(self, prediction_data_point: Sentence) -> torch.Tensor:
            type(self).calls += 1
            return super()._get_embedding_for_data_point(prediction_data_point)

    plain = classifier(bert)
    flair.set_seed(1)
    hooked = Doubled(
        TransformerDocumentEmbeddings(str(bert), fine_tune=True),
        label_type="topic",
        label_dictionary=labels("A", "B", "C"),
    )
    hooked.load_state_dict(plain.state_dict())
    for ours, theirs in zip(scores_of(plain), scores_of(hooked), strict=True):
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-6)
    assert Doubled.calls == len(TEXTS)


def test_multi_label(bert: Path) -> None:
    model = classifier(bert, multi_label=True, multi_label_threshold={"default": 1.0, "B": 0.0})
    points = [Sentence(text) for text in TEXTS]
    model.predict(points)
    assert all([label.value for label in point.get_labels("topic")] == ["B"] for point in points)
    both = Sentence("x").add_label("topic", "A").add_label("topic", "C")
    assert model._get_label_of_datapoint(both) == ["A", "C"]
    assert model._prepare_label_tensor([both]).tolist() == [[1.0, 0.0, 1.0]]
    with pytest.raises(ValueError, match="default"):
        model.multi_label_threshold = {"A": 0.3}


def test_loss_weights(bert: Path) -> None:
    heavy = classifier(bert, loss_weights={"A": 3.0}).eval()
    light = classifier(bert).eval()
    point = [Sentence(TEXTS[0]).add_label("topic", "A")]
    assert float(heavy.forward_loss(point)[0].detach()) == pytest.approx(
        3 * float(light.forward_loss(point)[0].detach()), rel=1e-5
    )
    assert heavy.loss_weights is not None
    assert heavy.loss_weights.tolist() == [3.0, 1.0, 1.0]


def test_gold_pairs_only(bert: Path) -> None:
    model = classifier(bert, train_on_gold_pairs_only=True).eval()
    loss, count = model.forward_loss([sentences()[0], Sentence("no label here")])
    assert count == 1
    assert float(loss.detach()) == pytest.approx(float(model.forward_loss(sentences()[:1])[0].detach()), rel=1e-5)


def test_inverse_model_negates_the_gradient(bert: Path) -> None:
    gradients = []
    for inverse in (False, True):
        model = classifier(bert, inverse_model=inverse).train()
        model.forward_loss(sentences())[0].backward()
        gradients.append((next(model.embeddings.parameters()).grad, model.decoder.weight.grad))
    assert torch.allclose(gradients[0][0], -gradients[1][0], atol=1e-6)
    assert torch.allclose(gradients[0][1], gradients[1][1], atol=1e-6)


def test_outside_label_is_never_written(bert: Path) -> None:
    model = classifier(bert, label_dictionary=labels("O", "A"))
    with torch.no_grad():
        model.decoder.bias.copy_(torch.tensor([100.0, 0.0]))
    point = Sentence("a dog")
    model.predict(point)
    assert point.get_labels("topic") == []


def test_unknown_label_names_the_sentence_and_the_way_out(bert: Path) -> None:
    model = classifier(bert)
    with pytest.raises(IndexError, match=r"'Z'.*topic.*A, B, C.*make_label_dictionary"):
        model.forward_loss([Sentence("a fox").add_label("topic", "Z")])
    with pytest.raises(IndexError, match="no 'topic' label"):
        model.forward_loss([Sentence("a fox")])


@pytest.mark.parametrize("collection", [tuple, FlairDatapointDataset])
def test_predict_takes_other_collections(bert: Path, collection) -> None:
    model, points = classifier(bert), sentences()
    model.predict(collection(points))
    assert all(point.get_labels("topic") for point in points)


@pytest.mark.parametrize("wrong", ["just text", ["just", "text"], ("just",)])
def test_predict_refuses_strings(bert: Path, wrong) -> None:
    with pytest.raises(AttributeError, match=r"Sentence\("):
        classifier(bert).predict(wrong)


def test_predict_says_what_it_was_given_instead(bert: Path) -> None:
    with pytest.raises(AttributeError, match="takes Sentence objects, got NoneType"):
        classifier(bert).predict(None)


def test_evaluate_scores_and_file(bert: Path, tmp_path: Path) -> None:
    model = classifier(bert)
    points = sentences()
    for point in points:
        model.predict(point, label_name="gold")
    points[0].set_label("gold", "C" if points[0].get_label("gold").value != "C" else "A")
    result = model.evaluate(points, "gold", out_path=tmp_path / "out.tsv")
    assert result.scores["accuracy"] == 0.75
    assert result.main_score == pytest.approx(0.75)
    assert {"micro avg", "macro avg"} <= set(result.classification_report)
    lines = (tmp_path / "out.tsv").read_text().splitlines()
    assert lines.count(" -> MISMATCH!") == 1
    assert lines[0] == TEXTS[0]
    assert "Results:" in str(result)
    assert "- Accuracy 0.75" in str(result)
    with pytest.raises(KeyError, match="main_evaluation_metric"):
        model.evaluate(points, "gold", main_evaluation_metric=("nano avg", "f1-score"))


def test_evaluate_without_any_label(bert: Path) -> None:
    model = classifier(bert, label_dictionary=labels("O", "A"))
    with torch.no_grad():
        model.decoder.bias.copy_(torch.tensor([100.0, 0.0]))
    result = model.evaluate([Sentence("a dog")], "nothing", return_loss=False)
    assert result.main_score == 0.0
    assert result.classification_report == {}
    assert result.scores == {"loss": 0.0}
    assert "nothing to score" in str(result)


@pytest.mark.parametrize(
    ("excluded", "f1", "accuracy"),  # of the released package
    [
        ([], 0.5, 0.4),
        (["A"], 0.5, 1 / 3),
        (["C"], 0.5, 0.4),
        (["O"], 4 / 7, 0.5),
        (["A", "B"], 0.0, 0.0),
    ],
)
def test_a_data_point_with_excluded_labels_only_is_not_scored(excluded: list[str], f1: float, accuracy: float) -> None:
    table = LabelTable()
    for gold, predicted in (("A", "A"), ("A", "B"), ("B", "B"), (None, "B"), ("B", None)):
        point = Sentence("a")
        for name, value in (("gold", gold), ("predicted", predicted)):
            if value is not None:
                point.add_label(name, value)
        table.add([point], "gold", "predicted", excluded)
    result = classification_result(table)
    assert result.main_score == pytest.approx(f1)
    assert result.scores["accuracy"] == pytest.approx(accuracy, abs=1e-4)


def test_nothing_is_scored_where_all_is_excluded() -> None:
    table = LabelTable()
    table.add([Sentence("a").add_label("gold", "A").add_label("predicted", "A")], "gold", "predicted", ["A"])
    assert classification_result(table).scores == {"loss": 0.0}


def test_evaluate_without_loss(bert: Path) -> None:
    point = Sentence(TEXTS[0]).add_label("topic", "A")
    result = classifier(bert).evaluate([point], "topic", return_loss=False)
    assert result.loss == 0.0
    assert result.scores["accuracy"] in (0.0, 1.0)


@pytest.mark.parametrize("add_unk", [True, False])
def test_evaluate_loss_skips_unknown_gold_labels(bert: Path, add_unk: bool) -> None:
    model = classifier(bert, label_dictionary=labels("A", "B", add_unk=add_unk)).eval()
    points = [Sentence(TEXTS[0]).add_label("topic", "A"), Sentence(TEXTS[1]).add_label("topic", "Z")]
    result = model.evaluate(points, "topic")
    assert result.loss == pytest.approx(float(model.forward_loss(points[:1])[0].detach()), rel=1e-5)


@pytest.mark.parametrize("suffix", [".pt", ""])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_save_and_load_is_equal_to_the_bit(bert: Path, tmp_path: Path, suffix: str, dtype: str) -> None:
    model = classifier(bert, embedding={"dtype": dtype}, loss_weights={"A": 2.0}, dropout=0.1)
    before = scores_of(model)
    model.save(tmp_path / f"model{suffix}")
    loaded = TextClassifier.load(tmp_path / f"model{suffix}")
    assert scores_of(loaded) == before
    assert loaded.dtype == getattr(torch, dtype)
    assert not loaded.training
    ours, theirs = dict(model.named_parameters()), dict(loaded.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        assert torch.equal(parameter, theirs[name]), name
        assert parameter.dtype == theirs[name].dtype == getattr(torch, dtype), name
        assert parameter.requires_grad == theirs[name].requires_grad, name
    assert (loaded.dropout.p, loaded.weight_dict, loaded.label_type) == (0.1, {"A": 2.0}, "topic")
    assert loaded.label_dictionary.get_items() == ["A", "B", "C"]


@pytest.mark.parametrize("suffix", [".pt", ""])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lora_save_and_load_is_equal_to_the_bit(bert: Path, tmp_path: Path, suffix: str, dtype: str) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    model = classifier(bert, embedding={"peft_config": config, "dtype": dtype})
    loss, _ = model.forward_loss(sentences())
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    before = scores_of(model)
    model.save(tmp_path / f"model{suffix}")
    loaded = TextClassifier.load(tmp_path / f"model{suffix}")
    assert scores_of(loaded) == before
    ours, theirs = dict(model.named_parameters()), dict(loaded.named_parameters())
    assert ours.keys() == theirs.keys()
    assert any("lora_A" in name for name in ours)
    for name, parameter in ours.items():
        assert parameter.dtype == theirs[name].dtype, name
        assert torch.equal(parameter, theirs[name]), name
        assert parameter.requires_grad == theirs[name].requires_grad, name


def test_custom_decoder_survives_a_save(bert: Path, tmp_path: Path) -> None:
    decoder = PrototypicalDecoder(num_prototypes=3, embeddings_size=16)
    model = classifier(bert, decoder=decoder)
    before = scores_of(model)
    model.save(tmp_path / "model.pt")
    assert scores_of(TextClassifier.load(tmp_path / "model.pt")) == before


def test_load_on_abstract_classes(bert: Path, tmp_path: Path) -> None:
    model = classifier(bert)
    model.save(tmp_path / "model.pt")
    for cls in (Model, Classifier):
        loaded = cls.load(tmp_path / "model.pt")
        assert type(loaded) is TextClassifier
        assert scores_of(loaded) == scores_of(model)
        with pytest.raises(ValueError, match="Could not find any model with name"):
            cls.load("no-such-model")
    with pytest.raises(FileNotFoundError, match="no-such-model"):
        TextClassifier.load("no-such-model")


def test_load_from_state(bert: Path) -> None:
    model = classifier(bert)
    assert scores_of(TextClassifier.load(model._get_state_dict())) == scores_of(model)
    with pytest.raises(CheckpointError, match="without 'state_dict'"):
        TextClassifier.load({"weights": {}})


def test_load_from_what_torch_reads(bert: Path, tmp_path: Path) -> None:
    model = classifier(bert)
    model.save(tmp_path / "model.pt")
    for cls in (TextClassifier, Model):
        raw = torch.load(tmp_path / "model.pt", weights_only=True)
        assert scores_of(cls.load(raw)) == scores_of(model)
    raw["flair_format"] = 99
    with pytest.raises(CheckpointError, match="Update flair"):
        Model.load(raw)


def test_load_casts_the_whole_model(bert: Path, tmp_path: Path) -> None:
    classifier(bert).save(tmp_path / "model.pt")
    loaded = TextClassifier.load(tmp_path / "model.pt", dtype="bfloat16")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert all(isinstance(score, float) for row in scores_of(loaded) for _, score in row)
    with pytest.raises(ValueError, match=r"float16.*CPU"):
        TextClassifier.load(tmp_path / "model.pt", dtype="float16", device="cpu")
    with pytest.raises(ValueError, match="Unknown dtype"):
        TextClassifier.load(tmp_path / "model.pt", dtype="float8")


def test_missing_and_unexpected_weights_are_reported(bert: Path) -> None:
    state = classifier(bert)._get_state_dict()
    tensors = dict(state["state_dict"])
    del tensors["decoder.bias"]
    tensors["extra.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"(?s)decoder\.bias.*extra\.weight"):
        TextClassifier.load({**state, "state_dict": tensors})


def test_threads_predict_what_one_thread_predicts(bert: Path) -> None:
    model = classifier(bert, dropout=0.3)
    texts = [f"{text} {i}" for i in range(8) for text in TEXTS]
    expected = scores_of(model, texts)
    results: dict[int, object] = {}

    def work(number: int) -> None:
        try:
            results[number] = scores_of(model, texts)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results.values():
        assert result == expected
    assert model.training


def test_model_card_travels(bert: Path, tmp_path: Path) -> None:
    model = classifier(bert)
    model.model_card = {"flair_version": "x", "pytorch_version": "y", "training_parameters": {"learning_rate": 0.1}}
    model.license_info = "MIT"
    model.save(tmp_path / "m.pt")
    loaded = TextClassifier.load(tmp_path / "m.pt")
    assert loaded.license_info == "MIT"
    assert loaded.model_card["training_parameters"]["learning_rate"] == 0.1
    loaded.print_model_card()


def test_used_tokens(bert: Path) -> None:
    corpus = Corpus(train=FlairDatapointDataset(sentences()), sample_missing_splits=False)
    used = {token for tokens in classifier(bert).get_used_tokens(corpus) for token in tokens}
    assert {"fox", "berlin", "terrible", "love"} <= used


def test_adapters_only_round_trip(bert: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    model = classifier(bert, embedding={"peft_config": config})
    before = scores_of(model)
    model.save(tmp_path / "full.pt")
    model.save(tmp_path / "small.pt", adapters_only=True)
    assert scores_of(TextClassifier.load(tmp_path / "small.pt")) == before
    tensors = torch.load(tmp_path / "small.pt", weights_only=True)["state_dict"]
    assert not any("base_layer" in name for name in tensors)
    rows = [len(value) for name, value in tensors.items() if "word_embeddings" in name]
    assert rows == [1], "of the embedding matrix only the row of the added [FLERT] token"
    assert {"decoder.weight", "decoder.bias"} <= set(tensors)


def test_adapters_only_keeps_what_differs_from_the_base(bert: Path, tmp_path: Path) -> None:
    """[FLERT] adds a row to the embedding matrix, and PiSSA changes frozen weights: both must be in the file."""
    from peft import LoraConfig

    config = LoraConfig(r=2, target_modules=["query"], init_lora_weights="pissa")
    model = classifier(bert, embedding={"peft_config": config, "use_context": True})
    before = scores_of(model)
    model.save(tmp_path / "small.pt", adapters_only=True)
    assert scores_of(TextClassifier.load(tmp_path / "small.pt")) == before
    tensors = torch.load(tmp_path / "small.pt", weights_only=True)["state_dict"]
    rows = [value for name, value in tensors.items() if "word_embeddings" in name]
    assert [len(value) for value in rows] == [1]


def test_adapters_only_checks_its_base(bert: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    base = make_model_folder(tmp_path / "base", "bert", seed=1)
    other = make_model_folder(tmp_path / "other", "bert", seed=2)
    model = classifier(base, embedding={"peft_config": LoraConfig(r=2, target_modules=["query"])})
    before = scores_of(model)
    model.save(tmp_path / "small.pt", adapters_only=True)
    with pytest.raises(CheckpointError, match=r"(?s)not the one.*base_model"):
        TextClassifier.load(tmp_path / "small.pt", base_model=other)
    moved = base.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match=r"(?s)could not be loaded.*base_model"):
        TextClassifier.load(tmp_path / "small.pt")
    assert scores_of(TextClassifier.load(tmp_path / "small.pt", base_model=moved)) == before
    with pytest.raises(CheckpointError, match="has none"):
        classifier(bert).save(tmp_path / "x.pt", adapters_only=True)


def test_save_makes_missing_folders(bert: Path, tmp_path: Path) -> None:
    model = classifier(bert)
    for name in ("deep/er/model.pt", "deep/er/still/folder"):
        model.save(tmp_path / name)
        assert scores_of(TextClassifier.load(tmp_path / name)) == scores_of(model)


def test_empty_label_dictionary_is_refused(bert: Path) -> None:
    with pytest.raises(ValueError, match="make_label_dictionary"):
        classifier(bert, label_dictionary=labels())
