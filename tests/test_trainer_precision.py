"""Training in 16-bit types, and with a part of the vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import Parameter
from trainer_tools import TinyClassifier, tiny_corpus, tiny_model

import flair
from flair.trainers import ModelTrainer
from flair.trainers.master_weights import MasterWeights
from flair.trainers.plugins import TrainerPlugin
from flair.trainers.plugins.functional.reduce_transformer_vocab import ReducedEmbedding


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flair._runtime, "device", torch.device("cpu"))


def fine_tune(model: Any, folder: Path, **options: Any) -> dict[str, Any]:
    return ModelTrainer(model, tiny_corpus()).fine_tune(folder, **options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_updates_of_16_bit_weights_are_not_lost(dtype: torch.dtype) -> None:
    weight = Parameter(torch.ones(4, dtype=dtype))
    masters = MasterWeights()
    optimizer = torch.optim.SGD([masters.for_optimizer(weight)], lr=1e-4)
    for _ in range(200):
        weight.grad = torch.ones_like(weight)
        masters.take_gradients()
        optimizer.step()
        masters.give_values()
    # A single update of 0.0001 is below what either type can tell from 1.
    torch.testing.assert_close(weight.float(), torch.full((4,), 0.98), atol=0.005, rtol=0)
    naive = Parameter(torch.ones(4, dtype=dtype))
    naive.data -= 1e-4 * torch.ones_like(naive)
    assert torch.equal(naive, torch.ones_like(naive))


def test_master_weights_leave_float32_alone() -> None:
    masters, weight = MasterWeights(), Parameter(torch.ones(2))
    assert masters.for_optimizer(weight) is weight
    assert len(masters) == 0
    masters.take_gradients()
    masters.give_values()


def test_shared_weights_have_one_master() -> None:
    masters, weight = MasterWeights(), Parameter(torch.ones(2, dtype=torch.bfloat16))
    assert masters.for_optimizer(weight) is masters.for_optimizer(weight)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8))
def test_master_weights_survive_a_round_trip(values: list[float]) -> None:
    weight = Parameter(torch.tensor(values).bfloat16())
    first = MasterWeights()
    master = first.for_optimizer(weight)
    master.data += torch.tensor(values) * 1e-3
    second = MasterWeights()
    copied = second.for_optimizer(weight)
    second.load_state_dict(first.state_dict())
    assert torch.equal(master, copied)
    second.refresh()
    assert torch.equal(copied, weight.float())


def test_master_weights_of_another_model_are_refused() -> None:
    first, second = MasterWeights(), MasterWeights()
    first.for_optimizer(Parameter(torch.ones(2, dtype=torch.bfloat16)))
    second.for_optimizer(Parameter(torch.ones(3, dtype=torch.bfloat16)))
    with pytest.raises(ValueError, match="float32 copies"):
        second.load_state_dict(first.state_dict())


def test_a_bfloat16_model_learns_at_a_small_rate(tmp_path: Path) -> None:
    model = tiny_model().to(torch.bfloat16)
    before = model.decoder.weight.detach().clone()
    losses: list[float] = []

    class Look(TrainerPlugin):
        @TrainerPlugin.hook
        def metric_recorded(self, record: Any) -> None:
            if record.name == "train/loss":
                losses.append(record.value)

    fine_tune(model, tmp_path, learning_rate=1e-5, max_epochs=60, plugins=[Look()], attach_default_scheduler=False)
    assert losses[-1] < losses[0] - 1e-3
    assert model.decoder.weight.dtype == torch.bfloat16
    assert not torch.equal(before, model.decoder.weight)
    assert TinyClassifier.load(tmp_path / "final-model.pt").decoder.weight.dtype == torch.bfloat16


def test_master_weights_follow_the_float32_course(tmp_path: Path) -> None:
    """What the optimizer holds after a bfloat16 training is close to what a float32 training gives."""
    masters: list[torch.Tensor] = []

    class Look(TrainerPlugin):
        @TrainerPlugin.hook
        def after_training_loop(self) -> None:
            masters.extend(self.trainer.optimizer.param_groups[0]["params"])

    start = tiny_model().to(torch.bfloat16)
    reference = tiny_model()
    reference.load_state_dict({name: tensor.float() for name, tensor in start.state_dict().items()})
    for model, plugins, folder in ((start, [Look()], "a"), (reference, [], "b")):
        fine_tune(model, tmp_path / folder, learning_rate=1e-3, max_epochs=3, shuffle=False, plugins=plugins)
    for master, expected in zip(masters, reference.parameters(), strict=True):
        assert master.dtype == torch.float32
        torch.testing.assert_close(master, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("amp_dtype", [None, "bfloat16", torch.bfloat16])
def test_mixed_precision_computes_in_bfloat16_on_cpus(tmp_path: Path, amp_dtype: Any) -> None:
    seen: set[torch.dtype] = set()

    class Watching(TinyClassifier):
        def scores(self, batch: Any) -> torch.Tensor:
            result = super().scores(batch)
            if self.training:
                seen.add(result.dtype)
            return result

    flair.set_seed(2)
    model = Watching()
    result = fine_tune(model, tmp_path, learning_rate=0.1, use_amp=True, amp_dtype=amp_dtype, max_epochs=12)
    assert seen == {torch.bfloat16}
    assert model.decoder.weight.dtype == torch.float32
    assert result["test_score"] == 1.0


def test_float16_scales_losses_and_reports_skipped_steps(tmp_path: Path) -> None:
    ran: list[bool] = []

    class Look(TrainerPlugin):
        @TrainerPlugin.hook
        def after_training_batch(self, optimizer_was_run: bool, **kw: Any) -> None:
            ran.append(optimizer_was_run)

    class Steep(TinyClassifier):
        def forward_loss(self, data_points: Any) -> Any:
            loss, count = super().forward_loss(data_points)
            return loss * 100, count  # times the first scale of 65536 this is beyond float16

    flair.set_seed(2)
    fine_tune(Steep(), tmp_path, use_amp=True, amp_dtype="float16", max_epochs=2, plugins=[Look()])
    assert ran[0] is False
    assert ran[-1] is True


def test_float16_training_learns(tmp_path: Path) -> None:
    result = fine_tune(tiny_model(), tmp_path, learning_rate=0.1, use_amp=True, amp_dtype="float16", max_epochs=12)
    assert result["test_score"] == 1.0


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(3, 12), st.sampled_from([None, 0]))
def test_a_reduced_embedding_equals_the_full_one(data: st.DataObject, vocabulary: int, padding: Any) -> None:
    ids = st.integers(0, vocabulary - 1)
    used = torch.tensor(sorted(data.draw(st.sets(ids, min_size=1))))
    text = torch.tensor(data.draw(st.lists(st.lists(ids, min_size=3, max_size=3), min_size=1, max_size=3)))
    full = nn.Embedding(vocabulary, 2, padding_idx=padding)
    reduced = ReducedEmbedding(full, used)
    assert torch.equal(full(text), reduced(text))
    assert torch.equal(reduced.state_dict()["weight"], full.weight)
    assert list(reduced.state_dict()) == ["weight"]
    other = nn.Embedding(vocabulary, 2)
    reduced.load_state_dict(other.state_dict())
    assert torch.equal(reduced.weight, other.weight[used])
    assert torch.equal(reduced.full_matrix(), other.weight)


def test_a_reduced_embedding_trains_like_the_full_one() -> None:
    full = nn.Embedding(6, 3)
    used = torch.tensor([1, 3, 4])
    reduced = ReducedEmbedding(full, used)
    text = torch.tensor([[1, 3], [4, 1]])
    for module in (full, reduced):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        module(text).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(reduced.full_matrix(), full.weight)
    assert reduced.weight.shape == (3, 3)
