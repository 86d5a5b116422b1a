"""Derivatives beyond the gradient: the kernels refuse them, and plain PyTorch has them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from shortcut_snn.neurons import LIF, ATan, NormNeuron, use_backend

from .every_neuron import currents
from .reference import unrolled

pytestmark = pytest.mark.usefixtures("kernels")


def dual(module: nn.Module, x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        return module(forward_ad.make_dual(x, torch.ones_like(x)))


FORWARD_MODES: list[Callable[[nn.Module, Tensor], object]] = [
    dual,
    lambda module, x: torch.func.jvp(module, (x,), (torch.ones_like(x),)),
    lambda module, x: torch.autograd.functional.jacobian(module, x, strategy="forward-mode", vectorize=True),
]


@pytest.mark.parametrize("derive", FORWARD_MODES, ids=["dual", "jvp", "jacobian"])
@pytest.mark.parametrize("module", [LIF(surrogate=ATan()), NormNeuron(nn.BatchNorm1d(5), LIF()).eval()])
def test_the_kernels_refuse_forward_mode(module: nn.Module, derive: Callable[[nn.Module, Tensor], object]) -> None:
    with torch.no_grad(), pytest.raises(NotImplementedError, match="forward-mode"):
        derive(module, currents(3, 2, 5))


def test_forward_mode_equals_reverse_mode_in_plain_pytorch() -> None:
    neuron, x = LIF(surrogate=ATan()), currents(4, 2, 3)
    with use_backend("eager"):
        forward, reverse = torch.func.jacfwd(neuron)(x), torch.func.jacrev(neuron)(x)
    assert reverse.any()
    torch.testing.assert_close(forward, reverse)
    torch.testing.assert_close(reverse, torch.autograd.functional.jacobian(neuron, x), rtol=1e-5, atol=1e-6)


def second_derivative(run: Callable[[Tensor], Tensor]) -> Tensor:
    """Of a loss that is linear in the spikes: the gradient that reaches the neuron is a constant."""
    current, weight = currents(4, 2, 3).double(), currents(4, 2, 3, seed=2).double()
    w = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad((run((current * w + 0.3 * w * w).float()) * weight).sum(), w, create_graph=True)
    return torch.autograd.grad(g, w)[0]


def test_a_second_derivative_is_refused_or_right() -> None:
    neuron = LIF(surrogate=ATan())
    with pytest.raises(RuntimeError, match="second derivative"):
        second_derivative(neuron)
    with use_backend("eager"):
        got = second_derivative(neuron)
    want = second_derivative(lambda x: unrolled(x, 0.5, 1.0, ATan(), "hard", False)[0])
    assert want.abs() > 0.1
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_checkpointing_changes_no_gradient(backend: str) -> None:
    stage, x = nn.Sequential(nn.Linear(5, 5), LIF(surrogate=ATan())), currents(4, 2, 5)
    gradients = []
    with use_backend(backend):
        for out in (stage(x), checkpoint(stage, x, use_reentrant=False)):
            gradients.append(torch.autograd.grad(out.square().sum(), stage[0].weight)[0])
    assert gradients[0].any()
    assert torch.equal(*gradients)
