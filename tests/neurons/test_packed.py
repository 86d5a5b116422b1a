"""Spikes as bits for whoever takes them: gradients are the same to the last bit, and memory is what bits take."""

from collections.abc import Callable
from weakref import ref

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from shortcut_snn.neurons import ILIF, LIF, ATan, packed_spikes, packing_hooks


class Attention(nn.Module):
    """Tokens that look at each other: both factors of a product are spikes."""

    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(-2, -1)) @ x


def ours() -> nn.Module:
    return nn.Sequential(
        nn.Linear(32, 64), LIF(surrogate=ATan()), nn.Linear(64, 32), LIF(), Attention(), nn.Linear(32, 5)
    )


def theirs() -> nn.Module:
    net = nn.Sequential(
        layer.Conv2d(8, 16, 3, padding=1), neuron.LIFNode(), layer.MaxPool2d(2), layer.Conv2d(16, 8, 3), neuron.IFNode()
    )
    functional.set_step_mode(net, "m")
    return net


def counting() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 64), ILIF(), nn.Linear(64, 5))


SPIKING = (LIF, ILIF, neuron.BaseNode)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ours": (ours, (4, 2, 6, 32)),
    "spikingjelly": (theirs, (4, 2, 8, 9, 9)),
    # Counts stay as they are.
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
def test_gradients_are_the_same_to_the_last_bit(case: str) -> None:
    make, shape = CASES[case]
    torch.manual_seed(0)
    net, x = make(), 2 * torch.randn(shape)
    plain, packed = gradients(net, x, False), gradients(net, x, True)
    assert any(each.abs().sum() > 0 for each in plain)
    for one, two in zip(plain, packed, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_was_changed_in_place_is_kept_as_it_is(dtype: torch.dtype) -> None:
    lif, linear = LIF(), nn.Linear(16, 3, dtype=dtype)
    grads = []
    for modules in ([], [lif]):
        linear.zero_grad()
        with packed_spikes(modules):
            spikes = lif(2 * torch.ones(2, 4, 16, dtype=dtype))
            spikes.mul_(0.5)
            linear(spikes).sum().backward()
        grads.append(linear.weight.grad.clone())
    assert torch.equal(*grads)


def test_several_that_take_the_same_spikes_keep_them_once_and_as_bits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
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
        outs = [each(spikes) for each in layers]
    assert sizes == [4 * 8 * 512 // 8]
    # The numbers are gone while there is still a way back.
    numbers = ref(spikes)
    del spikes
    assert numbers() is None
    sum(out.sum() for out in outs).backward()
    assert layers[0].weight.grad.abs().sum() > 0


def test_inference_has_no_spikes_to_keep() -> None:
    network, x = theirs(), (torch.rand(3, 2, 8, 8, 8) > 0.5).float()
    for mode in (torch.no_grad, torch.inference_mode):
        functional.reset_net(network)
        with mode(), packed_spikes(network.modules()):
            found = network(x)
        functional.reset_net(network)
        with torch.no_grad():
            assert torch.equal(found, network(x))


class InPlace(nn.Module):
    """It changes what the way back needs, which torch refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.neuron = nn.Linear(6, 6), LIF(surrogate=ATan())

    def forward(self, x: Tensor) -> Tensor:
        current = torch.sigmoid(self.layer(x))
        squares = current * current
        current += 1.0
        return self.neuron(squares + current)


def test_what_torch_refuses_is_refused_with_packed_spikes_too() -> None:
    network = InPlace()
    x = torch.rand(3, 2, 6)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        network(x).sum().backward()
    with packed_spikes([network.neuron]):
        output = network(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()
