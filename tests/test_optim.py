"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from flair.optim import SGDW, ExpAnnealLR, LinearSchedulerWithWarmup, ReduceLRWDOnPlateau


def run(optimizer_class: type, steps: int = 4, **options) -> torch.Tensor:
    parameter = torch.nn.Parameter(torch.arange(1.0, 5.0))
    unused = torch.nn.Parameter(torch.ones(2))
    optimizer = optimizer_class([parameter, unused], **options)
    for _ in range(steps):
        optimizer.zero_grad()
        ((parameter**2).sum() + parameter.sin().sum()).backward()
        optimizer.step()
    assert torch.equal(unused.detach(), torch.ones(2)), "a parameter without gradient changed"
    return parameter.detach()


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.9, "nesterov": True}],
)
def test_without_decay_it_is_sgd(options: dict) -> None:
    torch.testing.assert_close(run(SGDW, lr=0.1, **options), run(torch.optim.SGD, lr=0.1, **options))


def test_decay_is_apart_from_gradient_and_learning_rate() -> None:
    parameter = torch.nn.Parameter(torch.tensor([2.0, -4.0]))
    optimizer = SGDW([parameter], lr=0.5, momentum=0.9, weight_decay=0.1)
    parameter.grad = torch.tensor([1.0, 0.0])
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([2.0 * 0.9 - 0.5, -4.0 * 0.9]))
    # The momentum has only seen the gradient: with decay in it, the second weight would move on its own.
    parameter.grad = torch.zeros(2)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([1.3 - 0.5 * 0.9, -3.6]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "lr"),
        ({"lr": -1.0}, "learning rate: -1"),
        ({"lr": 0.1, "momentum": -0.5}, "momentum value: -0.5"),
        ({"lr": 0.1, "weight_decay": -0.5}, "weight_decay value: -0.5"),
        ({"lr": 0.1, "nesterov": True}, "Nesterov"),
        ({"lr": 0.1, "nesterov": True, "momentum": 0.9, "dampening": 0.1}, "Nesterov"),
    ],
)
def test_wrong_settings(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SGDW([torch.nn.Parameter(torch.ones(1))], **options)


def test_step_returns_the_closure_s_loss_and_keeps_its_gradient() -> None:
    parameter = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = SGDW([parameter], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert float(optimizer.step(closure)) == 9.0
    assert parameter.item() == pytest.approx(3.0 - 0.1 * 6.0)


def test_the_state_goes_on_where_it_stopped() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = SGDW([parameter], lr=0.1, momentum=0.9, weight_decay=0.01)
    parameter.grad = torch.tensor([1.0, 2.0, 3.0])
    optimizer.step()
    twin = torch.nn.Parameter(parameter.detach().clone())
    resumed = SGDW([twin], lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for used, weights in ((optimizer, parameter), (resumed, twin)):
        weights.grad = torch.ones(3)
        used.step()
    assert torch.equal(parameter.detach(), twin.detach())
    restored = pickle.loads(pickle.dumps(optimizer))
    assert restored.param_groups[0]["momentum"] == 0.9
    old = optimizer.__getstate__()
    for group in old["param_groups"]:
        group.pop("nesterov")
    restored.__setstate__(old)
    assert restored.param_groups[0]["nesterov"] is False


# --- schedules ---


def optimizer_with(*rates: float, weight_decay: float = 0.01) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=0.1, weight_decay=weight_decay)


def rates_of(scheduler, optimizer: torch.optim.Optimizer, steps: int) -> list[list[float]]:
    rates = [[group["lr"] for group in optimizer.param_groups]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
    return rates


def test_exponential_way_to_the_end_rate() -> None:
    optimizer = optimizer_with(0.1, 0.001)
    rates = rates_of(ExpAnnealLR(optimizer, end_lr=10.0, iterations=20), optimizer, 19)
    assert rates[-1] == pytest.approx([10.0, 10.0])
    first = [row[0] for row in rates]
    assert [after / before for before, after in itertools.pairwise(first)] == pytest.approx([100 ** (1 / 20)] * 19)
    assert first[0] == pytest.approx(0.1 * 100 ** (1 / 20)), "the first step is taken at once"


def test_linear_warm_up_and_decay() -> None:
    optimizer = optimizer_with(1.0, 0.5)
    rates = rates_of(LinearSchedulerWithWarmup(optimizer, num_train_steps=10, num_warmup_steps=4), optimizer, 12)
    expected = [0, 0.25, 0.5, 0.75, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0, 0]
    assert [row[0] for row in rates] == pytest.approx(expected)
    assert [row[1] for row in rates] == pytest.approx([rate / 2 for rate in expected])


@pytest.mark.parametrize(("steps", "warm_up"), [(0, 0), (1, 1), (3, 5), (4, 0)])
def test_linear_schedules_of_odd_lengths(steps: int, warm_up: int) -> None:
    optimizer = optimizer_with(1.0)
    rates = [row[0] for row in rates_of(LinearSchedulerWithWarmup(optimizer, steps, warm_up), optimizer, steps + 2)]
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    assert rates[-1] == 0.0 or warm_up > steps


settings_of_plateaus = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["min", "max"]),
        "factor": st.sampled_from([0.1, 0.5]),
        "patience": st.integers(0, 3),
        "cooldown": st.integers(0, 2),
        "threshold": st.sampled_from([0.0, 1e-4, 0.1]),
        "threshold_mode": st.sampled_from(["rel", "abs"]),
        "min_lr": st.sampled_from([0.0, 0.02]),
        "eps": st.sampled_from([1e-8, 0.03]),
    }
)


