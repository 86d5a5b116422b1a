"""Convolutions with int8 weights: exact sums, operators that onnxruntime fuses, nearly the same accuracy."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from shortcut_snn.data import Digits
from shortcut_snn.deploy import export_network, fold, load
from shortcut_snn.deploy.export import network_logits
from shortcut_snn.deploy.onnx_export import ONNX, Int8Conv2d, onnx_logits, to_int8
from shortcut_snn.deploy.spec import Prepare
from shortcut_snn.neurons import IF, ILIF, LIF
from shortcut_snn.neurons.current_neuron import CurrentNeuron

from .networks import batch, small

pytestmark = pytest.mark.filterwarnings("ignore")


def test_sums_of_integers_are_exact():
    conv = nn.Conv2d(6, 4, 3, 2, 1)
    spikes = torch.randint(0, 2, (3, 6, 9, 9))
    layer = Int8Conv2d(conv, threshold=0.5)
    assert (layer.weight.float() * layer.scale.view(-1, 1, 1, 1) - conv.weight).abs().max() < 0.51 * layer.scale.max()
    sums = F.conv2d(spikes.double(), layer.weight.double(), layer.bias.double(), 2, 1)
    exact = sums * layer.scale.double().view(-1, 1, 1)
    assert (exact - conv(spikes.float())).abs().max() < 0.02
    # Rounded to the nearest step, and clamped to four thresholds.
    assert (layer(spikes.float()) - exact).abs().max() <= 0.5 * 0.5 / 31.5 + 1e-6
    assert Int8Conv2d(conv, 0.01)(spikes.float()).abs().max() < 4.1 * 0.01


def test_int8_keeps_the_accuracy_on_digits():
    network, test = load("digits-resnet18"), Digits().load().test
    images = test.fetch(np.arange(len(test)))
    rounded = to_int8(network.network, Prepare(network.spec)(images[:64]))
    assert sum(isinstance(module, Int8Conv2d) for module in rounded.modules()) == 19
    accuracy = (network.predict(images) == test.labels).float().mean()
    rounded_accuracy = (network_logits(rounded, network.spec, images).argmax(1) == test.labels).float().mean()
    assert rounded_accuracy >= accuracy - 0.003


def test_streaming_int8_is_fused_and_computes_what_the_rounded_network_does(tmp_path):
    network, spec = small(events=True, block="sew")
    frames = batch(spec)
    path, _ = export_network(network, spec, frames, ONNX(streaming=True, int8=True), tmp_path)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options)
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    assert (kinds["QLinearConv"], kinds["Conv"] + kinds["FusedConv"]) == (5, 1)
    weights = [tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 4]
    assert Counter(weights) == {onnx.TensorProto.INT8: 5, onnx.TensorProto.FLOAT: 1}

    rounded = to_int8(fold(network), Prepare(spec)(frames))
    assert isinstance(rounded.stem.conv, nn.Conv2d), "the first convolution stays in float32"
    logits, expected = onnx_logits(path, spec)(frames), network_logits(rounded, spec, frames)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert not torch.allclose(expected, network_logits(network, spec, frames), atol=1e-5), "int8 is coarser"


@pytest.mark.parametrize("factor", [0.0, 1e-10, 1e-4])
def test_a_channel_of_tiny_weights_keeps_its_bias(factor):
    conv, spikes = nn.Conv2d(3, 4, 3, padding=1), (torch.rand(2, 3, 5, 5) < 0.3).float()
    with torch.no_grad():
        conv.weight[0] *= factor
        conv.bias[:] = torch.tensor([1.5, -1.5, 0.0, 0.3])
    assert (Int8Conv2d(conv, 1.0)(spikes) - conv(spikes)).abs().max() < 0.05


class MixedNeurons(nn.Module):
    """Three convolutions whose neurons differ in threshold and in the number of spikes per step."""

    def __init__(self, first, second):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.neurons = nn.ModuleList([CurrentNeuron(IF()), CurrentNeuron(first), CurrentNeuron(second)])

    def forward(self, x):
        for conv, neuron in zip(self.convs, self.neurons, strict=True):
            x = conv(x)
            current, x = x, neuron(x.unsqueeze(0)).squeeze(0)
        return current


@pytest.mark.parametrize(
    ("second", "span"),
    [(LIF(threshold=8.0), 32.0), (ILIF(max_spikes=16, threshold=0.5), 8.0)],
    ids=["threshold", "counts"],
)
@torch.no_grad()
def test_currents_are_scaled_by_their_own_neurons(second, span):
    network, images = MixedNeurons(LIF(threshold=0.05), second), torch.rand(16, 4, 9, 9) * 4
    network.convs[2].weight.mul_(1.2 * span / network(images).abs().max())
    expected, current = network(images).clamp(-span, span), to_int8(network, images)(images)
    assert expected.abs().max() == span
    # A few currents differ by more, where rounding flips a spike of the layer before.
    assert (current - expected).abs().quantile(0.98) < 0.02 * span


def test_int8_needs_a_convolution_of_spikes():
    network, _ = small()
    network.layer1, network.layer2, network.classifier = nn.Identity(), nn.Identity(), nn.Linear(4, 10)
    with pytest.raises(ValueError, match="no convolution of this network has spikes as input"):
        to_int8(fold(network), torch.rand(2, 3, 16, 16))
