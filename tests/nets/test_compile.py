"""torch.compile compiles networks and their wrapper without a graph break; results equal eager ones."""

import copy
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn import ShortcutOutput, nets
from shortcut_snn.method import LossSum
from shortcut_snn.neurons import PLIF, ATan

from ..compiling import FULLGRAPH
from ..method.wrapped import wrapped

pytestmark = pytest.mark.usefixtures("kernels")

# On a CPU inductor needs a C++ compiler.
HAS_COMPILER = shutil.which("g++") is not None or shutil.which("clang++") is not None
Step = tuple[Tensor, list[Tensor], dict[str, Tensor]]


def small(block: str = "basic") -> nets.SpikingResNet:
    torch.manual_seed(0)
    network = nets.SpikingResNet([1, 1], 3, 2, width=4, block=block, make_neuron=lambda: PLIF(surrogate=ATan()))
    return network.to(memory_format=torch.channels_last)


def images() -> Tensor:
    made = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return made.to(memory_format=torch.channels_last)


def step(model: nn.Module, run: Callable[..., object], loss_of: Callable[..., Tensor]) -> Step:
    """Loss, gradients and state after a training step of a model, which ``run`` calls."""
    loss = loss_of(run(images()))
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return loss.detach(), gradients, model.state_dict()


def assert_equals_eager(model: nn.Module, compiler: str, loss_of: Callable[..., Tensor]) -> None:
    compiled = copy.deepcopy(model)
    torch.compiler.reset()
    got = step(compiled, torch.compile(compiled, backend=compiler, fullgraph=FULLGRAPH), loss_of)
    torch.testing.assert_close(got, step(model, model, loss_of), rtol=1e-5, atol=1e-6)


def test_a_network() -> None:
    assert_equals_eager(small("ms"), "aot_eager", lambda logits: logits.square().sum())


def test_a_network_in_the_wrapper() -> None:
    def loss(output: ShortcutOutput) -> Tensor:
        assert len(output.branches) == 1
        return LossSum()(output, torch.tensor([0, 1, 2, 1]), 0.25)

    assert_equals_eager(wrapped(small(), num_classes=3), "inductor" if HAS_COMPILER else "aot_eager", loss)
