"""A folded network runs built-in and third-party neurons as they are."""

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn import nets
from shortcut_snn.deploy import fold
from shortcut_snn.deploy.single_step import SingleStep
from shortcut_snn.introspection.neurons import spiking_layers
from shortcut_snn.neurons import LIF, Neuron
from shortcut_snn.neurons.current_neuron import CurrentNeuron, Membrane


class Half(LIF):
    """Halves its current; can be streamed."""

    def stream(self, current: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().stream(0.5 * current, initial)


class Adaptive(Neuron):
    """Its threshold rises with each spike; cannot be streamed."""

    def forward(self, current: Tensor) -> Tensor:
        extra, spikes = torch.zeros_like(current[0]), []
        for step in current:
            spikes.append((step > self.threshold + extra).to(step.dtype))
            extra = 0.5 * extra + 0.2 * spikes[-1]
        return torch.stack(spikes)


class Wrapped(nn.Module):
    """Not a neuron of this library, but contains one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = LIF()

    def forward(self, current: Tensor) -> Tensor:
        return 1 - self.inner(current)


def network(make: type[nn.Module], block: str = "basic") -> nets.SpikingNetwork:
    torch.manual_seed(1)
    built = nets.spiking_resnet8(10, 3, width=4, make_neuron=make, block=block).double().train()
    with torch.no_grad():
        for _ in range(5):
            built(torch.rand(4, 3, 16, 16).double())
    return built.eval()


@pytest.mark.parametrize("block", ["basic", "ms"])
@pytest.mark.parametrize("make", [Half, Adaptive])
def test_a_custom_neuron_is_folded_as_it_is(make: type[Neuron], block: str) -> None:
    net, images = network(make, block), torch.rand(2, 3, 16, 16).double()
    with torch.no_grad():
        assert torch.allclose(fold(net)(images), net(images), atol=1e-9)


def test_modules_inside_a_neuron_are_left_alone() -> None:
    net, images = network(LIF), torch.rand(2, 3, 16, 16).double()
    for module in net.modules():
        if hasattr(module, "neuron"):
            module.neuron = Wrapped()
    folded = fold(net)
    with torch.no_grad():
        assert torch.allclose(folded(images), net(images), atol=1e-9)
    assert not any(path.endswith("inner") for path in spiking_layers(folded))


def test_single_step_mode_equals_the_whole_sequence() -> None:
    net, frames = network(Half), torch.rand(3, 2, 3, 16, 16).double()
    steps, state, total = SingleStep(fold(net)), (), torch.zeros(())
    with torch.no_grad():
        for frame in frames:
            logits, *state = steps(frame, *state)
            total = total + logits / 3
        assert torch.allclose(total, net(frames), atol=1e-9)


@pytest.mark.parametrize("neuron", [Adaptive(), Wrapped()])
def test_a_neuron_that_cannot_be_streamed_is_refused(neuron: nn.Module) -> None:
    current = CurrentNeuron(neuron)
    assert current(torch.ones(1, 2, 3) * 1.1, residual=torch.zeros(4, 2, 3), time_steps=4).shape == (4, 2, 3)
    current.membrane = Membrane(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=rf"{type(neuron).__name__} .* stream\(current, initial\)"):
        current(torch.ones(1, 2, 3))
