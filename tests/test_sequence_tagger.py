"""The sequence tagger: tags and spans, loss, prediction, evaluation, files."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flair.data import Dictionary, Sentence, get_spans_from_bio
from flair.embeddings import CharacterEmbeddings, FlairEmbeddings, StackedEmbeddings, WordEmbeddings
from flair.models import LanguageModel, SequenceTagger
from flair.models.sequence_tagger_utils import tags

WORDS = ["the", "cat", "sat", "on", "mat", "in", "Berlin", "and", "Paris", "Peter", "Smith", "."]


def word_embeddings(**options) -> WordEmbeddings:
    made = WordEmbeddings(None, vocab={w: i for i, w in enumerate(WORDS)}, embedding_length=5, name="words", **options)
    torch.manual_seed(0)
    made.embedding.weight.data[:-1].normal_()
    return made


def stack() -> StackedEmbeddings:
    dictionary = Dictionary()
    for character in "abcdefghijklmnopqrstuvwxyzPSB .\n":
        dictionary.add_item(character)
    lm = LanguageModel(dictionary, False, 6, 1, embedding_size=4)
    return StackedEmbeddings([word_embeddings(), FlairEmbeddings(lm), CharacterEmbeddings(dictionary, 3, 2)])


def labels(*names: str, spans: bool, unk: bool = False) -> Dictionary:
    made = Dictionary(add_unk=unk)
    for name in names:
        made.add_item(name)
    made.span_labels = spans
    return made


def tagger(embeddings=None, **options) -> SequenceTagger:
    made = embeddings or word_embeddings()
    torch.manual_seed(1)
    options = {"tag_dictionary": labels("PER", "LOC", spans=True), "tag_type": "ner", "hidden_size": 6, **options}
    return SequenceTagger(made, **options)


def sentences() -> list[Sentence]:
    one, two = Sentence("the cat sat in Berlin ."), Sentence("Peter Smith sat")
    one[4:5].add_label("ner", "LOC")
    two[0:2].add_label("ner", "PER")
    for sentence in (one, two):
        for token in sentence:
            token.add_label("pos", "VERB" if token.text == "sat" else "NOUN")
    return [two, Sentence([]), one, Sentence("mat")]


VARIANTS = [
    {"use_crf": True},
    {"use_crf": True, "use_rnn": False, "reproject_embeddings": False},
    {"use_crf": False, "rnn_type": "GRU", "rnn_layers": 2, "tag_format": "bio"},
    {"use_crf": False, "use_rnn": False, "loss_weights": {"S-LOC": 3.0}},
    {"use_crf": True, "train_initial_hidden_state": True, "bidirectional": False},
    {"use_crf": False, "train_initial_hidden_state": True, "rnn_type": "GRU"},
    {"tag_dictionary": labels("NOUN", "VERB", spans=False, unk=True), "tag_type": "pos"},
    {"tag_dictionary": labels("NOUN", "VERB", "O", spans=False), "tag_type": "pos", "use_crf": False, "use_rnn": False},
]


# --- tags ---


def test_tagset():
    dictionary = labels("<unk>", "PER", spans=True)
    assert tags.tagset(dictionary, "BIOES", False).get_items() == ["O", "S-PER", "B-PER", "E-PER", "I-PER"]
    assert tags.tagset(dictionary, "BIO", True).get_items() == ["<unk>", "O", "B-PER", "I-PER"]
    with pytest.raises(AssertionError, match="IOB"):
        tagger(tag_format="IOB")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["PER", "LOC", "A-B"])), max_size=4))
def test_spans_survive_tags(parts):
    """Spans -> tags -> spans, in both formats."""
    position, spans = 0, []
    for gap, length, label in parts:
        spans.append((position + gap, position + gap + length, label))
        position += gap + length
    sentence = Sentence(["x"] * (position + 1))
    for start, stop, label in spans:
        sentence[start:stop].add_label("ner", label)
    for tag_format in ("BIOES", "BIO"):
        read = get_spans_from_bio(tags.span_tags(sentence, "ner", tag_format))
        assert [(places[0], places[-1] + 1, label) for places, _, label in read] == spans


# --- network ---


@pytest.mark.parametrize("options", VARIANTS)
def test_padding_and_order_do_not_matter(options):
    model = tagger(stack(), **options)
    model.eval()
    batch = [sentence for sentence in sentences() if len(sentence)]
    loss, count = model.forward_loss(batch)
    single = [model.forward_loss([sentence]) for sentence in reversed(batch)]
    assert count == sum(n for _, n in single) == 10
    assert float(loss) == pytest.approx(sum(float(value) for value, _ in single), rel=1e-4)


@pytest.mark.parametrize("options", VARIANTS)
def test_public_forward_agrees_with_the_fast_road(options):
    model = tagger(**options).eval()

    class Overridden(SequenceTagger):
        def forward(self, sentence_tensor, lengths):
            return super().forward(sentence_tensor, lengths)

    slow = tagger(**options).eval()
    slow.__class__ = Overridden
    slow.load_state_dict(model.state_dict())
    one, two = sentences(), sentences()
    loss, _ = model.forward_loss(one)
    assert float(slow.forward_loss(two)[0]) == pytest.approx(float(loss), rel=1e-4)
    model.predict(one, label_name="p")
    slow.predict(two, label_name="p")
    assert [str(sentence) for sentence in one] == [str(sentence) for sentence in two]


@pytest.mark.parametrize("options", VARIANTS)
def test_learns(options):
    model = tagger(word_dropout=0.0, locked_dropout=0.0, **options)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    first = None
    for _ in range(60):
        optimizer.zero_grad()
        loss, _ = model.forward_loss(sentences())
        loss.backward()
        optimizer.step()
        first = first or float(loss)
    assert float(loss) < 0.2 * first
    batch = sentences()
    model.predict(batch, label_name="p")
    gold = [(label.unlabeled_identifier, label.value) for s in batch[:3] for label in s.get_labels(model.label_type)]
    found = [(label.unlabeled_identifier, label.value) for s in batch[:3] for label in s.get_labels("p")]
    assert found == gold
    result = model.evaluate(sentences()[:3], gold_label_type=model.label_type)
    assert result.main_score == 1.0


@pytest.mark.parametrize("options", VARIANTS)
def test_dropout_does_not_depend_on_the_order_of_a_batch(options):
    model = tagger(**options).train()
    batch = [sentence for sentence in sentences() if len(sentence)]
    losses = []
    for order in (batch, batch[::-1]):
        torch.manual_seed(5)
        losses.append(float(model.forward_loss(order)[0].detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.manual_seed(6)
    assert float(model.forward_loss(batch)[0].detach()) != pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"use_rnn": True}, ["dropout", "word_dropout", "locked_dropout", "rnn", "dropout", "locked_dropout"]),
        (
            {"use_rnn": False, "use_crf": True},
            ["dropout", "word_dropout", "locked_dropout", "embedding2nn", "dropout", "locked_dropout"],
        ),
        (
            {"use_rnn": False, "use_crf": False},
            ["dropout", "locked_dropout", "embedding2nn", "dropout", "locked_dropout"],
        ),
    ],
)
def test_where_dropout_applies(options, expected):
    """As in released versions: twice, and words are dropped only where an RNN or a CRF sees their neighbours."""
    reproject = not options["use_rnn"]
    model = tagger(dropout=0.2, word_dropout=0.3, reproject_embeddings=reproject, **options).train()
    assert model.use_word_dropout == (0.3 if "word_dropout" in expected else 0.0)
    applied = []
    for name, layer in model.named_children():
        if name in expected:
            layer.register_forward_hook(lambda *_, name=name: applied.append(name))
    model.forward_loss(sentences())
    assert applied == expected


def test_initial_state_is_used():
    model = tagger(train_initial_hidden_state=True).eval()
    before = float(model.forward_loss(sentences())[0])
    model.lstm_init_h.data += 1
    assert float(model.forward_loss(sentences())[0]) != pytest.approx(before)


def test_weights_change_the_loss():
    plain, weighted = tagger(use_crf=False).eval(), tagger(use_crf=False, loss_weights={"S-LOC": 3.0}).eval()
    assert weighted.loss_weights.tolist()[:6] == [1, 1, 1, 1, 1, 3]
    weighted.load_state_dict({**weighted.state_dict(), **plain.state_dict()})
    assert float(weighted.forward_loss(sentences())[0]) > float(plain.forward_loss(sentences())[0])


def test_own_rnn_and_unknown_type():
    own = torch.nn.LSTM(5, 3, batch_first=True, bidirectional=True)
    model = tagger(rnn=own)
    assert model.rnn is own
    assert model.linear.in_features == 6
    assert model.hidden_size == 3
    with pytest.raises(Exception, match="XYZ"):
        tagger(rnn_type="XYZ")


def test_gold_label_outside_the_dictionary():
    model = tagger()
    sentence = Sentence("the cat")
    sentence[0:2].add_label("ner", "ORG")
    with pytest.raises(IndexError, match="B-ORG"):
        model.forward_loss([sentence])
    loss, count = model.predict([sentence, *sentences()], return_loss=True, label_name="p")
    assert count == 10
    assert float(loss) > 0
    other = tagger(use_crf=False)
    assert other.predict([sentence, *sentences()], return_loss=True, label_name="p")[1] == 10


def test_costly_static_vectors_are_kept_while_training():
    embeddings = stack()
    model = tagger(embeddings).train()
    batch = sentences()
    model.forward_loss(batch)
    flair_name = embeddings.embeddings[1].name
    assert all(set(token._embeddings) == {flair_name} for sentence in batch for token in sentence)


# --- prediction ---


def test_prediction_inputs():
    model = tagger()
    assert model.predict([]) == []
    empty = [Sentence([])]
    assert model.predict(empty) is empty
    with pytest.raises(AttributeError, match="Sentence"):
        model.predict("a text")
    with pytest.raises(AttributeError, match="position 1"):
        model.predict([Sentence("a"), "b"])
    single = Sentence("Peter Smith")
    assert model.predict(single) is None


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("size", [1, 3])
def test_batch_size_and_stored_vectors_change_nothing(options, size):
    model = tagger(stack(), **options)
    one, two, three = sentences(), sentences(), sentences()
    model.predict(one, label_name="p")
    model.predict(two, label_name="p", mini_batch_size=size)
    model.predict(three, label_name="p", embedding_storage_mode="cpu")
    assert [str(s) for s in one] == [str(s) for s in two] == [str(s) for s in three]
    assert not any(token._embeddings for s in one for token in s)
    assert all(len(token._embeddings) == 3 for s in three for token in s)
    assert model.training


@pytest.mark.parametrize("options", VARIANTS)
def test_all_classes(options):
    model = tagger(**options)
    batch = sentences()
    model.predict(batch, label_name="p", return_probabilities_for_all_classes=True, force_token_predictions=True)
    for sentence in batch:
        for token in sentence:
            row = token.get_tags_proba_dist("p")
            assert [label.value for label in row] == model.label_dictionary.get_items()
            assert sum(label.score for label in row) == pytest.approx(1.0, abs=1e-4)
            best = max(row, key=lambda label: label.score)
            assert token.get_label("p").value == ("O" if best.value in ("O", "_") else best.value)


def test_predictions_replace_older_ones():
    model = tagger()
    sentence = sentences()[0]
    for _ in range(2):
        model.predict(sentence, label_name="p", force_token_predictions=True)
    assert len(sentence.get_labels("p")) <= len(sentence)
    assert len(sentence.get_labels("ner")) == 1


def test_prediction_files(tmp_path):
    model = tagger()
    batch = sentences()
    batch[0][0:2].add_label("predicted", "LOC")
    assert model._print_predictions(batch[:1], "ner") == [
        "Peter B-PER B-LOC\n",
        "Smith I-PER I-LOC\n",
        "sat O O\n",
        "\n",
    ]
    assert batch[0][1].get_label("predicted_bio").value == "I-LOC"
    words = tagger(**VARIANTS[-1])
    words.evaluate(batch, gold_label_type="pos", out_path=tmp_path / "out.tsv")
    first = (tmp_path / "out.tsv").read_text().split("\n")[0].split(" ")
    assert first[:2] == ["Peter", "NOUN"]


# --- files ---


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(tmp_path, options, dtype):
    model = tagger(stack(), **options).to(dtype)
    model.save(tmp_path / "model.pt")
    back = SequenceTagger.load(tmp_path / "model.pt")
    assert back.state_dict().keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key
        assert back.state_dict()[key].dtype == value.dtype, key
    one, two = sentences(), sentences()
    model.predict(one, label_name="p")
    back.predict(two, label_name="p")
    assert [str(s) for s in one] == [str(s) for s in two]


def test_released_variants():
    state = tagger()._get_state_dict()
    expected = tagger(locked_dropout=0.0, word_dropout=0.0)
    for key in (
        "tag_format",
        "use_dropout",
        "use_word_dropout",
        "use_locked_dropout",
        "rnn_type",
        "reproject_embeddings",
    ):
        del state[key]
    del state["train_initial_hidden_state"], state["dtype"]
    state["state_dict"]["transitions"] = state["state_dict"].pop("crf.transitions")
    model = SequenceTagger.load(state)
    assert (model.tag_format, model.rnn_type, model.use_word_dropout) == ("BIOES", "LSTM", 0.0)
    assert model.state_dict().keys() == expected.state_dict().keys()


def test_untrained_initial_state_of_released_files_has_no_effect():
    model = tagger(train_initial_hidden_state=True)
    state = model._get_state_dict()
    del state["dtype"]
    loaded = SequenceTagger.load(state)
    assert loaded.lstm_init_h.abs().sum() == 0
    plain = tagger().eval()
    weights = {key: value for key, value in loaded.state_dict().items() if not key.startswith("lstm_init")}
    plain.load_state_dict(weights)
    assert float(loaded.forward_loss(sentences())[0]) == pytest.approx(float(plain.forward_loss(sentences())[0]))


@pytest.mark.parametrize("options", VARIANTS)
def test_bfloat16_training_step(options):
    model = tagger(stack(), **options).to(torch.bfloat16).train()
    loss, _ = model.forward_loss(sentences())
    loss.backward()
    assert loss.dtype == torch.float32
    assert model.linear.weight.grad.dtype == torch.bfloat16


def test_names(monkeypatch, tmp_path):
    fetched = []
    module = "flair.models.sequence_tagger_model"
    monkeypatch.setattr(f"{module}.hf_download", lambda name: fetched.append(name) or "hub")
    monkeypatch.setattr(f"{module}.cached_path", lambda url, cache_dir: fetched.append(url) or "url")
    assert SequenceTagger._fetch_model("ner") == "hub"
    assert SequenceTagger._fetch_model("someone/some-model@v2") == "hub"
    assert SequenceTagger._fetch_model("hunflair-gene") == "url"
    assert SequenceTagger._fetch_model(str(tmp_path / "missing.pt")) == str(tmp_path / "missing.pt")
    assert fetched[:2] == ["flair/ner-english", "someone/some-model@v2"]
    assert fetched[2].endswith("/hunflair_allcorpus_models/huner-gene/hunflair-gene.pt")


def test_model_card_for_the_hub():
    card = tagger()._generate_model_card("someone/model")
    assert 'SequenceTagger.load("someone/model")' in card
    assert "`LOC`, `O`, `PER`" in card
