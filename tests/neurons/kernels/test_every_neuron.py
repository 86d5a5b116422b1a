"""Every neuron behind a norm and with a residual: its kernels against plain PyTorch in double precision."""

import copy

import pytest
import torch
from torch import nn

from shortcut_snn.neurons import NormNeuron, use_backend
from shortcut_snn.neurons.packing import bits_of

from ..every_neuron import NEURONS, currents, is_active
from .test_norm_neuron import lay_out
from .under_test import DEVICE, KERNELS


@pytest.mark.parametrize(
    ("name", "layout", "dtype"),
    [
        ("clif", "channels_last", torch.float32),
        ("alif", "contiguous", torch.float32),
        ("synaptic", "channels_last", torch.bfloat16),
        ("rlif", "contiguous", torch.float16),
        ("klif", "contiguous", torch.float32),
        ("ilif", "channels_last", torch.float32),
        ("by-channel", "channels_last", torch.float32),
        ("by-channel", "contiguous", torch.float32),
    ],
)
def test_norm_and_residual_equal_plain_pytorch(name: str, layout: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    layer = NormNeuron(nn.BatchNorm2d(5), NEURONS[name]())
    nn.init.uniform_(layer.norm.weight, 0.5, 2.0)
    # More than one tile, and a tail.
    x = lay_out(currents(4, 2, 5, 4, 3).to(DEVICE), layout).to(dtype)
    residual = lay_out((currents(4, 2, 5, 4, 3, seed=2) > 0.5).to(DEVICE, dtype), layout)
    results = []
    for backend, module, kind in ((KERNELS, layer, dtype), ("eager", copy.deepcopy(layer).double(), torch.float64)):
        leaf = x.detach().to(kind).requires_grad_()
        with use_backend(backend):
            spikes = module(leaf, residual.to(kind))
            assert (bits_of(spikes) is not None) == (backend == KERNELS and name != "ilif")
            (spikes * residual.roll(1, 0).to(kind)).sum().backward()
        results.append([spikes.detach(), leaf.grad, *(p.grad for p in module.parameters())])
    assert is_active(*results[1])
    assert torch.equal(results[0][0].double(), results[1][0])
    digits = max(torch.finfo(dtype).eps, 1e-5)
    for got, want in zip(*results, strict=True):
        scale = want.abs().max().clamp_min(1.0)
        torch.testing.assert_close(got.double() / scale, want / scale, rtol=4 * digits, atol=4 * digits)


@pytest.mark.parametrize(
    ("name", "detach"),
    [("lif", False), ("clif", False), ("rlif", False), ("by-channel", False), ("clif", True)],
)
def test_gradients_of_states_equal_plain_pytorch(name: str, detach: bool) -> None:
    neuron = NEURONS[name]()
    neuron.detach_membrane = detach
    current, weight = currents(4, 2, 5, 3).to(DEVICE), currents(4, 2, 5, 3, seed=2).to(DEVICE)
    initial = 0.4 * currents(2, len(neuron.states), 5, 3, seed=3).squeeze(1).to(DEVICE)
    final_weight = initial.roll(1, -1)
    results = []
    for backend, module, kind in (
        (KERNELS, neuron, torch.float32),
        ("eager", copy.deepcopy(neuron).double(), torch.float64),
    ):
        x, start = current.to(kind).requires_grad_(), initial.detach().to(kind).requires_grad_()
        with use_backend(backend):
            spikes, final = module.stream(x, start)
        loss, leaves = (spikes * weight.to(kind)).sum(), [x, *module.parameters()]
        if not detach:
            # With a detached membrane the initial state and the final one are constants.
            loss, leaves = loss + (final * final_weight.to(kind)).sum(), [*leaves, start]
        results.append([spikes.detach(), final.detach(), *torch.autograd.grad(loss, leaves)])
    assert is_active(results[1][0], *results[1][2:])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)
