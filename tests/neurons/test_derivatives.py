"""Derivatives beyond the gradient: the kernels refuse them, and plain PyTorch has them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from shortcut_snn.neurons import LIF, PLIF, ATan, NormNeuron, use_backend

from .every_neuron import currents
from .reference import unrolled

pytestmark = pytest.mark.usefixtures("kernels")


def dual(module: nn.Module, x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(module(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


@pytest.mark.parametrize("module", [LIF(surrogate=ATan()), NormNeuron(nn.BatchNorm1d(5), LIF()).eval()])
def test_the_kernels_refuse_forward_mode(module: nn.Module) -> None:
    with torch.no_grad(), pytest.raises(NotImplementedError, match="forward-mode"):
        dual(module, currents(3, 2, 5))


def test_without_gradients_there_are_tangents() -> None:
    neuron, x = LIF(surrogate=ATan()), currents(3, 2, 5)
    with use_backend("eager"):
        expected = dual(neuron, x)
        assert expected.any()
        with torch.no_grad():
            assert torch.equal(dual(neuron, x), expected)
            assert torch.equal(torch.func.jvp(neuron, (x,), (torch.ones_like(x),))[1], expected)


def gradient_per_sample(neuron: nn.Module, x: Tensor) -> dict[str, Tensor]:
    def loss(parameters: dict[str, Tensor], current: Tensor) -> Tensor:
        return torch.func.functional_call(neuron, parameters, (current,)).square().sum()

    parameters = {name: value.detach() for name, value in neuron.named_parameters()}
    return torch.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x.unsqueeze(2))


TRANSFORMS: list[Callable[[nn.Module, Tensor], object]] = [
    lambda neuron, x: torch.func.jacrev(neuron)(x),
    lambda neuron, x: torch.func.jacfwd(neuron)(x),
    lambda neuron, x: torch.func.jvp(neuron, (x,), (torch.ones_like(x),)),
    lambda neuron, x: torch.vmap(neuron, in_dims=1, out_dims=1)(x.unsqueeze(2)),
    gradient_per_sample,
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=["jacrev", "jacfwd", "jvp", "vmap", "gradient_per_sample"])
def test_transforms_run_in_plain_pytorch(transform: Callable[[nn.Module, Tensor], object]) -> None:
    neuron, x = PLIF(surrogate=ATan()), currents(4, 2, 3)
    found = transform(neuron, x)
    with use_backend("eager"):
        torch.testing.assert_close(found, transform(neuron, x), rtol=0, atol=0)


def test_forward_mode_equals_reverse_mode_in_plain_pytorch() -> None:
    neuron, x = LIF(surrogate=ATan()), currents(4, 2, 3)
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
