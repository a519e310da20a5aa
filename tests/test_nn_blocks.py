"""The building blocks of models: dropouts, recurrent layers, distances, decoders, losses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flair.data import Dictionary, Sentence
from flair.nn import (
    DeepNCMDecoder,
    LabelVerbalizerDecoder,
    LockedDropout,
    PrototypicalDecoder,
    WordDropout,
)
from flair.nn.decoder import DISTANCES
from flair.nn.distance import (
    EuclideanMean,
    HyperbolicMean,
    hyperbolic,
)
from flair.nn.dropout import QuickDropout, quicken_dropout
from flair.nn.loss import SigmoidLoss
from flair.nn.recurrent import create_recurrent_layer, rnn_layers, run_padded

LABELS = ["apple", "pear", "plum"]


def dictionary_of(items: list[str] = LABELS, *, span_labels: bool = False, add_unk: bool = False) -> Dictionary:
    dictionary = Dictionary(add_unk=add_unk)
    for item in items:
        dictionary.add_item(item)
    dictionary.span_labels = span_labels
    return dictionary


# --- dropout ---


@pytest.mark.parametrize("batch_first", [True, False])
def test_locked_dropout_drops_a_feature_of_a_whole_sequence(batch_first: bool) -> None:
    x = torch.ones(6, 9, 40)
    dropped = LockedDropout(0.3, batch_first=batch_first)(x)
    assert {round(value, 5) for value in dropped.unique().tolist()} == {0.0, round(1 / 0.7, 5)}
    over_time = dropped if batch_first else dropped.transpose(0, 1)
    assert torch.equal(over_time, over_time[:, :1].expand_as(over_time))
    assert not torch.equal(over_time[0], over_time[1]), "each sequence has a mask of its own"
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.12)


def test_word_dropout_drops_whole_words_and_scales_nothing() -> None:
    x = torch.randn(8, 50, 4).abs() + 1
    dropped = WordDropout(0.25)(x)
    gone = (dropped == 0).all(-1)
    assert torch.equal(dropped[~gone], x[~gone])
    assert float(gone.float().mean()) == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_quick_dropout_drops_at_its_rate_and_keeps_the_expectation(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(7, 151, 193, dtype=dtype, requires_grad=True)
    dropped = QuickDropout(rate)(x)
    assert dropped.dtype == dtype
    gone = dropped == 0
    assert float(gone.double().mean()) == pytest.approx(rate, abs=0.004)  # about six standard deviations
    assert dropped[~gone].unique().tolist() == pytest.approx([1 / (1 - rate)], rel=0.01)
    for axis in range(3):  # no row, column or plane is treated differently
        rates = gone.double().mean(dim=[other for other in range(3) if other != axis])
        assert float((rates - rate).abs().max()) < 0.08
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


def test_quick_dropout_follows_the_seed_and_rests_outside_training() -> None:
    layer = nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.0))
    quicken_dropout(layer)
    assert [type(part) for part in layer] == [QuickDropout, QuickDropout]
    x = torch.randn(3, 5)
    torch.manual_seed(4)
    first = layer(x)
    torch.manual_seed(4)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, x)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(QuickDropout(1.0)(x), torch.zeros_like(x))


@pytest.mark.parametrize("layer", [LockedDropout, WordDropout])
def test_dropouts_outside_training(layer: type[nn.Module]) -> None:
    x = torch.randn(2, 3, 4)
    kept = x.clone()
    assert layer(0.9).eval()(x) is x
    assert layer(0.0)(x) is x
    assert torch.equal(layer(1.0)(x), torch.zeros_like(x))
    layer(0.5, inplace=True)(x)
    assert torch.equal(x, kept), "the input is never changed"
    half = layer(0.5)(x.bfloat16().requires_grad_())
    assert half.dtype == torch.bfloat16
    assert half.requires_grad


def test_dropouts_say_what_they_are() -> None:
    assert repr(LockedDropout(0.3)) == "LockedDropout(p=0.3)"
    assert repr(WordDropout(0.1, inplace=True)) == "WordDropout(p=0.1, inplace)"
    assert (LockedDropout().dropout_rate, WordDropout().dropout_rate) == (0.5, 0.05)


# --- recurrent layers ---


@pytest.mark.parametrize(("kind", "layer_class", "states"), [("LSTM", nn.LSTM, 2), ("gru", nn.GRU, 1)])
def test_recurrent_layers_by_name(kind: str, layer_class: type, states: int) -> None:
    layer, count = create_recurrent_layer(kind, 4, 5, 2, dropout=0.3, bidirectional=True, batch_first=True)
    assert type(layer) is layer_class
    assert (count, layer.dropout, layer.bidirectional) == (states, 0.3, True)
    assert layer(torch.randn(2, 7, 4))[0].shape == (2, 7, 10)
    single, _ = create_recurrent_layer(kind.swapcase(), 4, 5, 1, dropout=0.3)
    assert single.dropout == 0, "a single layer has nothing between layers"
    assert rnn_layers[kind.lower()] == (layer_class, states)


def test_an_unknown_recurrent_layer() -> None:
    with pytest.raises(AssertionError, match=r"'transformer'.*lstm, gru"):
        create_recurrent_layer("transformer", 4, 5, 1)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("layers", "bidirectional", "bias"), [(1, True, True), (2, True, False), (2, False, True)])
def test_padded_sequences_run_to_their_own_ends(
    kind: type[nn.RNNBase], layers: int, bidirectional: bool, bias: bool
) -> None:
    torch.manual_seed(0)
    rnn = kind(7, 5, layers, bidirectional=bidirectional, bias=bias, batch_first=True)
    vectors, lengths = torch.randn(4, 9, 7, requires_grad=True), torch.tensor([3, 9, 1, 5])
    states = run_padded(rnn, vectors, lengths)
    alone = [rnn(row[None, :length])[0][0] for row, length in zip(vectors, lengths, strict=True)]
    expected = nn.utils.rnn.pad_sequence(alone, batch_first=True)
    torch.testing.assert_close(states, expected)
    leaves = [vectors, *rnn.parameters()]
    weights = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad((states * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), leaves),
    )


def test_initial_states_of_padded_sequences() -> None:
    torch.manual_seed(0)
    rnn = nn.LSTM(7, 5, batch_first=True)
    vectors, lengths = torch.randn(2, 4, 7), torch.tensor([4, 2])
    state = (torch.randn(1, 2, 5), torch.randn(1, 2, 5))
    states = run_padded(rnn, vectors, lengths, state)
    second = rnn(vectors[1:, :2], (state[0][:, 1:], state[1][:, 1:]))[0]
    torch.testing.assert_close(states[1, :2], second[0])


def test_hooks_of_recurrent_networks_are_called_for_padded_sequences() -> None:
    rnn = nn.LSTM(7, 5, batch_first=True)
    called = []
    rnn.register_forward_hook(lambda *_: called.append("after"))
    rnn.register_forward_pre_hook(lambda *_: called.append("before"))
    run_padded(rnn, torch.randn(2, 4, 7), torch.tensor([4, 2]))
    assert called == ["before", "after"]


def test_dropout_between_layers_falls_on_padded_sequences_too() -> None:
    rnn = nn.LSTM(7, 5, 2, dropout=0.5, batch_first=True)
    vectors, lengths = torch.randn(2, 4, 7), torch.tensor([4, 2])
    assert not torch.equal(run_padded(rnn, vectors, lengths), run_padded(rnn, vectors, lengths))
    rnn.eval()
    assert torch.equal(run_padded(rnn, vectors, lengths), run_padded(rnn, vectors, lengths))


# --- distances ---


def test_distances_are_what_their_names_say() -> None:
    a, b = torch.randn(5, 6), torch.randn(3, 6)
    cosine = nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)
    time = torch.sqrt(1 + a.square().sum(1))[:, None] * torch.sqrt(1 + b.square().sum(1))[None]
    expected = {
        "euclidean": torch.cdist(a, b).square(),
        "cosine": -cosine,
        "logit_cosine": -torch.logit((1 + cosine) / 2),
        "dot_product": -(a @ b.T) / 6**0.5,
        "hyperbolic": torch.acosh(time - a[:, 1:] @ b[:, 1:].T).square(),
    }
    assert expected.keys() == DISTANCES.keys()
    for name, values in expected.items():
        torch.testing.assert_close(DISTANCES[name]()(a, b), values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_distances_of_16_bit_vectors_are_computed_in_32(name: str, dtype: torch.dtype) -> None:
    distance = DISTANCES[name]()
    a, b = (torch.randn(4, 64) * 3).to(dtype).requires_grad_(), (torch.randn(3, 64) * 3).to(dtype).requires_grad_()
    values = distance(a, b)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, distance(a.detach().float(), b.detach().float()))
    assert torch.equal(distance(a, b.detach().float()), values), "prototypes may be float32 beside 16-bit vectors"
    values.sum().backward()
    for tensor in (a, b):
        assert tensor.grad is not None
        assert tensor.grad.dtype == dtype
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_are_finite_where_vectors_meet(name: str) -> None:
    a = torch.randn(3, 5)
    for b in (a.clone(), -a, torch.zeros(3, 5)):
        one, other = a.clone().requires_grad_(), b.requires_grad_()
        values = DISTANCES[name]()(one, other)
        values.sum().backward()
        assert torch.isfinite(values).all()
        assert torch.isfinite(one.grad).all()
        assert torch.isfinite(other.grad).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_the_exponential_map_undoes_the_logarithm(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = (hyperbolic.project(torch.randn(3, 4, generator=generator, dtype=torch.float64)) for _ in range(2))
    tangent = hyperbolic.log_map(x, y)
    torch.testing.assert_close(hyperbolic.mdot(x, tangent), torch.zeros(3, 1, dtype=x.dtype), rtol=0, atol=1e-9)
    torch.testing.assert_close(hyperbolic.norm(tangent), hyperbolic.dist(x, y), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(hyperbolic.exp_map(x, tangent), y, rtol=1e-6, atol=1e-9)


def test_hyperbolic_geometry() -> None:
    x = hyperbolic.project(torch.randn(4, 3))
    torch.testing.assert_close(hyperbolic.mdot(x, x), -torch.ones(4, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(hyperbolic.arccosh(torch.tensor([1.5, 30.0])), torch.acosh(torch.tensor([1.5, 30.0])))
    assert torch.isfinite(hyperbolic.arccosh(torch.tensor([-3.0, 0.5, 1.0]))).all()
    y = hyperbolic.project(torch.randn(4, 3))
    torch.testing.assert_close(hyperbolic.loss(x, y), hyperbolic.dist(x, y).square().sum())


def test_means() -> None:
    data = torch.randn(7, 4)
    torch.testing.assert_close(EuclideanMean()(data), data.mean(0))
    torch.testing.assert_close(HyperbolicMean()(data[:1]), data[0])
    torch.testing.assert_close(HyperbolicMean()(torch.cat([data, -data])), torch.zeros(4), rtol=0, atol=1e-6)
    # On a line the distance is the difference of rapidities: five steps of 2 % towards their mean.
    rapidity = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    start = torch.atanh(rapidity.sinh().sum() / rapidity.cosh().sum())
    found = torch.asinh(HyperbolicMean()(rapidity.sinh()[:, None]))[0]
    torch.testing.assert_close(found, start + (1 - 0.98**5) * (rapidity.mean() - start))


# --- prototypes ---


@pytest.mark.parametrize("name", [*DISTANCES, "EUCLIDEAN"])
@pytest.mark.parametrize("size", [None, 3])
def test_prototypes_score_by_negative_distance(name: str, size: int | None) -> None:
    decoder = PrototypicalDecoder(4, 6, size, distance_function=name, normal_distributed_initial_prototypes=True)
    embedded = torch.randn(5, 6)
    scores = decoder(embedded)
    assert scores.shape == (5, decoder.num_prototypes) == (5, 4)
    mapped = embedded if decoder.metric_space_decoder is None else decoder.metric_space_decoder(embedded)
    torch.testing.assert_close(scores, -DISTANCES[name.lower()]()(mapped, decoder.prototype_vectors))
    names = {"prototype_vectors"} | ({"metric_space_decoder.weight", "metric_space_decoder.bias"} if size else set())
    assert set(decoder.state_dict()) == names


def test_prototypes_begin_as_ones_or_noise() -> None:
    assert torch.equal(PrototypicalDecoder(3, 5).prototype_vectors.detach(), torch.ones(3, 5))
    noise = PrototypicalDecoder(200, 50, normal_distributed_initial_prototypes=True).prototype_vectors.detach()
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("mode", "learned"),
    [
        ("joint", {"input", "map", "prototypes"}),
        ("learn_only_map_and_prototypes", {"map", "prototypes"}),
        ("learn_only_prototypes", {"prototypes"}),
        ("learn_only_embeddings_and_map", {"input", "map"}),
        ("learn_only_embeddings", {"input"}),
    ],
)
def test_what_each_mode_learns(mode: str, learned: set[str]) -> None:
    decoder = PrototypicalDecoder(
        4, 6, 3, use_radius=True, learning_mode=mode, normal_distributed_initial_prototypes=True
    )
    embedded = torch.randn(5, 6, requires_grad=True)
    scores = decoder(embedded)
    scores[:, 0].sum().backward()
    parts = {
        "input": [embedded],
        "map": [decoder.metric_space_decoder.weight, decoder.metric_space_decoder.bias],
        "prototypes": [decoder.prototype_vectors, decoder.prototype_radii],
    }
    for part, tensors in parts.items():
        for tensor in tensors:
            moved = tensor.grad is not None and bool(tensor.grad.abs().sum() > 0)
            assert moved == (part in learned), part
    decoder.learning_mode = "joint"
    torch.testing.assert_close(decoder(embedded), scores)


def test_radii_widen_a_class() -> None:
    decoder = PrototypicalDecoder(3, 4, use_radius=True, min_radius=2)
    with torch.no_grad():
        decoder.prototype_radii.copy_(torch.tensor([-30.0, 0.0, 30.0]))
    radii = 2 + torch.tensor([[0.0, 0.6931472, 30.0]])
    embedded = torch.randn(2, 4)
    distance = (embedded - 1).square().sum(-1, keepdim=True)
    torch.testing.assert_close(decoder(embedded).detach(), -distance / radii)
    assert set(decoder.state_dict()) == {"prototype_vectors", "prototype_radii"}


def test_the_distance_to_no_label_is_fixed() -> None:
    decoder = PrototypicalDecoder(3, 4, unlabeled_idx=1, unlabeled_distance=2.5)
    embedded = torch.randn(2, 4, requires_grad=True)
    scores = decoder(embedded)
    assert scores[:, 1].tolist() == [-2.5, -2.5]
    scores.sum().backward()
    assert decoder.prototype_vectors.grad[1].abs().sum() == 0
    for half in ({"unlabeled_idx": 0}, {"unlabeled_distance": 0.0}):
        with pytest.raises(AssertionError, match=r"unlabeled_idx.*unlabeled_distance"):
            PrototypicalDecoder(3, 4, **half)


def test_an_unknown_distance() -> None:
    with pytest.raises(KeyError, match="manhattan"):
        PrototypicalDecoder(3, 4, distance_function="manhattan")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prototype_size": 3, "distance_function": "Hyperbolic", "learning_mode": "learn_only_prototypes"},
        {"use_radius": True, "min_radius": 1, "unlabeled_idx": 0, "unlabeled_distance": 0.5},
        {"normal_distributed_initial_prototypes": True, "distance_function": "logit_cosine"},
    ],
)
def test_prototypes_come_back_from_plain_data(options: dict) -> None:
    decoder = PrototypicalDecoder(4, 6, **options)
    params = decoder.to_params()
    assert all(isinstance(value, (int, float, str, type(None))) for value in params.values())
    again = PrototypicalDecoder.from_params(params)
    assert again.to_params() == params
    again.load_state_dict(decoder.state_dict())
    embedded = torch.randn(2, 6)
    assert torch.equal(again(embedded), decoder(embedded))


# --- nearest class mean ---


def ncm(**options) -> DeepNCMDecoder:
    decoder = DeepNCMDecoder(dictionary_of(), 4, **options)
    with torch.no_grad():
        decoder.class_prototypes.copy_(torch.arange(3 * decoder.encoding_dim).reshape(3, -1).float())
    return decoder


def test_ncm_scores_by_negative_squared_distance() -> None:
    decoder = ncm(encoding_dim=2)
    embedded = torch.randn(5, 4)
    expected = -torch.cdist(decoder.encoder(embedded), decoder.class_prototypes).square()
    torch.testing.assert_close(decoder(embedded), expected)
    assert decoder.num_prototypes == 3
    assert set(decoder.state_dict()) == {
        "class_prototypes", "class_counts", "encoder.0.weight", "encoder.0.bias", "encoder.2.weight", "encoder.2.bias",
    }  # fmt: skip
    assert [name for name, weight in decoder.named_parameters() if not weight.requires_grad] == [
        "class_prototypes",
        "class_counts",
    ]
    assert set(ncm(use_encoder=False, encoding_dim=9).state_dict()) == {"class_prototypes", "class_counts"}
    assert ncm(use_encoder=False, encoding_dim=9).encoding_dim == 4
    fresh = DeepNCMDecoder(dictionary_of(), 4)
    torch.testing.assert_close(fresh.class_prototypes.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("method", ["online", "condensation", "decay"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_prototypes_follow_the_means(method: str, multi_label: bool) -> None:
    decoder = ncm(use_encoder=False, mean_update_method=method, multi_label=multi_label, alpha=0.75)
    old = decoder.class_prototypes.detach().clone()
    embedded = torch.randn(4, 4)
    labels = (
        torch.tensor([[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1]]).float() if multi_label else torch.tensor([0] * 4)
    )
    apples = embedded[[0, 1, 3]] if multi_label else embedded
    decoder(embedded[:2], labels[:2])
    decoder(embedded[2:], labels[2:])
    assert torch.equal(decoder.class_prototypes, old), "nothing moves before the update"
    decoder.update_prototypes()
    expected = 0.75 * old[0] + 0.25 * apples.mean(0) if method == "decay" else apples.mean(0)
    torch.testing.assert_close(decoder.class_prototypes[0].detach(), expected)
    assert torch.equal(decoder.class_prototypes[1], old[1]), "a class that was not seen stays"
    assert decoder.class_counts.tolist() == [3, 0, 1] if multi_label else [4, 0, 0]

    decoder(embedded[:1], labels[:1])
    before = decoder.class_prototypes[0].detach().clone()
    count = float(decoder.class_counts[0])
    decoder.update_prototypes()
    if method == "decay":
        expected = 0.75 * before + 0.25 * embedded[0]
    else:
        expected = (before * count + embedded[0]) / (count + 1)
    torch.testing.assert_close(decoder.class_prototypes[0].detach(), expected)
    again = decoder.class_prototypes.detach().clone()
    decoder.update_prototypes()
    assert torch.equal(decoder.class_prototypes, again), "what was collected counts once"


def test_evaluation_teaches_nothing() -> None:
    decoder = ncm().eval()
    old = decoder.class_prototypes.detach().clone()
    decoder(torch.randn(2, 4), torch.tensor([0, 1]))
    decoder.train()
    decoder(torch.randn(2, 4))
    decoder.update_prototypes()
    assert torch.equal(decoder.class_prototypes, old)


def test_gradients_reach_encoder_and_input_of_ncm() -> None:
    decoder = ncm()
    embedded = torch.randn(3, 4, requires_grad=True)
    nn.functional.cross_entropy(decoder(embedded, torch.tensor([0, 1, 2])), torch.tensor([0, 1, 2])).backward()
    assert embedded.grad.abs().sum() > 0
    assert all(weight.grad.abs().sum() > 0 for weight in decoder.encoder.parameters())
    assert decoder.class_prototypes.grad is None


def test_ncm_in_bfloat16_counts_beyond_256() -> None:
    decoder = ncm(use_encoder=False).to(torch.bfloat16)
    scores = decoder(torch.full((1000, 4), 0.5, dtype=torch.bfloat16), torch.zeros(1000, dtype=torch.long))
    assert scores.dtype == torch.float32
    decoder.update_prototypes()
    assert decoder.class_prototypes[0].tolist() == [0.5] * 4
    assert decoder.class_prototypes.dtype == torch.bfloat16


def test_prototypes_by_name_and_by_nearness() -> None:
    decoder = ncm(use_encoder=False)
    assert decoder.get_prototype("pear").tolist() == [4, 5, 6, 7]
    for vector in (torch.tensor([4.0, 5, 6, 8]), torch.tensor([[4.0, 5, 6, 8]])):
        nearest = decoder.get_closest_prototypes(vector, top_k=2)
        assert nearest == [("pear", pytest.approx(1.0, abs=1e-4)), ("plum", pytest.approx(57.0, abs=1e-3))]
    assert len(decoder.get_closest_prototypes(torch.zeros(4))) == 3
    with pytest.raises(ValueError, match="'grape'"):
        decoder.get_prototype("grape")
    with pytest.raises(ValueError, match=r"\(3\).*\(4\)"):
        decoder.get_closest_prototypes(torch.zeros(3))
    with_unknown = DeepNCMDecoder(dictionary_of(add_unk=True), 4)
    with pytest.raises(ValueError, match="'grape'"):
        with_unknown.get_prototype("grape")


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_wrong_settings_of_ncm(alpha: float) -> None:
    with pytest.raises(AssertionError, match="alpha"):
        ncm(alpha=alpha)
    with pytest.raises(AssertionError, match="sometimes"):
        ncm(mean_update_method="sometimes")


def test_ncm_comes_back_from_plain_data() -> None:
    decoder = ncm(encoding_dim=2, alpha=0.3, mean_update_method="decay", multi_label=True)
    params = decoder.to_params()
    again = DeepNCMDecoder.from_params(params)
    assert again.to_params() == params
    again.load_state_dict(decoder.state_dict())
    assert again.label_dictionary.get_items() == LABELS
    embedded = torch.randn(2, 4)
    assert torch.equal(again(embedded), decoder(embedded))


# --- verbalized labels ---


class CountLetters(nn.Module):
    """A tiny trainable embedding of whole sentences."""

    embedding_length = 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def get_names(self) -> list[str]:
        return ["letters"]

    def embed(self, sentences: list[Sentence]) -> None:
        for sentence in sentences:
            counts = torch.tensor([float(sentence.text.count(letter)) for letter in "aep"])
            sentence.set_embedding("letters", self.scale * counts)


def test_labels_are_compared_by_their_names() -> None:
    embedding = CountLetters()
    decoder = LabelVerbalizerDecoder(embedding, dictionary_of())
    inputs = torch.randn(4, 3, requires_grad=True)
    scores = decoder(inputs)
    names = torch.tensor([[1.0, 1, 2], [1, 1, 1], [0, 0, 1]])  # apple, pear, plum
    torch.testing.assert_close(scores, inputs @ names.T)
    scores.sum().backward()
    assert embedding.scale.grad.abs().sum() > 0, "the label embedding is trained, too"
    assert all(not sentence.get_embedding().numel() for sentence in decoder.verbalized_labels), "nothing is left behind"
    with torch.no_grad():
        embedding.scale.mul_(2)
    torch.testing.assert_close(decoder(inputs), 2 * scores)
    assert set(decoder.state_dict()) == {"label_embedding.scale"}
    assert decoder(inputs.bfloat16()).dtype == torch.float32


def test_tags_of_spans_become_words() -> None:
    tags = ["O", "S-PER", "B-geo-political entity", "I-PER", "E-PER", "B", "X-RAY", "<unk>"]

    def texts(**options) -> list[str]:
        return [s.text for s in LabelVerbalizerDecoder.verbalize_labels(dictionary_of(tags, **options))]

    words = ["outside", "single PER", "begin geo-political entity", "inside PER", "ending PER", "B", "X-RAY", "<unk>"]
    assert texts(span_labels=True) == words
    assert texts(span_labels=False) == tags


def test_verbalized_labels_come_back_from_plain_data() -> None:
    embedding = CountLetters()
    decoder = LabelVerbalizerDecoder(embedding, dictionary_of(["B-PER", "O"], span_labels=True))
    again = LabelVerbalizerDecoder.from_params(decoder.to_params(), embedding)
    assert [s.text for s in again.verbalized_labels] == ["begin PER", "outside"]
    inputs = torch.randn(2, 3)
    assert torch.equal(again(inputs), decoder(inputs))


# --- loss ---


def test_sigmoid_loss_takes_classes_as_independent() -> None:
    scores, gold = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    each = -torch.sigmoid(scores)[torch.arange(5), gold].log()
    torch.testing.assert_close(SigmoidLoss()(scores, gold), each.mean())
    torch.testing.assert_close(SigmoidLoss(reduction="sum")(scores, gold), each.sum())
    torch.testing.assert_close(SigmoidLoss(reduction="none")(scores, gold), each)
    weight = torch.tensor([1.0, 3.0, 0.5])
    weighted = (each * weight[gold]).sum() / weight[gold].sum()
    torch.testing.assert_close(SigmoidLoss(weight=weight)(scores, gold), weighted)
    far = torch.tensor([[-500.0, 500.0]], requires_grad=True)
    loss = SigmoidLoss()(far, torch.tensor([0]))
    loss.backward()
    assert (loss.item(), far.grad.tolist()) == (500.0, [[-1.0, 0.0]])
