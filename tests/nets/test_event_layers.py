"""Layers over spikes add the weights of the spikes: their results are those of the dense layers."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numba
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import nets, neurons
from shortcut_snn.deploy import fold
from shortcut_snn.deploy.inference import for_inference
from shortcut_snn.nets import SpikeConv2d, SpikeLinear
from shortcut_snn.nets.layers import SpikeMaxPool2d, over_time
from shortcut_snn.neurons import NormNeuron, event_layers, use_backend
from shortcut_snn.neurons.cpu import event_launch as cpu
from shortcut_snn.neurons.cpu.kernels import rows
from shortcut_snn.neurons.cpu.kernels.memory import pointer
from shortcut_snn.neurons.event_layers import event_convolution
from shortcut_snn.neurons.packing import bits_of, pack, with_bits
from shortcut_snn.wrapping import wrap

pytestmark = pytest.mark.usefixtures("kernels")

SPIKES, DENSE = 1.0, -1.0


@contextmanager
def break_even(forward: float, weight_grad: float, input_grad: float) -> Iterator[None]:
    """Use the kernels up to these rates, whatever the shape."""
    table = {kernel: {16: (forward, weight_grad, input_grad)} for kernel in (1, 3)}
    with patch.object(event_layers, "break_even_rates", lambda: table):
        yield


def random_spikes(rate: float, *shape: int) -> Tensor:
    """Return spikes ``[T, N, C, H, W]`` in channels-last memory, with their bits."""
    t, n, channels, *space = shape
    fired = torch.rand(t, n, *space, channels, generator=torch.Generator().manual_seed(0)) < rate
    spikes = fired.float().movedim(-1, 2)
    return with_bits(spikes, pack(spikes))


def gradients(
    layer: nn.Module, spikes: Tensor, factors: Tensor, dtype: torch.dtype, support: Tensor | None = None
) -> list[Tensor]:
    """Return the output, and the gradients of the input (within a support) and of the parameters."""
    layer, x = copy.deepcopy(layer).to(dtype), spikes.detach().to(dtype).requires_grad_()
    bits = bits_of(spikes)
    if dtype == torch.float32 and bits is not None:
        # The layer's input is a view that nobody holds, so that its gradient may be that within the support.
        out = layer(with_bits(x.view_as(x), bits, None if support is None else pack(support)))
    else:
        out = layer(x)
    (out * factors.to(dtype)).sum().backward()
    return [out.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


def assert_close(got: list[Tensor], want: list[Tensor]) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert (a.double() - b).abs().max() <= 2e-6 * b.abs().max().clamp_min(1e-6) + 1e-6


SHAPES = [
    # Channels, outputs, kernel, stride, height, width, T, N, rate. Shapes that share kernels save their compilation.
    (16, 16, 3, 1, 6, 5, 2, 3, 0.2),
    (16, 16, 3, 2, 7, 6, 1, 2, 0.5),
    (32, 48, 3, 2, 5, 8, 3, 1, 0.1),
    (32, 48, 1, 2, 6, 7, 2, 2, 0.3),
    (64, 128, 3, 1, 4, 4, 2, 2, 0.15),
    (64, 128, 3, 1, 1, 1, 2, 2, 1.0),
    (192, 128, 5, 1, 3, 9, 2, 1, 0.05),
    (16, 16, 3, 3, 8, 8, 1, 2, 0.0),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_and_gradients(shape: tuple[Any, ...]) -> None:
    channels, outputs, kernel, stride, height, width, t, n, rate = shape
    torch.manual_seed(1)
    layer = SpikeConv2d(channels, outputs, kernel, stride, kernel // 2, bias=t > 1)
    if n > 1:
        layer.to(memory_format=torch.channels_last)
    spikes = random_spikes(rate, t, n, channels, height, width)
    factors = torch.randn(t, n, outputs, -(-height // stride), -(-width // stride))
    want = gradients(layer, spikes, factors, torch.float64)
    assert rate == 0 or all(gradient.any() for gradient in want)
    support = random_spikes(1.2 * rate, t, n, channels, height, width).flip(2)
    for by_events in ((SPIKES, SPIKES, DENSE), (SPIKES, DENSE, DENSE), (DENSE, SPIKES, DENSE)):
        with break_even(*by_events), patch.object(F, "conv2d", wraps=F.conv2d) as dense:
            assert_close(gradients(layer, spikes, factors, torch.float32, support), want)
        assert dense.called == (by_events[0] == DENSE)
    want[1] = want[1] * support
    for by_events in ((SPIKES, SPIKES, SPIKES), (DENSE, DENSE, SPIKES)):
        with break_even(*by_events):
            assert_close(gradients(layer, spikes, factors, torch.float32, support), want)


@pytest.mark.parametrize("shape", [(2, 5, 64), (3, 2, 4, 16)], ids=str)
def test_linear_layer_and_gradients(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    layer = SpikeLinear(shape[-1], 16)
    spikes = (torch.rand(shape) < 0.2).float()
    spikes = with_bits(spikes, pack(spikes))
    factors = torch.randn(*shape[:-1], 16)
    support = (torch.rand(shape) < 0.3).float()
    want = gradients(layer, spikes, factors, torch.float64)
    want[1] = want[1] * support
    assert all(gradient.any() for gradient in want)
    with break_even(SPIKES, SPIKES, SPIKES), patch.object(F, "linear", wraps=F.linear) as dense:
        assert_close(gradients(layer, spikes, factors, torch.float32, support), want)
    assert not dense.called


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 2}, {"dilation": 2, "padding": 2}, {"padding": 0}, {"padding_mode": "circular"}, {"kernel_size": 2},
        {"kernel_size": (3, 1), "padding": (1, 0)}, {"stride": (1, 2)}, {"out_channels": 8},
    ],
    ids=str,
)  # fmt: skip
def test_other_convolutions_are_dense(options: dict[str, Any]) -> None:
    layer = SpikeConv2d(**({"in_channels": 32, "out_channels": 32, "kernel_size": 3, "padding": 1} | options))
    spikes = random_spikes(0.2, 1, 2, 32, 6, 6).flatten(0, 1)
    spikes = with_bits(spikes, pack(spikes.unsqueeze(0)))
    with break_even(SPIKES, SPIKES, SPIKES):
        assert event_convolution(layer, spikes) is None
        assert torch.equal(layer(spikes), nn.Conv2d.forward(layer, spikes))


def test_the_dense_convolution_runs_at_high_rates_and_where_kernels_do_not_apply() -> None:
    layer = SpikeConv2d(64, 64, 3, padding=1, bias=False)

    def flat(rate: float) -> Tensor:
        spikes = random_spikes(rate, 1, 2, 64, 8, 8)
        return with_bits(spikes.flatten(0, 1), bits_of(spikes))  # type: ignore[arg-type]

    assert event_convolution(layer, flat(0.1)) is not None
    assert event_convolution(layer, flat(0.9)) is None
    assert event_convolution(layer, flat(0.1).contiguous()) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert event_convolution(layer, flat(0.1)) is None
    changed = flat(0.1)
    changed.mul_(0.5)
    assert event_convolution(layer, changed) is None
    replaced = flat(0.1)
    replaced.data = replaced.data * 0.5
    assert event_convolution(layer, replaced) is None
    with use_backend("eager"):
        assert event_convolution(layer, flat(0.1)) is None
    assert event_convolution(layer.double(), flat(0.1)) is None


PAIRS = [(SpikeConv2d(16, 32, 3, padding=1), nn.Conv2d.forward), (SpikeLinear(16, 32), nn.Linear.forward)]


def spikes_of(layer: nn.Module) -> Tensor:
    spikes = random_spikes(0.2, 1, 2, 16, 6, 6).squeeze(0)
    spikes = spikes if isinstance(layer, nn.Conv2d) else spikes.movedim(1, -1)
    return with_bits(spikes, pack(spikes.unsqueeze(0)))


@pytest.mark.parametrize(("layer", "dense"), PAIRS, ids=["conv", "linear"])
@pytest.mark.parametrize("bias", [torch.arange(64.0)[::2], torch.ones(1).expand(32)], ids=["strided", "expanded"])
def test_a_bias_may_have_any_strides(layer: nn.Module, dense: Any, bias: Tensor) -> None:
    layer = copy.deepcopy(layer)
    layer.bias = nn.Parameter(bias)
    with torch.no_grad(), break_even(SPIKES, SPIKES, SPIKES):
        torch.testing.assert_close(layer(spikes_of(layer)), dense(layer, spikes_of(layer)))


@pytest.mark.parametrize(("layer", "dense"), PAIRS, ids=["conv", "linear"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bias", torch.ones(7)), ("bias", torch.ones(32, dtype=torch.float64)), ("bias", torch.ones(32, device="meta")),
        ("weight", torch.ones(32, 16, 3, 3, device="meta")),
    ],
    ids=["shape", "dtype", "device", "weight"],
)  # fmt: skip
def test_parameters_that_do_not_fit_are_left_to_the_dense_layer(
    layer: nn.Module, dense: Any, name: str, value: Tensor
) -> None:
    layer = copy.deepcopy(layer)
    setattr(layer, name, nn.Parameter(value if value.dim() < 2 or isinstance(layer, nn.Conv2d) else value[..., 0, 0]))
    answers = []
    for forward in (layer, lambda x: dense(layer, x)):
        try:
            with break_even(SPIKES, SPIKES, SPIKES):
                answers.append(str(forward(spikes_of(layer)).device))
        except (RuntimeError, NotImplementedError) as error:
            answers.append(str(error))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(("layer", "dense"), PAIRS, ids=["conv", "linear"])
@pytest.mark.parametrize("upstream", [False, True], ids=["weights", "spikes"])
def test_a_second_derivative_is_refused(layer: nn.Module, dense: Any, upstream: bool) -> None:
    scale = torch.ones((), requires_grad=True)
    with break_even(SPIKES, SPIKES, SPIKES):
        x = scale * spikes_of(layer)
        out = layer(with_bits(x, bits_of(spikes_of(layer))))  # type: ignore[arg-type]
    loss = out.sum() if upstream else out.square().sum()
    (first,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
    assert first.any()
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(first.square().sum(), scale if upstream else layer.weight)
    with use_backend("eager"):
        (want,) = torch.autograd.grad(dense(layer, x).square().sum(), layer.weight, create_graph=True)
        assert torch.autograd.grad(want.square().sum(), layer.weight)[0].any()


@pytest.mark.parametrize(("layer", "dense"), PAIRS, ids=["conv", "linear"])
def test_a_transform_of_torch_func_takes_spikes_from_outside(layer: nn.Module, dense: Any) -> None:
    spikes, weight = spikes_of(layer), layer.weight.detach()

    def loss(weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (spikes,)).square().sum()

    with break_even(SPIKES, SPIKES, SPIKES):
        gradient = torch.func.grad(loss)(weight)
    (want,) = torch.autograd.grad(dense(layer, spikes).square().sum(), layer.weight)
    torch.testing.assert_close(gradient, want, rtol=1e-4, atol=1e-4)


def test_layers_take_spikes_made_outside_inference_mode() -> None:
    pool = SpikeMaxPool2d(2)
    with torch.no_grad():
        spikes = neurons.LIF()(torch.randn(2, 3, 16, 6, 6))
        want = over_time(pool, spikes)
    assert bits_of(want) is not None
    with torch.inference_mode():
        assert torch.equal(over_time(pool, spikes), want)


def test_a_hook_on_a_layer_runs_once_for_a_sequence() -> None:
    layer, calls = SpikeConv2d(16, 16, 3, padding=1), []
    layer.register_forward_hook(lambda _layer, args, out: calls.append((args[0].shape, out.shape)))
    layer(random_spikes(0.2, 2, 3, 16, 6, 6))
    assert calls == [((2, 3, 16, 6, 6), (2, 3, 16, 6, 6))]


ASKED: dict[str, Any] = {
    "retain_grad": lambda loss, spikes: (spikes.retain_grad(), loss.backward(), spikes.grad)[2],
    "hook": lambda loss, spikes: (seen := [], spikes.register_hook(seen.append), loss.backward(), seen[0])[3],
    "grad": lambda loss, spikes: torch.autograd.grad(loss, spikes)[0],
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=list(ASKED))
def test_the_gradient_at_spikes_is_whole_for_whoever_asks_after_the_forward_pass(ask: Any) -> None:
    current = torch.randn(2, 3, 6, 6, 16).movedim(-1, 2).requires_grad_()
    layer, gradients = SpikeConv2d(16, 16, 3, padding=1), []
    for input_grad in (SPIKES, DENSE):
        spikes = neurons.LIF(surrogate=neurons.Rectangle(0.1))(current)
        with break_even(SPIKES, SPIKES, input_grad):
            gradients.append(ask(layer(spikes).square().sum(), spikes))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert gradients[0].count_nonzero() > 0.9 * gradients[0].numel()


def test_no_spikes_of_a_network_in_training_are_held() -> None:
    """Holding them would cost memory, and the time of a dense gradient."""
    network = nets.SpikingResNet([1, 1], 3, 2, width=16).to(memory_format=torch.channels_last)
    model = wrap(network, network.layout("stages"), log=lambda line: None)
    with break_even(SPIKES, SPIKES, SPIKES), patch.object(cpu, "input_grad", wraps=cpu.input_grad) as sparse:
        output = model(torch.rand(4, 3, 8, 8).to(memory_format=torch.channels_last))
        sum(logits.square().sum() for logits in (output.main, *output.branches)).backward()
    assert sparse.call_count == 5


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    layer, spikes = SpikeConv2d(64, 128, 3, padding=1), random_spikes(0.2, 2, 8, 64, 8, 8)
    factors = torch.randn(2, 8, 128, 8, 8)
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            with break_even(SPIKES, SPIKES, SPIKES):
                results.append(gradients(layer, spikes, factors, torch.float32, spikes)[:3])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("block", ["basic", "sew", "ms"])
def test_every_convolution_of_a_network_in_training_evaluation_and_use(block: Any) -> None:
    torch.manual_seed(0)
    network = nets.SpikingResNet([1, 1], 3, 2, width=16, block=block).to(memory_format=torch.channels_last)
    images = torch.rand(4, 3, 8, 8).to(memory_format=torch.channels_last)
    seen: list[bool] = []

    def compare(layer: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        assert isinstance(layer, SpikeConv2d)
        want = F.conv2d(args[0], layer.weight, layer.bias, layer.stride, layer.padding)  # type: ignore[arg-type]
        torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-5)
        seen.append(bits_of(args[0]) is not None)

    def run(network: nn.Module) -> list[bool]:
        hooks = [m.register_forward_hook(compare) for m in network.modules() if isinstance(m, SpikeConv2d)]
        seen.clear()
        with break_even(SPIKES, SPIKES, SPIKES):
            out = network(images)
            if out.requires_grad:
                out.sum().backward()
        for hook in hooks:
            hook.remove()
        return list(seen)

    trained = run(network.train())
    # The counts of SEW blocks and the currents of projections are no bits.
    assert sum(trained) == {"basic": 5, "sew": 3, "ms": 4}[block]
    with torch.no_grad():
        assert run(network.eval()) == trained
        assert run(for_inference(fold(network), torch.float32)) == trained
        with torch.inference_mode():
            assert not any(run(network))


class Network(nn.Module):
    """Two neurons, whose spikes a convolution, a projection and a skip path read."""

    def __init__(self, neuron: neurons.Neuron, stride: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.fire = NormNeuron(nn.BatchNorm2d(16), neuron)
        # A bias before a batch norm has no gradient but rounding.
        self.conv = SpikeConv2d(16, 16, 3, stride, 1, bias=False)
        self.project = nn.Identity() if stride == 1 else SpikeConv2d(16, 16, 1, stride, bias=False)
        self.fire2 = NormNeuron(nn.BatchNorm2d(16), copy.deepcopy(neuron))
        self.conv2 = SpikeConv2d(16, 32, 3, 1, 1)
        self.fired: list[Any] = []

    def forward(self, images: Tensor) -> Tensor:
        spikes = self.fire(nets.layers.over_time(self.stem, images))
        spikes2 = self.fire2(self.conv(spikes), self.project(spikes))
        self.fired = [spikes.grad_fn, spikes2.grad_fn]
        out: Tensor = self.conv2(spikes2)
        return out


def parameter_gradients(network: Network, images: Tensor, input_grad: float) -> tuple[list[Tensor], list[Tensor]]:
    """Return the gradients of the images and of all parameters, and those that arrive at the neurons."""
    network, images = copy.deepcopy(network), images.clone().requires_grad_()
    with break_even(DENSE, DENSE, input_grad):
        out = network(images)
    seen: list[Tensor] = []
    for node in network.fired:
        node.register_prehook(lambda grads: seen.append(grads[0]))
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [images.grad, *(parameter.grad for parameter in network.parameters())], seen[::-1]


CASES = [
    # neuron, surrogate, T, stride, reset, detach_reset, detach_membrane; each neuron is eight kernels to compile
    (neurons.LIF, neurons.Rectangle(), 1, 1, "hard", False, False),
    (neurons.LIF, neurons.Rectangle(), 4, 2, "hard", False, False),
    (neurons.IF, neurons.Triangle(0.7, 0.6), 4, 1, "soft", True, False),
    (neurons.PLIF, neurons.NormalisedTanh(0.8), 2, 2, "hard", False, True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(getattr(x, "__name__", x)) for x in case))
def test_gradients_of_a_network_do_not_change(case: tuple[Any, ...]) -> None:
    kind, surrogate, steps, stride, reset, detach_reset, detach_membrane = case
    neuron = kind(surrogate=surrogate, reset=reset, detach_reset=detach_reset, detach_membrane=detach_membrane)
    network = Network(neuron, stride).to(memory_format=torch.channels_last)
    images = torch.randn(steps, 3, 7, 6, 3).movedim(-1, 2)
    want, dense = parameter_gradients(network, images, DENSE)
    got, sparse = parameter_gradients(network, images, SPIKES)
    for a, b in zip(got, want, strict=True):
        assert b.any()
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6 * float(b.abs().max()))
    # A skip path has a dense gradient.
    a, b = sparse[1], dense[1]
    assert 0.1 < (a != 0).float().mean() < 0.9 < (b != 0).float().mean()
    torch.testing.assert_close(a, torch.where(a != 0, b, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compress", [True, False])
def test_bits_are_listed(compress: bool) -> None:
    if compress and not rows._COMPRESS:
        pytest.skip("no vbmi2")
    with patch.object(rows, "_COMPRESS", compress):
        list_bits = rows.make_list_bits.__wrapped__(64)

        @numba.njit
        def listed(target: int, n: int, word: int) -> int:
            return list_bits(pointer(target, numba.int32), n, word, numba.int32(7), numba.int32(3))

        for word in (0, 1, -1, 0x5555, 1 << 62, 0x0F0F_1234_8000_0001):
            offsets = np.zeros(64 + 2 + rows.SLACK, np.int32)
            n = listed(offsets.ctypes.data, 2, word)
            want = [7 + 3 * i for i in range(64) if word >> i & 1]
            assert offsets[2:n].tolist() == want
