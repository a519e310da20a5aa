"""Character language models: states, files, generation, perplexity."""

from __future__ import annotations

import pickle

import pytest
import torch

from flair.data import Dictionary
from flair.models import LanguageModel


def characters() -> Dictionary:
    made = Dictionary()
    for character in "abcdefghij .\n":
        made.add_item(character)
    return made


def model(forward: bool = True, **options) -> LanguageModel:
    torch.manual_seed(0)
    made = LanguageModel(
        characters(), forward, hidden_size=6, nlayers=options.pop("nlayers", 1), embedding_size=4, **options
    )
    for parameter in made.parameters():
        parameter.data.mul_(5)
    return made.eval()


VARIANTS = [{}, {"recurrent_type": "GRU"}, {"nlayers": 2, "nout": 3}]


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("options", VARIANTS)
@torch.no_grad()
def test_states_are_those_of_reading_one_text_at_once(forward, options):
    lm = model(forward, **dict(options))
    texts = ["abc def.", "j", "a bad cab"]
    together = lm.get_representation(texts, "\n", " ", chars_per_chunk=3)
    for column, text in enumerate(texts):
        framed = "\n" + (text if forward else text[::-1]) + " "
        output, _ = lm(torch.tensor(lm.indices(framed)).view(-1, 1), lm.init_hidden(1), decode=False)
        assert torch.allclose(together[: len(framed), column], output[:, 0], atol=1e-6)


@pytest.mark.parametrize("options", VARIANTS)
@torch.no_grad()
def test_read_states_picks_from_the_representation(options, monkeypatch):
    lm = model(**dict(options))
    texts = ["\nabc def. ", "\nj ", "\na bad cab "]
    positions = [[9, 1, 4], [], [0, 10]]
    every = [lm.get_representation([text], "", "", 512)[:, 0] for text in texts]
    expected = torch.stack([every[i][p] for i, row in enumerate(positions) for p in row])
    assert torch.allclose(lm.read_states(texts, positions, chars_per_chunk=4), expected, atol=1e-6)
    monkeypatch.setattr("flair.nn.language_model.CHARACTERS_PER_RUN", 5)
    assert torch.allclose(lm.read_states(texts, positions), expected, atol=1e-6)
    assert lm.read_states(["\na "], [[]]).shape == (0, lm.output_size)


def test_indices_of_unknown_and_rare_characters():
    lm = model()
    assert lm.indices("aé😀\n").tolist() == [1, 0, 0, 13]
    assert lm.indices("").tolist() == []


@pytest.mark.parametrize("options", VARIANTS)
def test_file_round_trip(tmp_path, options):
    lm = model(**dict(options))
    lm.save(tmp_path / "lm.pt")
    back = LanguageModel.load_language_model(tmp_path / "lm.pt")
    assert not back.training
    assert back.state_dict().keys() == lm.state_dict().keys()
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in lm.state_dict().items())
    assert back.dictionary == lm.dictionary
    assert back.calculate_perplexity("abc") == lm.calculate_perplexity("abc")
    bare = LanguageModel.load_language_model(tmp_path / "lm.pt", has_decoder=False)
    assert bare.decoder is None
    with pytest.raises(ValueError, match="has_decoder"):
        bare.calculate_perplexity("abc")


def test_pickle_round_trip():
    lm = model()
    back = pickle.loads(pickle.dumps(lm))
    assert back.eval().calculate_perplexity("abc") == lm.calculate_perplexity("abc")


def test_bfloat16_survives_a_file(tmp_path):
    lm = model().to(torch.bfloat16)
    lm.save(tmp_path / "lm.pt")
    back = LanguageModel.load_language_model(tmp_path / "lm.pt")
    assert {p.dtype for p in back.parameters()} == {torch.bfloat16}
    assert torch.equal(back.encoder.weight, lm.encoder.weight)
    assert back.calculate_perplexity("abc") == lm.calculate_perplexity("abc")
    assert isinstance(back.generate_text("a", 5)[0], str)


def test_checkpoint(tmp_path):
    lm = model()
    optimizer = torch.optim.SGD(lm.parameters(), lr=0.5, momentum=0.9)
    lm.save_checkpoint(tmp_path / "checkpoint.pt", optimizer, epoch=3, split=2, loss=1.25)
    back = LanguageModel.load_checkpoint(tmp_path / "checkpoint.pt")
    assert (back["epoch"], back["split"], back["loss"]) == (3, 2, 1.25)
    assert back["optimizer_state_dict"]["param_groups"][0]["lr"] == 0.5
    assert back["model"].calculate_perplexity("abc") == lm.calculate_perplexity("abc")


def test_generation():
    for forward in (True, False):
        lm = model(forward)
        torch.manual_seed(4)
        text, score = lm.generate_text("ab", 30)
        torch.manual_seed(4)
        assert lm.generate_text("ab", 30) == (text, score)
        assert (text if forward else text[::-1]).startswith("ab")
        assert score > 0
    text, _ = model().generate_text("ab", 200, break_on_suffix="c")
    assert "c" not in text[2:-1]
    for wrong in ({"prefix": ""}, {"temperature": 0.0}):
        with pytest.raises(ValueError):
            model().generate_text(**wrong)


def test_perplexity_is_that_of_the_predictions_and_ignores_dropout():
    lm = model(dropout=0.5).train()
    with torch.no_grad():
        value = lm.calculate_perplexity("abc def")
        assert value == lm.calculate_perplexity("abc def")
        assert lm.training
        indices = torch.tensor(lm.indices("abc def"))
        scores, _, _ = lm.eval()(indices[:-1].view(-1, 1), lm.init_hidden(1))
    expected = torch.nn.functional.cross_entropy(scores[:, 0], indices[1:]).exp()
    assert value == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match="two characters"):
        lm.calculate_perplexity("a")


def test_ordered_lengths_stop_states_at_the_end():
    lm = model()
    batch = torch.tensor([[1, 2], [3, 4], [5, 0]])
    _, output, hidden = lm(batch, lm.init_hidden(2), torch.tensor([3, 2]))
    _, alone, alone_hidden = lm(batch[:2, 1:], lm.init_hidden(1))
    assert torch.allclose(output[:2, 1], alone[:, 0], atol=1e-6)
    assert torch.allclose(hidden[0][:, 1], alone_hidden[0][:, 0], atol=1e-6)


@pytest.mark.parametrize(("options", "states"), [({}, 2), ({"nlayers": 2}, 2), ({"recurrent_type": "GRU"}, 1)])
@torch.no_grad()
def test_output_is_the_state_after_the_text(options, states):
    lm = model(**dict(options))
    output = lm.get_output("abc")
    assert [tuple(state.shape) for state in output] == [(options.get("nlayers", 1), 1, 6)] * states
    assert torch.equal(output[0][-1], lm.get_representation(["abc"], "", "")[-1])
