"""Linear layers by oneDNN: the same values and gradients, and the original wherever it does not suit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from flair.nn import onednn
from flair.nn.onednn import FEWEST_ROWS, QuickLinear, faster_here, quick_linear, quick_products

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this build of torch comes without oneDNN"
)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of the products that oneDNN computed."""
    shapes: list[torch.Size] = []
    original = onednn._product

    def noted(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        shapes.append(input.shape)
        return original(input, weight, bias)

    monkeypatch.setattr(onednn, "_product", noted)
    return shapes


@pytest.mark.parametrize("shape", [(64, 128), (1, 40, 128), (3, 20, 2, 128)])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients(shape: tuple[int, ...], biased: bool, products: list[torch.Size]) -> None:
    torch.manual_seed(0)
    leaves = [torch.randn(*shape), torch.randn(256, 128), *([torch.randn(256)] if biased else [])]
    for leaf in leaves:
        leaf.requires_grad_()
    ours, original = quick_linear(*leaves), functional.linear(*leaves)
    torch.testing.assert_close(ours, original, atol=1e-4, rtol=1e-5)
    weights = torch.randn_like(original)
    gradients = torch.autograd.grad((ours * weights).sum(), leaves)
    expected = torch.autograd.grad((original * weights).sum(), leaves)
    torch.testing.assert_close(gradients, expected, atol=1e-3, rtol=1e-5)
    assert len(products) == 3  # the output and the gradients of input and weight


def test_only_the_gradients_asked_for(products: list[torch.Size]) -> None:
    input, weight = torch.randn(64, 128, requires_grad=True), torch.randn(256, 128)
    quick_linear(input, weight, torch.randn(256)).sum().backward()
    assert input.grad is not None
    assert weight.grad is None
    assert len(products) == 2


UNSUITABLE: dict[str, tuple[Any, ...]] = {
    "bfloat16": (torch.randn(64, 128).bfloat16(), torch.randn(256, 128).bfloat16(), None),
    "float64": (torch.randn(64, 128).double(), torch.randn(256, 128).double(), None),
    "few rows": (torch.randn(FEWEST_ROWS - 1, 128), torch.randn(256, 128), None),
    "few weights": (torch.randn(64, 8), torch.randn(16, 8), None),
    "a vector": (torch.randn(128), torch.randn(256, 128), torch.randn(256)),
}


@pytest.mark.parametrize("case", UNSUITABLE)
def test_what_does_not_suit_is_left_to_torch(case: str, products: list[torch.Size]) -> None:
    arguments = UNSUITABLE[case]
    assert torch.equal(quick_linear(*arguments), functional.linear(*arguments))
    assert products == []


def test_mixed_precision_is_left_to_torch(products: list[torch.Size]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert quick_linear(torch.randn(64, 128), torch.randn(256, 128)).dtype == torch.bfloat16
    assert products == []


def test_shapes_that_do_not_fit_fail_as_torch_does() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        quick_linear(torch.randn(64, 100), torch.randn(256, 128))


def test_modules_inside_the_mode(products: list[torch.Size]) -> None:
    layer, input = torch.nn.Linear(128, 256), torch.randn(64, 128)
    expected = layer(input)
    assert products == []
    with QuickLinear():
        inside = layer(input)
    torch.testing.assert_close(inside, expected, atol=1e-5, rtol=1e-5)
    assert len(products) == 1
    layer(input)
    assert len(products) == 1


def test_graphs_that_are_recorded_hold_torchs_own_products(
    monkeypatch: pytest.MonkeyPatch, products: list[torch.Size]
) -> None:
    monkeypatch.setattr(onednn, "_is_slow_with_mkl", lambda: True)
    layer, input = torch.nn.Linear(128, 256).requires_grad_(False), torch.randn(64, 128)

    def compute(values: torch.Tensor) -> torch.Tensor:
        with quick_products():
            return layer(values)

    compute(input)
    assert len(products) == 1
    torch.jit.trace(compute, input, check_trace=False)
    assert len(products) == 1


def test_switching_onednn_off(products: list[torch.Size]) -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        assert not faster_here()
        with quick_products():
            torch.nn.Linear(128, 256)(torch.randn(64, 128))
    assert products == []
