"""The network as a whole: spikes, readouts, gradients, state, and inputs that do not fit."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shortcut_snn import nets
from shortcut_snn.neurons import IF, LIF, PLIF, ATan, NormNeuron, Rectangle

from .helpers import RESNETS, awake, by_name

NAMES = list(RESNETS)


def build(name: str = "resnet18", **options) -> nets.SpikingResNet:
    return by_name(name, **{"num_classes": 3, "time_steps": 3, "width": 4} | options)


@pytest.mark.parametrize("make_neuron", [LIF, IF, PLIF, partial(LIF, reset="soft")], ids=["LIF", "IF", "PLIF", "soft"])
@pytest.mark.parametrize("name", NAMES)
def test_every_neuron_gives_zeros_and_ones(name: str, make_neuron) -> None:
    network = build(name, make_neuron=make_neuron)
    rates: dict[str, float] = {}

    def check(layer: str, spikes: Tensor) -> None:
        assert torch.equal(spikes, spikes.bool().to(spikes.dtype)), layer
        rates[layer] = spikes.mean().item()

    layers = [layer for layer, module in network.named_modules() if isinstance(module, NormNeuron)]
    for layer in layers:
        module = network.get_submodule(layer)
        module.register_forward_hook(lambda _module, _inputs, output, layer=layer: check(layer, output))
    network(torch.rand(4, 3, 8, 8))
    assert list(rates) == layers
    assert 0 < rates["stem.spike"] < 1
    # In training mode normalisation keeps all layers alive.
    assert sum(rate > 0 for rate in rates.values()) > 0.8 * len(rates)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_mean_over_time_of_a_readout_sequence_is_the_readout_of_the_mean(name: str, training: bool) -> None:
    frames = torch.rand(3, 4, 3, 8, 8)
    mean, sequence = awake(build(name), frames), build(name, readout="sequence")
    sequence.load_state_dict(mean.state_dict())
    mean.train(training), sequence.train(training)
    logits = sequence(frames)
    assert logits.shape == (3, 4, 3)
    torch.testing.assert_close(logits.mean(0), mean(frames), rtol=1e-6, atol=1e-6)
    assert not torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    network = build(name, make_neuron=partial(PLIF, surrogate=ATan()))
    network(torch.rand(8, 3, 8, 8)).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_state_goes_through_safetensors_and_back(name: str, tmp_path: Path) -> None:
    trained, fresh = build(name), build(name)
    images = torch.rand(4, 3, 8, 8)
    trained(images)  # running statistics that are not those of a fresh network
    save_file(trained.state_dict(), tmp_path / "network.safetensors")
    assert not torch.equal(fresh.eval()(images), trained.eval()(images))
    fresh.load_state_dict(load_file(tmp_path / "network.safetensors"))
    assert torch.equal(fresh(images), trained(images))


def test_frames_are_seen_in_their_order() -> None:
    network = build()
    frames = torch.rand(3, 4, 3, 8, 8)
    assert not torch.equal(network(frames), network(frames.flip(0)))


@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_batch_do_not_mix_in_eval_mode(name: str) -> None:
    images = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    network = awake(build(name).double(), images).eval()
    assert network(images).std(0).min() > 0
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]))


def test_make_neuron_makes_each_layers_own_neuron() -> None:
    network = build(make_neuron=partial(LIF, decay=0.25, surrogate=Rectangle(4.0)))
    neurons = [module for module in network.modules() if isinstance(module, LIF)]
    assert len(neurons) == 17
    assert {(neuron.decay, neuron.surrogate) for neuron in neurons} == {(0.25, Rectangle(4.0))}
    assert len({id(neuron) for neuron in neurons}) == 17


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    network = build().to(dtype)
    assert network(torch.rand(2, 3, 8, 8, dtype=dtype)).dtype == dtype
    assert network.example_input().dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_the_example_fits(name: str) -> None:
    network = build(name, in_channels=2)
    assert network(network.example_input()).shape == (2, 3)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, 8, 8), r"takes 3 channels, got 1 in \(2, 1, 8, 8\)"),
        ((3, 2, 2, 8, 8), r"takes 3 channels, got 2 in"),
        ((4, 2, 3, 8, 8), r"runs 3 time steps, got 4 frames"),
        ((1, 2, 3, 8, 8), r"runs 3 time steps, got 1 frames"),
        ((3, 8, 8), r"images \[N, C, H, W\] or frames \[T, N, C, H, W\], got shape \(3, 8, 8\)"),
        ((1, 3, 2, 3, 8, 8), r"got shape \(1, 3, 2, 3, 8, 8\)"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("blocks", "widths", "options", "message"),
    [
        ([1, 1], [4], {}, "as many blocks as widths"),
        ([], [], {}, "as many blocks as widths"),
        ([1, 1], [4, 0], {}, r"widths\[1\] must be at least 1, got 0"),
        ([1, 0], [4, 8], {}, r"blocks\[1\] must be at least 1, got 0"),
        ([1], [4], {"hidden": -1}, "hidden must be at least 0, got -1"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused(blocks, widths, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.SpikingResNet(blocks, widths, 3, 2, **options)


def test_a_network_of_ones_own_shape() -> None:
    network = nets.SpikingResNet([1, 2], [3, 5], 4, 2, hidden=7)
    assert network.stage_names == ["layer1", "layer2"]
    assert isinstance(network.hidden, nn.Linear)
    assert network.hidden.weight.shape == (7, 5)
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 4)
