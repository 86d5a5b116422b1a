"""Networks through NeuroBench's own harness, whose figures are ours where they mean the same."""

import sys

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from shortcut_snn import nets
from shortcut_snn.data import Digits
from shortcut_snn.diagnosis.probe import probe
from shortcut_snn.energy import measure_energy
from shortcut_snn.energy.neurobench import neurobench_metrics
from shortcut_snn.energy.operations import count_operations

from .test_energy import settle


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "neurobench", None)
    with pytest.raises(ValueError, match=r"NeuroBench is needed .*: pip install 'shortcut-snn\[neurobench\]'"):
        neurobench_metrics(nn.Linear(2, 2), DataLoader(TensorDataset(torch.rand(2, 2), torch.zeros(2))))


@pytest.fixture(autouse=True)
def installed(request):
    if request.function is not test_a_package_that_is_missing_is_named:
        pytest.importorskip("neurobench", reason="NeuroBench is not installed: pip install '.[neurobench]'")


@pytest.fixture(scope="module")
def digits():
    """100 images as floats, in batches of which the last is smaller."""
    images, labels = Digits(test_limit=100).load().sample(100)
    return DataLoader(TensorDataset(images / 255 - 0.3, labels), batch_size=30)


@pytest.mark.parametrize(("block", "readout"), [("basic", "mean"), ("ms", "sequence")])
def test_its_figures_are_ours(digits, block, readout):
    net = nets.spiking_resnet18(10, 3, width=4, in_channels=1, block=block, readout=readout)
    settle(net, digits.dataset.tensors[0])
    with torch.no_grad():
        net.layer2[0].conv1.weight[:2] = 0.25
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = neurobench_metrics(net, digits)
    assert net.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())

    images, labels = digits.dataset.tensors
    report = measure_energy(net, [images])
    with torch.no_grad(), count_operations(net.eval()) as counted, probe(net, membrane=False) as tallies:
        logits = net(images)
    operations = found["SynapticOperations"]
    assert operations["Effective_ACs"] == pytest.approx(sum(each.additions for each in report.layers), rel=1e-6)
    assert operations["Effective_ACs"] > 1000
    assert operations["Dense"] == pytest.approx(sum(each.synapses for each in counted.layers.values()) / 100, rel=1e-6)
    assert 0 < operations["Effective_MACs"] < sum(each.multiplications for each in report.layers)
    spikes, elements = (sum(getattr(tally, name) for tally in tallies.values()) for name in ("spikes", "elements"))
    assert found["ActivationSparsity"] == pytest.approx(1 - float(spikes) / elements, rel=1e-6)
    assert elements / 100 == report.updates
    logits = logits.mean(0) if readout == "sequence" else logits
    assert found["ClassificationAccuracy"] == pytest.approx((logits.argmax(-1) == labels).float().mean().item())
    assert found["ParameterCount"] == sum(each.numel() for each in net.parameters())
    assert found["Footprint"] == sum(each.numel() * each.element_size() for each in net.state_dict().values())
    assert found["ConnectionSparsity"] == 0
    with torch.no_grad():
        net.classifier.weight[:5] = 0
    weights = [each.weight for each in net.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    share = weights[-1].numel() / 2 / sum(weight.numel() for weight in weights)
    assert neurobench_metrics(net, digits)["ConnectionSparsity"] == pytest.approx(share, abs=1e-4)


def test_a_network_of_another_library_that_keeps_a_state():
    """Put to rest before each batch, and left at rest; frames come samples first, as NeuroBench has them."""
    net = nn.Sequential(layer.Linear(6, 8), neuron.LIFNode(), layer.Linear(8, 5))
    functional.set_step_mode(net, "m")
    frames, labels = 4 * torch.rand(9, 4, 6), torch.randint(5, (9,))
    loader = DataLoader(TensorDataset(frames, labels), batch_size=4)

    def prepare(batch):
        return batch[0].transpose(0, 1), batch[1]

    found = neurobench_metrics(net, loader, prepare)
    assert net[1].v == 0.0
    report = measure_energy(net, [frames.transpose(0, 1)])
    assert found["SynapticOperations"]["Effective_ACs"] == pytest.approx(sum(each.additions for each in report.layers))
    assert found["ActivationSparsity"] == pytest.approx(1 - report.layers[1].firing_rate)
    with pytest.raises(ValueError, match="first batch has 4 rows and 3 samples"):
        neurobench_metrics(net, DataLoader(TensorDataset(frames.transpose(0, 1)[:, :3], labels[:4]), batch_size=4))


def test_a_metric_that_fails_is_no_zero(digits):
    images, labels = digits.dataset.tensors
    net = nets.spiking_resnet18(10, 2, width=4, in_channels=1)
    loader = DataLoader(TensorDataset(images, nn.functional.one_hot(labels)), batch_size=50)
    with pytest.raises(ValueError, match="NeuroBench failed: Error running workload metric 'ClassificationAccuracy'"):
        neurobench_metrics(net, loader)
