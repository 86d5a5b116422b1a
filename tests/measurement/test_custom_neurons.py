"""Neurons of a user's own class are examined, initialised and priced, and asked for where they are not passed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import attach, diagnose, initialise, measure_energy
from shortcut_snn.introspection.neurons import custom_neurons
from shortcut_snn.measurement import examine

from ..deep_peers import digits


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v > 0).to(v)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad / (1 + ctx.saved_tensors[0].abs()) ** 2


class Surrogate(nn.Module):
    def forward(self, v: Tensor) -> Tensor:
        return Spike.apply(v)


class Step(nn.Module):
    """A neuron of one time step, which takes and returns its potential."""

    def __init__(self) -> None:
        super().__init__()
        self.spike = Surrogate()

    def forward(self, current: Tensor, v: Tensor | float) -> tuple[Tensor, Tensor]:
        v = 0.5 * v + current
        spikes = self.spike(v - 1)
        return spikes, v * (1 - spikes.detach())


class Whole(Step):
    """The same over a sequence ``[T, N, ...]``."""

    def forward(self, current: Tensor) -> Tensor:  # type: ignore[override]
        v, spikes = 0.0, []
        for step in current:
            s, v = super().forward(step, v)
            spikes.append(s)
        return torch.stack(spikes)


class Network(nn.Module):
    def __init__(self, neuron: type[Step]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(64, 32), nn.Linear(32, 32)])
        self.neurons, self.readout = nn.ModuleList([neuron(), neuron()]), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.neurons[0], Whole):
            for layer, neuron in zip(self.layers, self.neurons, strict=True):
                x = neuron(layer(x))
            return self.readout(x).mean(0)
        outputs, potentials = [], [0.0, 0.0]
        for step in x:
            for i, (layer, neuron) in enumerate(zip(self.layers, self.neurons, strict=True)):
                step, potentials[i] = neuron(layer(step), potentials[i])
            outputs.append(self.readout(step))
        return torch.stack(outputs).mean(0)


def test_steps_and_sequences_of_one_neuron_are_measured_alike() -> None:
    data, nets, reports = digits(), [Network(Step), Network(Whole)], []
    for net, neuron in zip(nets, (Step, Whole), strict=True):
        report = initialise(net, *data, spiking=neuron)
        assert set(report.skipped.values()) == {"its surrogate cannot be scaled"}
        assert report.weights.keys() == {"layers.0", "layers.1"}
        net.load_state_dict(nets[0].state_dict())
        layers = diagnose(net, [data], spiking=(neuron,)).layers
        assert [layer.layer for layer in layers] == ["neurons.0", "neurons.1"]
        assert all(0.1 < layer.rate < 0.4 for layer in layers)
        reports.append([(layer.rate, layer.kept, layer.silent, layer.norm) for layer in layers])
        energy = measure_energy(net, [data[0]], time_steps=len(data[0]), spiking=neuron)
        assert sum(layer.updates for layer in energy.layers) == len(data[0]) * 64
    for steps, sequence in zip(*reports, strict=True):
        assert steps == pytest.approx(sequence, rel=1e-4)
    with custom_neurons(Whole), pytest.raises(ValueError, match="no known neurons"):
        examine(Network(Step), [data], F.cross_entropy)


class SamplesFirst(Whole):
    """The same over a sequence ``[N, T, ...]``."""

    def forward(self, current: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(current.transpose(0, 1)).transpose(0, 1)


class OfSinabs(SamplesFirst):
    """For the adapter, a neuron of sinabs."""

    __module__ = "sinabs.layers.stateful_layer"


class Squeezed(OfSinabs):
    """The same over ``[N * T, ...]``, between reshapes."""

    batch_size, num_timesteps = -1, 4

    def forward(self, current: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(current.unflatten(0, (-1, 4))).flatten(0, 1)


class Folded(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@pytest.mark.parametrize(
    ("neuron", "samples"), [(Whole, 4), (SamplesFirst, 4), (SamplesFirst, 6), (OfSinabs, 6), (Squeezed, 6)]
)
def test_the_order_of_samples_and_time_does_not_matter(neuron: Any, samples: int) -> None:
    torch.manual_seed(0)
    layers = nn.Linear(8, 32), neuron(), nn.Linear(32, 32), neuron(), nn.Linear(32, 3)
    net, x = (Folded if neuron is Squeezed else nn.Sequential)(*layers), 4 * torch.rand(4, samples, 8)
    order, labels = (0, 1) if neuron is Whole else (1, 0), torch.arange(samples) % 3
    spiking: Any = neuron if neuron in (Whole, SamplesFirst) else ()
    with torch.no_grad():
        spikes = Whole()(net[0](x))
    silent, varying = (~spikes.any(0).any(0)).float(), (spikes != spikes[:, :1]).any(0).any(0).float()

    def first_layer(x: Tensor) -> Any:
        x = x.movedim((0, 1), order).contiguous()
        model = attach(net, [], example=x, labels=labels, batch_axis=order[1], readout="mean", log=len)
        return diagnose(model, [(x, labels)], spiking=spiking).layers[0]

    layer = first_layer(x)
    assert (layer.silent, layer.varying) == pytest.approx((float(silent.mean()), float(varying.mean())))
    assert layer.kept > 0.7
    # All samples are alike, but not the time steps.
    assert first_layer(x[:, :1].repeat(1, samples, 1)).kept == 0
    x = x.movedim((0, 1), order)
    report = measure_energy(net, [x], labels=labels, spiking=spiking)
    assert report.relu_energy == measure_energy(net, [x], 4, labels=labels, spiking=spiking).relu_energy


class Static(Network):
    """Shows images for 4 time steps."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(3 * x.expand(4, -1, -1))


