"""Networks save bits of spikes; outputs and gradients stay bit-identical."""

import copy
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shortcut_snn import nets
from shortcut_snn.nets.layers import SpikeConv2d, SpikeMaxPool2d, over_time
from shortcut_snn.neurons import (
    LIF,
    ATan,
    NormalisedTanh,
    NormNeuron,
    Rectangle,
    Sigmoid,
    Surrogate,
    Tanh,
    Triangle,
    use_backend,
)
from shortcut_snn.neurons.packing import SavedBits, bits_of, count_bits, support_of
from shortcut_snn.neurons.surrogate import Scaled

pytestmark = pytest.mark.usefixtures("kernels")


def small(stem: str = "small", kind: type[nets.SpikingResNet] = nets.SpikingResNet) -> nets.SpikingResNet:
    torch.manual_seed(0)
    # Too few channels for event_convolution, whose rounding differs.
    return kind([1, 1], 3, 2, width=4, stem=stem).to(memory_format=torch.channels_last)


@contextmanager
def as_numbers() -> Iterator[None]:
    """Save spikes as they are."""
    with patch("shortcut_snn.neurons.sequence.should_pack", lambda: False):
        yield


def results(network: nn.Module, amp: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Logits and gradients of a fresh copy."""
    network = copy.deepcopy(network)
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    images = images.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        logits = network(images)
    logits.float().square().sum().backward()
    return logits.detach(), [parameter.grad for parameter in network.parameters()]


def assert_same(got: tuple[Tensor, list[Tensor]], want: tuple[Tensor, list[Tensor]]) -> None:
    assert torch.equal(got[0], want[0])
    assert all(torch.equal(a, b) for a, b in zip(got[1], want[1], strict=True))
    assert all(gradient.abs().sum() > 0 for gradient in got[1])


@pytest.mark.parametrize("amp", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("stem", ["small", "large"])
def test_gradients_are_bit_identical(stem: str, amp: bool) -> None:
    network = small(stem)
    packed = results(network, amp)
    with as_numbers():
        assert_same(packed, results(network, amp))


class Checkpointed(nets.SpikingResNet):
    """A network that recomputes its stages in the backward pass."""

    reentrant: bool

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x, self.time_steps)
        for name in self.stage_names:
            x = checkpoint(self.get_submodule(name), x, use_reentrant=self.reentrant)
        return x.mean((-2, -1))


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(reentrant: bool) -> None:
    network = small(kind=Checkpointed)
    network.reentrant = reentrant
    assert_same(results(network), results(small()))


def saved_numbers(network: nn.Module) -> int:
    """Count the floating-point numbers, except parameters, that a forward pass saves for the backward pass."""
    hooks, saved = torch.autograd.graph.saved_tensors_hooks, dict[int, Tensor]()

    def noting(pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> Any:
        def note(x: Tensor) -> Any:
            handle = pack(x)
            if isinstance(handle, tuple) and x.is_floating_point() and not (x.is_leaf and x.requires_grad):
                saved[x.untyped_storage()._cdata] = x
            return handle

        return hooks(note, unpack)

    with patch.object(torch.autograd.graph, "saved_tensors_hooks", noting), noting(lambda x: (x,), lambda x: x[0]):
        assert network(torch.rand(4, 3, 12, 12)).sum().requires_grad
    return sum(x.numel() for x in saved.values())


@pytest.mark.parametrize("stem", ["small", "large"])
def test_no_spikes_are_saved_as_numbers(stem: str) -> None:
    network = small(stem)
    spikes: list[int] = []
    for module in network.modules():
        if isinstance(module, NormNeuron):
            module.register_forward_hook(lambda _module, _args, output: spikes.append(output.numel()))
    packed = saved_numbers(network)
    with as_numbers():
        less = saved_numbers(network) - packed
    # Of all layers but the last, which no convolution follows, in the first of two passes.
    assert less >= sum(spikes[: len(spikes) // 2 - 1])


def test_hooks_may_change_spikes() -> None:
    network, seen = small(), []
    network.layer1.register_forward_hook(lambda _module, _args, output: seen.append(output))
    results(network)
    assert seen[0].shape == (2, 4, 4, 12, 12)
    assert set(seen[0].unique().tolist()) == {0.0, 1.0}
    network = small()
    network.layer1.register_forward_hook(lambda _module, _args, output: output * 0.5)
    packed = results(network)
    with as_numbers():
        assert_same(packed, results(network))


class Graded(LIF):
    def forward(self, current: Tensor) -> Tensor:
        return 0.5 * super().forward(current)


def test_bits_are_carried_by_spikes_that_have_not_changed() -> None:
    layer, x = NormNeuron(nn.BatchNorm2d(3), LIF()), torch.randn(2, 3, 3, 4, 4)
    spikes = layer(x)
    assert bits_of(spikes) is not None
    assert bits_of(spikes.clone()) is None
    with torch.no_grad():
        assert bits_of(layer(x)) is not None
        assert bits_of(LIF()(x)) is not None
    with torch.inference_mode():
        assert bits_of(layer(x)) is None
    with use_backend("eager"):
        assert bits_of(layer(x)) is None
    spikes.detach().add_(1)
    assert bits_of(spikes) is None
    assert bits_of(NormNeuron(nn.BatchNorm2d(3), Graded())(x)) is None
    layer.neuron.register_forward_hook(lambda _module, _args, output: 0.5 * output)
    assert bits_of(layer(x)) is None


def test_spikes_that_are_saved_can_be_loaded() -> None:
    spikes, file = LIF()(torch.rand(2, 3, 64)), io.BytesIO()
    torch.save(spikes, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert torch.equal(loaded, spikes)
    assert bits_of(loaded) is None
    assert bits_of(copy.deepcopy(spikes)) is None


class Recorded(Rectangle):
    """A rectangle that keeps its values of the backward pass in plain PyTorch, the last time step first."""

    def __call__(self, v: Tensor) -> Tensor:
        slope = super().__call__(v)
        object.__setattr__(self, "seen", [*vars(self).get("seen", []), slope])
        return slope


def unpacked(bits: Tensor, like: Tensor) -> Tensor:
    """Return bits as numbers in the shape and memory layout of spikes."""
    return SavedBits(bits, like[0].numel(), like.dtype, (like.shape, like.stride(), 0)).unpack()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_spikes_carry_the_support_of_a_bounded_surrogate(channels_last: bool, reset: Any) -> None:
    x = torch.randn(4, 2, 3, 7, 5, requires_grad=True)
    x = x.movedim(2, -1).contiguous().movedim(-1, 2) if channels_last else x
    surrogate, neuron = Recorded(0.7), LIF(reset=reset)
    # Set afterwards, since a neuron checks the surrogate that it is made with.
    neuron.surrogate = surrogate
    with use_backend("eager"):
        neuron(x).sum().backward()
    spikes = LIF(surrogate=Rectangle(0.7), reset=reset)(x)
    support = support_of(spikes)
    assert support is not None
    assert torch.equal(unpacked(support, spikes), (torch.stack(vars(surrogate)["seen"][::-1]) != 0).float())
    assert count_bits(support) == sum(int((slope != 0).sum()) for slope in vars(surrogate)["seen"])


@pytest.mark.parametrize(
    ("surrogate", "share"),
    [
        (Rectangle(), 0.38), (Triangle(), 0.68), (NormalisedTanh(), 0.38), (Scaled(Triangle(1.0, 0.5), 3.0), 0.38),
        (Scaled(Rectangle(), 0.0), 0.0), (ATan(), None), (Sigmoid(), None), (Tanh(), None),
    ],
    ids=str,
)  # fmt: skip
def test_a_surrogate_that_is_nowhere_0_has_no_support(surrogate: Surrogate, share: float | None) -> None:
    spikes = LIF(surrogate=surrogate)(torch.randn(1, 5, 16, 25).add_(1.0).requires_grad_())
    support = support_of(spikes)
    assert (support is None) == (share is None)
    if support is not None:
        assert count_bits(support) / spikes.numel() == pytest.approx(share, abs=0.05)


def test_spikes_carry_their_support_only_where_it_is_read() -> None:
    layer, x = NormNeuron(nn.BatchNorm2d(3), LIF()), torch.randn(2, 3, 3, 4, 4)
    spikes = layer(x)
    assert support_of(spikes) is not None
    assert support_of(over_time(nn.Identity(), spikes)) is not None
    assert support_of(over_time(SpikeMaxPool2d(2), spikes)) is None
    with torch.no_grad():
        assert support_of(layer(x)) is None
    assert support_of(LIF()(x)) is None
    assert support_of(layer(x.bfloat16())) is None
    # The gradient of spikes with a hook is read.
    handle = spikes.register_hook(lambda grad: None)  # type: ignore[no-untyped-call]
    assert support_of(spikes) is None
    handle.remove()
    assert support_of(spikes) is not None
    spikes.retain_grad()
    assert support_of(spikes) is None


@pytest.mark.parametrize("of_view", [False, True])
def test_a_hook_after_a_convolution_sees_the_whole_gradient(of_view: bool) -> None:
    neuron, conv, seen = LIF(), SpikeConv2d(32, 32, 3, padding=1), list[Tensor]()

    def late(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        inputs[0].register_hook(seen.append)  # type: ignore[no-untyped-call]

    def block(x: Tensor, hooked_first: bool) -> Tensor:
        spikes = neuron(x)
        if hooked_first:
            spikes.register_hook(seen.append)
        elif of_view:
            conv.register_forward_hook(late)
        out = over_time(conv, spikes)
        if not hooked_first and not of_view:
            spikes.register_hook(seen.append)
        return out

    x = torch.randn(2, 2, 8, 8, 32).movedim(-1, 2).requires_grad_()
    for hooked_first in (True, False):
        block(x, hooked_first).square().sum().backward()  # type: ignore[no-untyped-call]
    assert (seen[0] != 0).all()
    torch.testing.assert_close(seen[0].flatten(0, 1), seen[1].view(4, 32, 8, 8))


def test_a_convolution_takes_any_input() -> None:
    conv, x = SpikeConv2d(3, 4, 3, padding="same", padding_mode="circular"), torch.randn(2, 3, 3, 6, 6)
    spikes = NormNeuron(nn.BatchNorm2d(3), LIF())(x)
    for sequence in (x, spikes):
        flat = nn.Conv2d.forward(conv, sequence.flatten(0, 1))
        assert torch.equal(over_time(conv, sequence).flatten(0, 1), flat)
