"""Convolutions in 8-bit whole numbers: exact sums, operators that onnxruntime fuses, nearly the same accuracy."""

import re
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from shortcut_snn.cli import main
from shortcut_snn.data import Digits
from shortcut_snn.deploy import card, export_network, fold, load
from shortcut_snn.deploy.check import check, first_difference
from shortcut_snn.deploy.int8 import Int8Conv2d, to_int8
from shortcut_snn.deploy.onnx_export import ONNX, OnnxRuntime
from shortcut_snn.deploy.prepare import Prepare
from shortcut_snn.deploy.registry import TRAINED
from shortcut_snn.deploy.torch_runtime import TrainedNetwork
from shortcut_snn.neurons import IF, ILIF, LIF, CurrentNeuron

from .networks import batch, small

pytestmark = pytest.mark.filterwarnings("ignore")


def test_sums_are_those_of_whole_numbers():
    conv = nn.Conv2d(6, 4, 3, 2, 1)
    spikes = torch.randint(0, 2, (3, 6, 9, 9))
    layer = Int8Conv2d(conv, threshold=0.5)
    weight = (conv.weight / conv.weight.abs().amax((1, 2, 3), keepdim=True) * 127).round()
    assert torch.equal(layer.weight.float(), weight)
    sums = F.conv2d(spikes.double(), weight.double(), layer.bias.double(), 2, 1)
    exact = sums * layer.scale.double().view(-1, 1, 1)
    assert (exact - conv(spikes.float())).abs().max() < 0.02
    # To the nearest step, and no further than four thresholds.
    assert (layer(spikes.float()) - exact).abs().max() <= 0.5 * 0.5 / 31.5 + 1e-6
    assert Int8Conv2d(conv, 0.01)(spikes.float()).abs().max() < 4.1 * 0.01


def test_accuracy_on_all_test_digits():
    network, test = load("digits-resnet18", TRAINED), Digits().load().test
    images = test.fetch(np.arange(len(test)))
    coarse = to_int8(fold(network.runtime.network), Prepare(network.about)(images[:64]))
    assert sum(isinstance(module, Int8Conv2d) for module in coarse.modules()) == 19
    runtimes = network.runtime, TrainedNetwork(coarse, network.about)
    before, after = ((each.whole(images).argmax(1) == test.labels).float().mean() for each in runtimes)
    assert after >= before - 0.003


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network in 8 bits, what it is, and its file."""
    network, about = small()
    images, path = batch(about), tmp_path_factory.mktemp("int8") / "network.onnx"
    runtime = ONNX(int8=True).make(to_int8(fold(network), Prepare(about)(images)), about, path, False)
    return network, about, images, path, runtime


def test_onnxruntime_fuses_every_convolution_but_the_first(exported, tmp_path):
    path = exported[3]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options)
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    assert (kinds["QLinearConv"], kinds["Conv"] + kinds["FusedConv"]) == (5, 1)
    weights = [each.data_type for each in onnx.load(path).graph.initializer if len(each.dims) == 4]
    assert Counter(weights) == {onnx.TensorProto.INT8: 5, onnx.TensorProto.FLOAT: 1}


def test_every_spike_is_that_of_the_network_with_such_weights(exported):
    network, about, images, _, runtime = exported
    reference = TrainedNetwork(to_int8(fold(network), Prepare(about)(images)), about)
    expected, got = reference.spikes(images), runtime.spikes(images)
    assert list(got) == list(expected)
    assert all(torch.equal(got[name], expected[name]) for name in got)
    before = TrainedNetwork(network, about).spikes(images)
    assert any(not torch.equal(got[name], before[name]) for name in got), "8 bits are coarser"


def test_step_by_step_and_events(tmp_path):
    network, about = small(events=True, block="sew")
    frames = batch(about)
    path, _ = export_network(network, about, frames, ONNX(int8=True), tmp_path, streaming=True)
    runtime = OnnxRuntime(path, about, streaming=True)
    reference = TrainedNetwork(to_int8(fold(network), Prepare(about)(frames)), about)
    assert isinstance(reference.network.stem.conv, nn.Conv2d), "counts of events are no spikes"
    assert check(reference, runtime, frames).difference < 1e-5
    assert first_difference(reference, runtime, frames).startswith("all spikes are equal")


@pytest.mark.parametrize("factor", [0.0, 1e-10, 1e-4])
def test_a_channel_with_next_to_no_weights_keeps_its_bias(factor):
    conv, spikes = nn.Conv2d(3, 4, 3, padding=1), (torch.rand(2, 3, 5, 5) < 0.3).float()
    with torch.no_grad():
        conv.weight[0] *= factor
        conv.bias[:] = torch.tensor([1.5, -1.5, 0.0, 0.3])
    assert (Int8Conv2d(conv, 1.0)(spikes) - conv(spikes)).abs().max() < 0.05


class Unlike(nn.Module):
    """Two layers of neurons, whose thresholds and greatest numbers of spikes are not the same."""

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
    ("second", "span"), [(LIF(threshold=8.0), 32.0), (ILIF(most=16, threshold=0.5), 8.0)], ids=["threshold", "counts"]
)
@torch.no_grad()
def test_currents_of_layers_that_are_not_alike(second, span):
    network, images = Unlike(LIF(threshold=0.05), second), torch.rand(16, 4, 9, 9) * 4
    network.convs[2].weight.mul_(1.2 * span / network(images).abs().max())
    expected, got = network(images).clamp(-span, span), to_int8(network, images)(images)
    assert expected.abs().max() == span
    # But where a spike of the layer before is another.
    assert (got - expected).abs().quantile(0.98) < 0.02 * span


def test_a_wrong_scale_is_refused(tmp_path, monkeypatch):
    written = Int8Conv2d._as_operators
    monkeypatch.setattr(Int8Conv2d, "_as_operators", lambda layer, x: written(layer, x) * 1.01)
    network, about = small()
    with pytest.raises(ValueError, match="the export differs"):
        export_network(network, about, batch(about), ONNX(int8=True), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_convolution_of_spikes():
    network, _ = small()
    network.layer1, network.layer2, network.classifier = nn.Identity(), nn.Identity(), nn.Linear(4, 10)
    with pytest.raises(ValueError, match="int8: no convolution of this network takes spikes"):
        to_int8(fold(network), torch.rand(2, 3, 16, 16))


def test_the_command(trained, tmp_path, capsys):
    words = ["export", str(trained), "--out", str(tmp_path), "--int8", "--images", "30", "--to"]
    assert main([*words, "onnx"]) == 0
    said, read = capsys.readouterr().out, card(tmp_path)
    assert re.search(r"\d+ of 30 predictions agree", said)
    assert f"test accuracy in int8: {100 * read.accuracy['test']:.2f} %" in said
    assert read.files == {"onnx, int8": "network.onnx"}
    assert read.energy is None
    assert str(trained.parent).encode() not in (tmp_path / "network.onnx").read_bytes()
    assert main([*words, "nir"]) == 1
    assert "--int8: only onnx files have weights in int8, not nir; leave it out" in capsys.readouterr().err
