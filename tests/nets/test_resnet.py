"""Networks as a whole: readouts, state, batches, dtypes, and refused inputs."""

import copy

import pytest
import torch
from torch.nn import functional as F

from shortcut_snn import nets
from shortcut_snn.neurons import LIF, ATan

from .helpers import awake, by_name

NAMES = ["resnet18", "resnet19"]


def build(name: str = "resnet18", **options) -> nets.SpikingResNet:
    return by_name(name, **{"num_classes": 3, "time_steps": 3, "width": 4} | options)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_readout_sequence_averages_to_the_mean_readout(name: str, training: bool) -> None:
    frames = torch.rand(3, 4, 3, 8, 8)
    mean, sequence = awake(build(name), frames), build(name, readout="sequence")
    sequence.load_state_dict(mean.state_dict())
    mean.train(training), sequence.train(training)
    logits = sequence(frames)
    assert logits.shape == (3, 4, 3)
    torch.testing.assert_close(logits.mean(0), mean(frames), rtol=1e-6, atol=1e-6)
    assert not torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("block", ["basic", "sew", "ms"])
@pytest.mark.parametrize("time_steps", [1, 2])
def test_the_gradient_of_a_single_sample_is_that_of_any_memory_layout(block: str, time_steps: int) -> None:
    network = nets.spiking_resnet8(3, time_steps, width=4, block=block, make_neuron=lambda: LIF(surrogate=ATan()))
    image, gradients = torch.rand(1, 3, 8, 8, dtype=torch.float64), []
    for layout in (torch.contiguous_format, torch.channels_last):
        one = copy.deepcopy(network).double().to(memory_format=layout)
        logits = one(image.to(memory_format=layout))
        gradients.append(torch.autograd.grad(F.cross_entropy(logits, torch.tensor([1])), list(one.parameters())))
    assert gradients[0][0].any()
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    network = build().to(dtype)
    assert network(torch.rand(2, 3, 8, 8, dtype=dtype)).dtype == dtype
    assert network.example_input().dtype == dtype
