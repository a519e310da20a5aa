"""The CRF against an enumeration of all paths."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flair.data import Dictionary, Sentence
from flair.models.sequence_tagger_utils.viterbi import ViterbiDecoder, ViterbiLoss
from flair.nn import crf


@st.composite
def lattices(draw):
    tags = draw(st.integers(2, 4))
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    spread = draw(st.sampled_from([0.5, 3.0, 30.0]))
    emissions = torch.randn(len(lengths), max(lengths), tags) * spread
    transitions = torch.randn(tags, tags) * spread
    transitions[tags - 2, :] = crf.FORBIDDEN
    transitions[:, tags - 1] = crf.FORBIDDEN
    return emissions, torch.tensor(lengths), transitions, tags - 2, tags - 1


def enumerate_paths(emissions, transitions, start, stop):
    """All paths of one sentence with their scores, in float64."""
    paths = list(itertools.product(range(emissions.size(1)), repeat=emissions.size(0)))
    scores = []
    for path in paths:
        score, before = torch.zeros((), dtype=torch.float64), start
        for time, tag in enumerate(path):
            score = score + emissions[time, tag].double() + transitions[tag, before].double()
            before = tag
        scores.append(score + transitions[stop, before].double())
    return paths, torch.stack(scores)


@settings(max_examples=40, deadline=None)
@given(lattices())
def test_equals_brute_force(lattice):
    emissions, lengths, transitions, start, stop = lattice
    totals = crf.log_partition(emissions, lengths, transitions, start, stop)
    posteriors = crf.marginals(emissions, lengths, transitions, start, stop)
    decoded = crf.viterbi(emissions, lengths, transitions, start, stop)
    for row, length in enumerate(lengths.tolist()):
        paths, scores = enumerate_paths(emissions[row, :length], transitions, start, stop)
        assert float(totals[row]) == pytest.approx(float(torch.logsumexp(scores, 0)), rel=1e-4, abs=1e-3)
        expected = torch.zeros(length, emissions.size(2), dtype=torch.float64)
        for path, probability in zip(paths, torch.softmax(scores, 0)):
            expected[range(length), path] += probability
        assert torch.allclose(posteriors[row, :length].double(), expected, atol=2e-3)
        assert posteriors[row, length:].abs().sum() == 0
        best = tuple(decoded.tags[row, :length].tolist())
        assert float(scores[paths.index(best)]) == pytest.approx(float(scores.max()), rel=1e-5, abs=1e-2)


@settings(max_examples=20, deadline=None)
@given(lattices())
def test_added_transitions_and_padding_change_nothing(lattice):
    emissions, lengths, transitions, start, stop = lattice
    added = emissions.unsqueeze(-1) + transitions
    gold = torch.zeros(emissions.shape[:2], dtype=torch.long)
    longer = torch.cat([emissions, torch.full_like(emissions[:, :1], 50.0)], dim=1)
    for other, tags in ((added, gold), (longer, torch.cat([gold, gold[:, :1]], dim=1))):
        for function in (crf.log_partition, crf.marginals, crf.viterbi):
            one = function(emissions, lengths, transitions, start, stop)
            two = function(other, lengths, transitions, start, stop)
            if function is crf.log_partition:
                assert torch.allclose(one, two, rtol=1e-4, atol=1e-3)
                continue
            one, two = (one.tags, two.tags) if function is crf.viterbi else (one, two)
            for row, length in enumerate(lengths.tolist()):
                assert torch.allclose(one[row, :length].float(), two[row, :length].float(), atol=1e-3)
        one = crf.path_score(emissions, lengths, transitions, gold, start, stop)
        assert torch.allclose(one, crf.path_score(other, lengths, transitions, tags, start, stop), rtol=1e-4, atol=1e-3)


def test_gradient_of_the_partition_is_the_marginals():
    torch.manual_seed(0)
    emissions = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    transitions = torch.randn(6, 6, dtype=torch.float64)
    lengths = torch.tensor([5, 3])
    (gradient,) = torch.autograd.grad(crf.log_partition(emissions, lengths, transitions, 4, 5).sum(), emissions)
    assert torch.allclose(gradient, crf.marginals(emissions, lengths, transitions, 4, 5), atol=1e-9)


@pytest.fixture
def dictionary():
    made = Dictionary(add_unk=False)
    for item in ("O", "S-A", "B-A", "E-A", "I-A"):
        made.add_item(item)
    made.set_start_stop_tags()
    return made


def test_layer_forbids_start_and_stop(dictionary):
    layer = crf.CRF(dictionary, len(dictionary), init_from_state_dict=False)
    assert set(layer.state_dict()) == {"transitions"}
    assert (layer.transitions[5] == crf.FORBIDDEN).all()
    assert (layer.transitions[:, 6] == crf.FORBIDDEN).all()
    assert (layer.transitions[:5, :5] > crf.FORBIDDEN).all()
    loaded = crf.CRF(dictionary, len(dictionary), init_from_state_dict=True)
    assert (loaded.transitions > crf.FORBIDDEN).all()


def test_loss_and_decoder_modules(dictionary):
    torch.manual_seed(1)
    layer = crf.CRF(dictionary, len(dictionary), init_from_state_dict=False)
    emissions, lengths = torch.randn(2, 3, 7), torch.tensor([3, 2])
    features = (layer(emissions), lengths, layer.transitions)
    flat = torch.tensor([0, 2, 3, 1, 0])
    padded = torch.tensor([[0, 2, 3], [1, 0, 0]])
    loss = ViterbiLoss(dictionary)
    assert torch.allclose(loss(features, flat), loss((emissions, lengths, layer.transitions), padded), atol=1e-4)
    with pytest.raises(ValueError, match="4 gold tags for 5 tokens"):
        loss(features, flat[:4])

    sentences = [Sentence(["a", "b", "c"]), Sentence(["d", "e"])]
    paths, labels = ViterbiDecoder(dictionary).decode(features, True, sentences)
    assert [len(path) for path in paths] == [3, 2]
    for path, rows in zip(paths, labels):
        for (tag, score), row in zip(path, rows):
            assert sum(label.score for label in row) == pytest.approx(1.0, abs=1e-5)
            assert max(row, key=lambda label: label.score).value == tag
            assert score == pytest.approx(max(label.score for label in row))
    assert ViterbiDecoder(dictionary).decode(features, False, sentences)[1] == []


def test_half_precision_inputs_are_computed_in_float32(dictionary):
    torch.manual_seed(2)
    emissions = torch.randn(3, 40, 7, dtype=torch.bfloat16)
    transitions = torch.randn(7, 7, dtype=torch.bfloat16)
    lengths = torch.tensor([40, 12, 1])
    half = crf.log_partition(emissions, lengths, transitions, 5, 6)
    assert half.dtype == torch.float32
    assert torch.equal(half, crf.log_partition(emissions.float(), lengths, transitions.float(), 5, 6))
    assert crf.viterbi(emissions, lengths, transitions, 5, 6).scores.dtype == torch.float32
