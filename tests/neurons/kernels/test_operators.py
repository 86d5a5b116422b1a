"""The custom operators keep PyTorch's rules: schema, fake tensors, autograd registration, torch.compile."""

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn.neurons import LIF, PLIF, ATan, Neuron, NormNeuron, Rectangle, per_channel
from shortcut_snn.neurons.compiler.trace import traced
from shortcut_snn.neurons.operators import fused_neuron as operators

from ...compiling import FULLGRAPH
from ..every_neuron import is_active
from .under_test import KERNELS

CASES = [("contiguous", False, True, True), ("channels_last", True, True, False)]


def arguments(layout: str, static: bool, add: bool, stream: bool) -> tuple:
    shape = (4, 2, 3, 5, 4)
    x = torch.randn(1 if static else 4, *shape[1:])
    residual = torch.randn(shape) if add else None
    if layout == "channels_last":
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
        residual = None if residual is None else residual.movedim(2, -1).contiguous().movedim(-1, 2)
    mean, var = operators.batch_statistics(x)
    initial = torch.randn(1, *shape[1:]).requires_grad_() if stream else None
    step = traced(PLIF(surrogate=Rectangle() if static else ATan()))
    return (
        x.requires_grad_(), None if residual is None else residual.requires_grad_(), None,
        torch.rand(3, requires_grad=True), torch.rand(3, requires_grad=True), mean, var, 1e-5, step.text,
        torch.tensor([0.6], requires_grad=True), None, list(step.constants), initial, 4,
        [True, True, stream, static, static and KERNELS == "numba"],
    )  # fmt: skip


@pytest.mark.parametrize(("layout", "static", "add", "stream"), CASES)
def test_opcheck(layout: str, static: bool, add: bool, stream: bool) -> None:
    torch.library.opcheck(operators.norm_neuron, arguments(layout, static, add, stream))


def test_opcheck_of_a_neuron_with_all_kinds_of_parameters() -> None:
    neuron = Everything()
    step, initial = traced(neuron), torch.randn(2, 2, 3, 4, requires_grad=True)
    x, scalars = torch.randn(3, 2, 3, 4, requires_grad=True), torch.tensor([0.3], requires_grad=True)
    channels = torch.rand(1, 3, requires_grad=True)
    arguments = (x, *[None] * 6, 0.0, step.text, scalars, channels, list(step.constants), initial, 3)
    torch.library.opcheck(operators.norm_neuron, (*arguments, [False, True, True, False, False]))


def test_opcheck_of_the_statistics() -> None:
    torch.library.opcheck(operators.batch_statistics, (torch.randn(2, 3, 4, 5, 5),))


class Everything(Neuron):
    """Two states, a parameter for the layer and one for each channel."""

    states = ("membrane", "trace")

    def __init__(self) -> None:
        super().__init__(surrogate=ATan())
        self.rise, self.w = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.rand(3))

    def step(self, current: Tensor, membrane: Tensor, trace: Tensor) -> tuple[Tensor, ...]:
        membrane = torch.sigmoid(per_channel(self.w, current)) * membrane + current
        spike = self.fire(membrane - self.threshold - trace)
        return spike, self.after(membrane, spike), 0.5 * trace + self.rise * spike


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.first = NormNeuron(nn.BatchNorm2d(6), LIF())
        self.second = NormNeuron(nn.BatchNorm2d(6), PLIF(surrogate=ATan()))

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.first(self.conv(x).unsqueeze(0), time_steps=4)
        return self.second(spikes, residual=spikes).mean((0, -2, -1))


def test_a_compiled_network_has_no_graph_break_and_equals_eager() -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=FULLGRAPH)
    results = []
    for function in (net, compiled):
        net.load_state_dict({**net.state_dict(), "first.norm.running_mean": torch.zeros(6)})
        net.zero_grad()
        output = function(x)
        output.square().sum().backward()
        results.append((output.detach(), [p.grad.clone() for p in net.parameters()], net.first.norm.running_mean + 0))
    assert is_active(results[0][0], *results[0][1])
    torch.testing.assert_close(*results)


def test_a_compiled_neuron_equals_eager() -> None:
    x = torch.randn(5, 3, 7) * 2
    neuron = LIF(0.7)
    compiled = torch.compile(neuron, backend="aot_eager", fullgraph=FULLGRAPH)
    assert neuron(x).any()
    assert torch.equal(compiled(x), neuron(x))
    # The compiled graph guards the attributes.
    neuron.decay = 0.1
    assert torch.equal(compiled(x), neuron(x))


def test_an_exported_graph_has_no_custom_operator() -> None:
    module = NormNeuron(nn.BatchNorm2d(3), LIF()).eval()
    x = torch.randn(2, 2, 3, 4, 4)
    program = torch.export.export(module, (x,))
    assert not [node for node in program.graph.nodes if "shortcut_snn" in str(node.target)]
    torch.testing.assert_close(program.module()(x), module(x))
