"""Networks save bits of spikes; outputs and gradients stay bit-identical."""

import copy

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn import nets
from shortcut_snn.nets.layers import SpikeConv2d, over_time
from shortcut_snn.neurons import LIF, NormNeuron, backend, bits_of, get_packing, set_packing, use_backend, use_packing

from ..compiling import FULLGRAPH


def small(stem: str = "small") -> nets.SpikingResNet:
    torch.manual_seed(0)
    return nets.SpikingResNet([1, 1], 3, 2, width=8, stem=stem).to(memory_format=torch.channels_last)


def results(network: nn.Module, packing: str, amp: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Logits and gradients of a fresh copy."""
    network = copy.deepcopy(network)
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    images = images.to(memory_format=torch.channels_last)
    with use_packing(packing), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        logits = network(images)
    logits.float().square().sum().backward()
    return logits.detach(), [parameter.grad for parameter in network.parameters()]


def assert_same(got: tuple[Tensor, list[Tensor]], want: tuple[Tensor, list[Tensor]]) -> None:
    assert torch.equal(got[0], want[0])
    assert all(torch.equal(a, b) for a, b in zip(got[1], want[1], strict=True))
    assert all(gradient.abs().sum() > 0 for gradient in got[1])


def saved_numbers(network: nn.Module, packing: str) -> int:
    """Count the floating-point numbers, except parameters, that a forward pass saves for the backward pass."""
    saved: dict[int, int] = {}
    parameters = {parameter.data_ptr() for parameter in network.parameters()}

    def note(x: Tensor) -> Tensor:
        if x.is_floating_point() and x.data_ptr() not in parameters:
            saved[x.untyped_storage().data_ptr()] = x.numel()
        return x

    with use_packing(packing), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        loss = network(torch.rand(4, 3, 12, 12)).sum()
    assert loss.requires_grad
    return sum(saved.values())


@pytest.mark.parametrize("amp", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("stem", ["small", "large"])
def test_gradients_are_bit_identical(stem: str, amp: bool) -> None:
    network = small(stem)
    assert_same(results(network, "auto", amp), results(network, "never", amp))


def test_plain_pytorch_packs_with_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_working", {("numba", "cpu"): False})
    network = small("large")
    assert saved_numbers(network, "always") < saved_numbers(network, "never")
    assert saved_numbers(network, "auto") == saved_numbers(network, "never")
    assert_same(results(network, "always"), results(network, "never"))


@pytest.mark.parametrize("stem", ["small", "large"])
def test_no_spikes_are_saved_as_numbers(stem: str) -> None:
    network = small(stem)
    spikes: list[int] = []
    for module in network.modules():
        if isinstance(module, NormNeuron):
            module.register_forward_hook(lambda _module, _args, output: spikes.append(output.numel()))
    less = saved_numbers(network, "never") - saved_numbers(network, "auto")
    # Of all layers but the last, which no convolution follows, in the first of two passes.
    assert less >= sum(spikes[: len(spikes) // 2 - 1])


def test_a_compiled_network_equals_eager() -> None:
    network = small()
    compiled = torch.compile(copy.deepcopy(network), backend="aot_eager", fullgraph=FULLGRAPH)
    got, want = results(compiled, "auto"), results(network, "auto")
    if torch.__version__ >= "2.13":
        assert_same(got, want)
    else:
        # The graph breaks at neurons, and the last bits differ.
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_hooks_may_change_spikes() -> None:
    network, seen = small(), []
    network.layer1.register_forward_hook(lambda _module, _args, output: seen.append(output))
    results(network, "auto")
    assert seen[0].shape == (2, 4, 8, 12, 12)
    assert set(seen[0].unique().tolist()) == {0.0, 1.0}
    network = small()
    network.layer1.register_forward_hook(lambda _module, _args, output: output * 0.5)
    assert_same(results(network, "auto"), results(network, "never"))


def test_bits_are_carried_only_with_gradients() -> None:
    layer, x = NormNeuron(nn.BatchNorm2d(3), LIF()), torch.randn(2, 3, 3, 4, 4)
    spikes = layer(x)
    bits = bits_of(spikes)
    assert bits is not None
    assert bits_of(spikes.clone()) is None
    with torch.no_grad():
        assert bits_of(layer(x)) is None
    with torch.inference_mode():
        assert bits_of(layer(x)) is None
    with use_backend("eager"):
        assert bits_of(layer(x)) is None
    with use_packing("never"):
        assert bits_of(layer(x)) is None
    spikes.detach().add_(1)
    assert bits_of(spikes) is None


class Graded(LIF):
    def forward(self, current: Tensor) -> Tensor:
        return 0.5 * super().forward(current)


@pytest.mark.parametrize("packing", ["auto", "always"])
def test_other_outputs_carry_no_bits(packing: str) -> None:
    x = torch.randn(2, 3, 3, 4, 4)
    hooked = NormNeuron(nn.BatchNorm2d(3), LIF())
    hooked.neuron.register_forward_hook(lambda _module, _args, output: 0.5 * output)
    with use_packing(packing):
        assert bits_of(NormNeuron(nn.BatchNorm2d(3), Graded())(x)) is None
        assert bits_of(hooked(x)) is None


def test_a_convolution_takes_any_input() -> None:
    conv, x = SpikeConv2d(3, 4, 3, padding="same", padding_mode="circular"), torch.randn(2, 3, 3, 6, 6)
    spikes = NormNeuron(nn.BatchNorm2d(3), LIF())(x)
    for sequence in (x, spikes):
        flat = nn.Conv2d.forward(conv, sequence.flatten(0, 1))
        assert torch.equal(over_time(conv, sequence).flatten(0, 1), flat)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="bits"):
        set_packing("bits")
    assert get_packing() == "auto"