def test_as_many_samples_as_time_steps_are_told_apart() -> None:
    net, images = Static(Whole), torch.rand(8, 64)
    reports = [measure_energy(net, [images[:samples]], spiking=Whole) for samples in (3, 4, 5)]
    assert {report.bits for report in reports} == {3}
    assert reports[1].relu_energy == pytest.approx(reports[0].relu_energy)
    labels = torch.arange(8) % 3
    kept = [
        diagnose(net, [(images[:samples], labels[:samples])], F.cross_entropy, spiking=Whole).layers[0].kept
        for samples in (3, 4, 5)
    ]
    assert max(kept) - min(kept) < 0.15


class Named(Whole):
    def forward(self, current: Tensor, v: Tensor | None = None, decay: float = 0.5) -> Tensor:  # type: ignore[override]
        assert (v, decay) == (None, 0.9)
        return super().forward(current)


class ByName(Network):
    def forward(self, x: Tensor) -> Tensor:
        for layer, neuron in zip(self.layers, self.neurons, strict=True):
            x = neuron(layer(x), decay=0.9)
        return self.readout(x).mean(0)


def test_an_input_by_name_stays_with_its_parameter() -> None:
    net, data = ByName(Named), digits()
    assert len(diagnose(net, [data], spiking=Named).layers) == 2
    assert initialise(net, *data, spiking=Named).weights.keys() == {"layers.0", "layers.1"}


def test_the_tip_for_custom_neurons_can_be_followed() -> None:
    net, data = Network(Whole), digits()
    with torch.no_grad():
        net.layers[0].weight.mul_(0.01)
    (tip,) = [tip for tip in map(str, diagnose(net, [data], spiking=Whole).tips) if "attach" in tip]
    assert 'attach(..., method="initialised")), with spiking=(Whole,)' in tip
    model = attach(net, example=data[0], labels=data[1], method="initialised", spiking=Whole, log=len)
    assert model.initialisation.weights


def test_an_error_asks_for_the_class() -> None:
    net = Network(Step)
    for call in (initialise, lambda net, *batch: diagnose(net, [batch])):
        with pytest.raises(ValueError, match=r"no known neurons.*spiking="):
            call(net, *digits())
    with pytest.raises(TypeError, match="classes of modules"):
        initialise(net, *digits(), spiking="LIF")  # type: ignore[arg-type]
