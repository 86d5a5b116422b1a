"""packed_spikes for any layer: gradients are bit-identical, and only bits are saved."""

from collections.abc import Callable
from weakref import ref

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from shortcut_snn.neurons import ILIF, LIF, ATan, packed_spikes, packing_hooks

pytestmark = pytest.mark.usefixtures("kernels")


class Attention(nn.Module):
    """Both factors of a product are spikes."""

    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(-2, -1)) @ x


def built_in() -> nn.Module:
    return nn.Sequential(
        nn.Linear(32, 64), LIF(surrogate=ATan()), nn.Linear(64, 32), LIF(), Attention(), nn.Linear(32, 5)
    )


def spikingjelly() -> nn.Module:
    net = nn.Sequential(
        layer.Conv2d(8, 16, 3, padding=1), neuron.LIFNode(), layer.MaxPool2d(2), layer.Conv2d(16, 8, 3), neuron.IFNode()
    )
    functional.set_step_mode(net, "m")
    return net


def counting() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 64), ILIF(), nn.Linear(64, 5))


SPIKING = (LIF, ILIF, neuron.BaseNode)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "built-in": (built_in, (4, 2, 6, 32)),
    "spikingjelly": (spikingjelly, (4, 2, 8, 9, 9)),
    # Counts are saved as they are.
    "counts": (counting, (4, 2, 6, 32)),
}


def gradients(net: nn.Module, x: Tensor, packed: bool) -> list[Tensor]:
    net.zero_grad()
    leaf = x.clone().requires_grad_()
    functional.reset_net(net)
    with packed_spikes(module for module in net.modules() if packed and isinstance(module, SPIKING)):
        out = net(leaf)
    out.square().sum().backward()
    return [leaf.grad, *(parameter.grad.clone() for parameter in net.parameters())]


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_bit_identical(case: str) -> None:
    make, shape = CASES[case]
    torch.manual_seed(0)
    net, x = make(), 2 * torch.randn(shape)
    plain, packed = gradients(net, x, False), gradients(net, x, True)
    assert all(gradient.any() for gradient in plain)
    assert all(torch.equal(one, two) for one, two in zip(plain, packed, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_spikes_changed_in_place_are_saved_as_they_are(dtype: torch.dtype) -> None:
    lif, linear = LIF(), nn.Linear(16, 3, dtype=dtype)
    grads = []
    for modules in ([], [lif]):
        linear.zero_grad()
        with packed_spikes(modules):
            spikes = lif(2 * torch.ones(2, 4, 16, dtype=dtype))
            spikes.mul_(0.5)
            linear(spikes).sum().backward()
        grads.append(linear.weight.grad.clone())
    assert grads[0].any()
    assert torch.equal(*grads)


def test_spikes_are_packed_once_for_several_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    pack = packing_hooks.pack

    def counted(spikes: Tensor) -> Tensor:
        bits = pack(spikes)
        sizes.append(bits.nbytes)
        return bits

    monkeypatch.setattr(packing_hooks, "pack", counted)
    lif, layers = LIF(), [nn.Linear(512, 2) for _ in range(3)]
    with packed_spikes([lif]):
        spikes = lif(2 * torch.randn(4, 8, 512))
        outs = [linear(spikes) for linear in layers]
    assert sizes == [4 * 8 * 512 // 8]
    # The spikes are freed before the backward pass.
    numbers = ref(spikes)
    del spikes
    assert numbers() is None
    sum(out.sum() for out in outs).backward()
    assert layers[0].weight.grad.abs().sum() > 0


def test_inference_saves_nothing() -> None:
    network, x = spikingjelly(), (torch.rand(3, 2, 8, 8, 8) > 0.5).float()
    for mode in (torch.no_grad, torch.inference_mode):
        functional.reset_net(network)
        with mode(), packed_spikes(network.modules()):
            output = network(x)
        functional.reset_net(network)
        with torch.no_grad():
            assert torch.equal(output, network(x))


class InPlace(nn.Module):
    """It changes a tensor that the backward pass needs, which torch refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.neuron = nn.Linear(6, 6), LIF(surrogate=ATan())

    def forward(self, x: Tensor) -> Tensor:
        current = torch.sigmoid(self.layer(x))
        squares = current * current
        current += 1.0
        return self.neuron(squares + current)


def test_an_in_place_change_is_refused_as_in_torch() -> None:
    network = InPlace()
    x = torch.rand(3, 2, 6)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        network(x).sum().backward()
    with packed_spikes([network.neuron]):
        output = network(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()
