"""Taggers with a prompt before each sentence: prefixes, labels there and back, training, prediction, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flair.data import Corpus, Dictionary, Relation, Sentence
from flair.datasets import FlairDatapointDataset
from flair.embeddings import WordEmbeddings
from flair.models import PrefixedSequenceTagger
from flair.models.prefixed_tagger import EntityTypeTaskPromptAugmentationStrategy, PrefixedSentence
from flair.nn import Classifier

WORDS = "[ Tag PER and LOC ] Peter Smith sat in Berlin . ORG the".split()  # noqa: SIM905
STRATEGY = EntityTypeTaskPromptAugmentationStrategy(["PER", "LOC"])


def tagger(**options: Any) -> PrefixedSequenceTagger:
    table = {word: i for i, word in enumerate(WORDS)}
    embeddings = WordEmbeddings(None, vocab=table, embedding_length=5, name="words", fine_tune=True)
    torch.manual_seed(0)
    embeddings.embedding.weight.data[:-1].normal_()
    dictionary = Dictionary(add_unk=False)
    for label in ("PER", "LOC"):
        dictionary.add_item(label)
    dictionary.span_labels = True
    options = {"tag_dictionary": dictionary, "tag_type": "ner", "augmentation_strategy": STRATEGY, **options}
    return PrefixedSequenceTagger(embeddings, hidden_size=6, **options)


def sentences() -> list[Sentence]:
    made = [Sentence("Peter Smith sat in Berlin ."), Sentence("the ORG"), Sentence("Berlin")]
    made[0][0:2].add_label("ner", "PER")
    made[0][4:5].add_label("ner", "LOC")
    made[2][0:1].add_label("ner", "LOC")
    return made


def labels(sentence: Sentence, label_type: str) -> list[tuple[str, str, float]]:
    return [(label.unlabeled_identifier, label.value, label.score) for label in sentence.get_labels(label_type)]


# --- prefixes ---


@pytest.mark.parametrize(
    ("types", "prompt"),
    [
        (["PER"], "[ Tag PER ]"),
        (["PER", "LOC"], "[ Tag PER and LOC ]"),
        (["cell lines", "genes", "species"], "[ Tag cell lines, genes and species ]"),
    ],
)
def test_prompts(types: list[str], prompt: str) -> None:
    strategy = EntityTypeTaskPromptAugmentationStrategy(types)
    assert strategy.task_prompt == prompt.split(" ")
    rebuilt = EntityTypeTaskPromptAugmentationStrategy._init_strategy_with_state_dict(strategy._get_state_dict())
    assert rebuilt.task_prompt == strategy.task_prompt
    augmented = strategy.augment_sentence(Sentence("Anna was here."))
    assert isinstance(augmented, PrefixedSentence)
    assert augmented.to_tokenized_string() == f"{prompt} Anna was here ."


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(AssertionError, match="entity_types is empty"):
        EntityTypeTaskPromptAugmentationStrategy([])


def test_which_labels_are_taken_over() -> None:
    sentence = sentences()[0]
    sentence[1].add_label("pos", "N", 0.5, source="me")
    sentence.add_label("topic", "x")
    Relation(sentence[0:2], sentence[4:5]).add_label("relation", "in")
    complete = STRATEGY.augment_sentence(sentence)
    assert labels(complete, "ner") == [('Span[6:8]: "Peter Smith"', "PER", 1.0), ('Span[10:11]: "Berlin"', "LOC", 1.0)]
    assert labels(complete, "pos") == [('Token[7]: "Smith"', "N", 0.5)]
    assert complete.get_labels("pos")[0].metadata == {"source": "me"}
    assert [label.data_point for label in complete.get_labels("topic")] == [complete]
    assert [relation.tag for relation in complete.get_relations("relation")] == ["in"]
    assert set(STRATEGY.augment_sentence(sentence, "ner").annotation_layers) == {"ner"}
    assert set(STRATEGY.augment_sentence(sentence, ["ner", "pos"]).annotation_layers) == {"ner", "pos"}
    assert STRATEGY.augment_sentence(sentence, []).annotation_layers == {}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.sampled_from("XY")), max_size=4), st.integers(1, 3))
def test_labels_go_there_and_back(spans: list[tuple[int, int, str]], types: int) -> None:
    strategy = EntityTypeTaskPromptAugmentationStrategy(["T"] * types)
    sentence = Sentence(["w"] * 8)
    for start, length, label in spans:
        sentence[start : start + length].add_label("ner", label, 0.5)
    back = Sentence(["w"] * 8)
    strategy.apply_predictions(strategy.augment_sentence(sentence), back, "ner", "other")
    assert labels(back, "other") == labels(sentence, "ner")


def test_labels_of_the_prefix_stay_there() -> None:
    sentence = Sentence("Peter Smith sat")
    augmented = STRATEGY.augment_sentence(sentence)
    augmented[1:2].add_label("p", "prefix")
    augmented[5:7].add_label("p", "across")
    augmented[2].add_label("p", "token of the prefix")
    augmented[6:8].add_label("p", "inside", 0.7)
    STRATEGY.apply_predictions(augmented, sentence, "p", "q")
    assert labels(sentence, "q") == [('Span[0:2]: "Peter Smith"', "inside", 0.7)]


def test_data_sets_and_corpora() -> None:
    data = FlairDatapointDataset(sentences())
    augmented = STRATEGY.augment_dataset(data, "ner")
    assert [len(sentence) for sentence in augmented.datapoints] == [12, 8, 7]
    corpus = Corpus(train=data, dev=data, name="mine", sample_missing_splits=False)
    prefixed = STRATEGY.augment_corpus(corpus)
    assert str(prefixed) == "Corpus: 3 train + 3 dev + 0 test sentences"
    assert (prefixed.name, prefixed.test) == ("mine", None)


# --- training and prediction ---


def test_sentences_get_one_prefix() -> None:
    model = tagger().eval()
    loss, count = model.forward_loss(sentences())
    again, same = model.forward_loss(model.augment_sentences(sentences()))
    assert count == same == 9 + 3 * 6
    assert float(loss.detach()) == pytest.approx(float(again.detach()))
    assert model.predict(sentences(), return_loss=True, label_name="p")[1] == count
    before = str(sentences()[0])
    sentence = sentences()[0]
    model.forward_loss([sentence])
    assert str(sentence) == before


def test_learns() -> None:
    model = tagger(word_dropout=0.0, locked_dropout=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        loss, _ = model.forward_loss(sentences())
        loss.backward()
        optimizer.step()
    assert model.evaluate(sentences(), "ner").main_score == 1.0
    assert model.evaluate(model.augment_sentences(sentences()), "ner").main_score == 1.0


def test_prediction() -> None:
    model = tagger()
    plain, prefixed = sentences(), model.augment_sentences(sentences())
    assert model.predict(plain, label_name="p") is None
    assert model.predict(prefixed, label_name="p", mini_batch_size=1) is None
    for sentence, augmented in zip(plain, prefixed, strict=True):
        inside = [label for label in augmented.get_labels("p") if label.data_point[0].idx > 6]
        assert [label.value for label in sentence.get_labels("p")] == [label.value for label in inside]
        assert [label.data_point.text for label in sentence.get_labels("p")] == [lb.data_point.text for lb in inside]
    model.predict(plain[0])
    first = labels(plain[0], "ner")
    model.predict(plain[0])
    assert labels(plain[0], "ner") == first == labels(plain[0], "p")


def test_tags_scores_and_vectors_of_tokens() -> None:
    model = tagger()
    data = sentences()
    model.predict(
        data,
        label_name="p",
        force_token_predictions=True,
        return_probabilities_for_all_classes=True,
        embedding_storage_mode="cpu",
    )
    for sentence in data:
        for token in sentence:
            row = token.get_tags_proba_dist("p")
            assert [label.value for label in row] == model.label_dictionary.get_items()
            assert all(label.data_point is token for label in row)
            best = max(row, key=lambda label: label.score)
            assert token.get_label("p").value == best.value
            assert token.get_embedding().shape == (5,)


def test_inputs() -> None:
    model = tagger()
    assert model.predict([]) == []
    empty = Sentence([])
    assert model.predict([empty]) == [empty]
    mixed = [empty, Sentence("Berlin")]
    assert model.predict(mixed, label_name="p") is None
    with pytest.raises(AttributeError, match="Sentence"):
        model.predict("a text")  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="position 1"):
        model.predict([Sentence("a"), "b"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="augmentation_strategy ="):
        tagger(augmentation_strategy=None).predict(Sentence("Berlin"))


def test_used_tokens() -> None:
    corpus = Corpus(train=FlairDatapointDataset(sentences()), sample_missing_splits=False)
    used = {token for tokens in tagger().get_used_tokens(corpus) for token in tokens}
    assert {"Tag", "[", "Berlin", "ORG"} <= used


# --- files ---


@pytest.mark.parametrize("target", ["model.pt", "model"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(tmp_path: Path, target: str, dtype: torch.dtype) -> None:
    model = tagger().to(dtype)
    model.save(tmp_path / target)
    for back in (PrefixedSequenceTagger.load(tmp_path / target), Classifier.load(tmp_path / target)):
        assert type(back) is PrefixedSequenceTagger
        assert back.augmentation_strategy is not None
        assert back.augmentation_strategy.__dict__ == STRATEGY.__dict__
        assert all(torch.equal(value, back.state_dict()[key]) for key, value in model.state_dict().items())
        one, two = sentences(), sentences()
        model.predict(one, label_name="p")
        back.predict(two, label_name="p")
        assert [labels(sentence, "p") for sentence in one] == [labels(sentence, "p") for sentence in two]


def test_files_need_a_strategy() -> None:
    state = tagger()._get_state_dict()
    del state["augmentation_strategy"]
    with pytest.raises(KeyError, match="augmentation_strategy"):
        PrefixedSequenceTagger.load(state)


def test_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("flair.models.prefixed_tagger.hf_download", lambda name: f"hub:{name}")
    assert PrefixedSequenceTagger._fetch_model("hunflair2") == "hub:hunflair/hunflair2-ner"
    assert PrefixedSequenceTagger._fetch_model("bioner") == "hub:hunflair/hunflair2-ner"
    missing = str(tmp_path / "missing.pt")
    assert PrefixedSequenceTagger._fetch_model(missing) == missing
