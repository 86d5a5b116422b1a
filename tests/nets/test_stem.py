"""Static images: the stem's convolution and normalisation run once, and nothing else changes."""

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn import nets

from .helpers import RESNETS, awake, by_name


def batch_sizes(network: nets.SpikingResNet) -> dict[str, list[int]]:
    """Batch sizes with which modules are called: T times the number of images unless they run once."""
    calls: dict[str, list[int]] = {"conv": [], "spike": [], "block": []}

    def note(name: str, module: nn.Module, axes: int) -> None:
        module.register_forward_hook(
            lambda _module, inputs, _output: calls[name].append(inputs[0].shape[:axes].numel())
        )

    note("conv", network.stem.conv, 1)
    note("spike", network.stem.spike, 2)
    note("block", network.layer1[0].conv1, 1)
    return calls


@pytest.mark.parametrize("stem", ["small", "large"])
def test_a_static_image_passes_the_stem_once_and_frames_pass_it_t_times(stem: str) -> None:
    network = nets.spiking_resnet18(3, 5, width=2, stem=stem)
    calls = batch_sizes(network)
    images = torch.rand(2, 3, 32, 32)
    network(images)
    assert calls == {"conv": [2], "spike": [2], "block": [10]}
    network(images.expand(5, 2, 3, 32, 32))
    assert calls == {"conv": [2, 10], "spike": [2, 10], "block": [10, 10]}


def test_a_static_image_is_normalised_once() -> None:
    # The unbiased variance that batch normalisation keeps tells how many values it saw.
    network = nets.spiking_resnet18(3, 5, width=2)
    norm = network.stem.spike.norm
    norm.momentum = 1.0
    images = torch.rand(2, 3, 4, 4)
    current = network.stem.conv(images)
    network(images)
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_var, current.var((0, 2, 3), correction=1))
    network(images.expand(5, 2, 3, 4, 4))
    torch.testing.assert_close(norm.running_var, current.expand(5, *current.shape).var((0, 1, 3, 4), correction=1))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("stem", "side"), [("small", 8), ("large", 32)])
@pytest.mark.parametrize("name", RESNETS)
def test_a_static_image_is_its_repetition_over_time(name: str, stem: str, side: int, training: bool) -> None:
    images = torch.rand(3, 3, side, side, dtype=torch.float64).requires_grad_()
    network = awake(by_name(name, 3, 4, width=2, stem=stem).double(), images).train(training)
    results = []
    for x in (images, images.repeat(4, 1, 1, 1, 1)):
        logits = network(x)
        weights = [network.stem.conv.weight, network.stem.spike.norm.weight, images]
        results.append([logits, *torch.autograd.grad(logits.square().sum(), weights)])
    assert logits.std(0).min() > 0
    for static, frames in zip(*results, strict=True):
        torch.testing.assert_close(static, frames, rtol=1e-6, atol=1e-9)


def test_one_time_step() -> None:
    images = torch.rand(2, 3, 8, 8)
    network = awake(nets.spiking_resnet18(3, 1, width=2), images).eval()
    assert network(images).std(0).min() > 0
    assert torch.equal(network(images), network(images.unsqueeze(0)))


def test_the_neuron_still_integrates_over_time() -> None:
    # A current of 0.7 is silent at first and fires once two steps have been added up.
    network = nets.spiking_resnet18(3, 4, width=2).eval()
    current: Tensor = torch.full((1, 1, 2, 3, 3), 0.7)
    spikes = network.stem.spike(current, time_steps=4)
    assert spikes.mean((1, 2, 3, 4)).tolist() == [0, 1, 0, 1]