@settings(deadline=None, max_examples=80)
@given(options=settings_of_plateaus, metrics=st.lists(st.floats(0.01, 4), min_size=1, max_size=25))
def test_learning_rates_fall_as_torch_s_do(options: dict, metrics: list[float]) -> None:
    ours, theirs = optimizer_with(0.2, 0.05), optimizer_with(0.2, 0.05)
    decays, plateau = ReduceLRWDOnPlateau(ours, **options), ReduceLROnPlateau(theirs, **options)
    for metric in metrics:
        decays.step(metric)
        plateau.step(metric)
        assert [group["lr"] for group in ours.param_groups] == [group["lr"] for group in theirs.param_groups]
        assert decays.num_bad_epochs == plateau.num_bad_epochs
        assert decays.cooldown_counter == plateau.cooldown_counter
        assert decays.get_last_lr() == [group["lr"] for group in ours.param_groups]
    assert float(decays.best) == float(plateau.best)


def test_weight_decay_falls_with_the_learning_rate() -> None:
    optimizer = optimizer_with(0.2, 0.05)
    scheduler = ReduceLRWDOnPlateau(optimizer, factor=0.5, patience=1)
    seen = []
    for metric in (1.0, 1.0, 1.0, 1.0, 1.0, 0.5):
        scheduler.step(metric)
        seen.append([group["weight_decay"] for group in optimizer.param_groups])
    assert seen == [[0.01] * 2, [0.01] * 2, [0.005] * 2, [0.005] * 2, [0.0025] * 2, [0.0025] * 2]


def test_weight_decay_keeps_to_the_same_bounds() -> None:
    for options in ({"min_lr": 0.01}, {"eps": 0.02}, {"min_lr": 0.5}):
        optimizer = optimizer_with(0.2)
        scheduler = ReduceLRWDOnPlateau(optimizer, patience=0, **options)
        for _ in range(4):
            scheduler.step(1.0)
        assert optimizer.param_groups[0]["weight_decay"] == 0.01, options


def test_plateaus_need_no_weight_decay() -> None:
    optimizer = torch.optim.Rprop([torch.nn.Parameter(torch.ones(1))], lr=0.2)
    scheduler = ReduceLRWDOnPlateau(optimizer, factor=0.5, patience=0)
    scheduler.step(1.0)
    scheduler.step(torch.tensor(2.0), epoch=7)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert "weight_decay" not in optimizer.param_groups[0]
    assert scheduler.last_epoch == 7


def test_the_state_of_a_plateau_goes_on_where_it_stopped() -> None:
    first, second = optimizer_with(0.2), optimizer_with(0.2)
    scheduler, resumed = ReduceLRWDOnPlateau(first, patience=2), ReduceLRWDOnPlateau(second, patience=9)
    scheduler.step(1.0)
    scheduler.step(2.0)
    resumed.load_state_dict(pickle.loads(pickle.dumps(scheduler.state_dict())))
    for metric in (2.0, 2.0):
        scheduler.step(metric)
        resumed.step(metric)
    assert first.param_groups[0]["lr"] == second.param_groups[0]["lr"] == pytest.approx(0.02)
