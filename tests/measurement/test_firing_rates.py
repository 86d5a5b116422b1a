"""Firing rates are those counted by hand, and the penalty on them reaches the weights as autograd says."""

import csv

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from shortcut_snn import FiringRatePenalty, firing_rates, nets
from shortcut_snn.method import Method
from shortcut_snn.method.penalties import FiringRates
from shortcut_snn.method.taps import first_tensor
from shortcut_snn.neurons import ILIF, LIF, NormNeuron, use_backend
from shortcut_snn.neurons.packing import bits_of
from shortcut_snn.recipes import build, parse_options, recipe_of

from ..training import tiny

X = 3 * torch.rand(4, 3, 6, generator=torch.Generator().manual_seed(0))


def built_in(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return nets.spiking_resnet8(10, 2, width=4, make_neuron=lambda: LIF(**options))


def by_hand(network: nn.Module, layers: list[nn.Module], *inputs: torch.Tensor) -> torch.Tensor:
    """Return the mean over all outputs of these layers, in a graph."""
    outputs: list[torch.Tensor] = []
    hooks = [each.register_forward_hook(lambda *call: outputs.append(first_tensor(call[-1]))) for each in layers]
    for x in inputs:
        network(x)
    for hook in hooks:
        hook.remove()
    return torch.cat([output.flatten() for output in outputs]).mean()


@pytest.mark.parametrize("backend", ["eager", "numba"])
def test_built_in_neurons_are_counted_by_their_bits(backend):
    network, images = built_in(), torch.rand(2, 3, 8, 8)
    layers = [module for module in network.modules() if isinstance(module, NormNeuron)]
    assert len(layers) == 7
    with use_backend(backend):
        expected = by_hand(network, layers, images)
        gradients = torch.autograd.grad(expected, list(network.parameters()), allow_unused=True)
        carried: list[bool] = []
        layers[1].register_forward_hook(lambda *call: carried.append(bits_of(call[-1]) is not None))
        with firing_rates(network) as rates:
            network(images)
    assert carried == [backend == "numba"]
    assert rates.mean.item() == pytest.approx(expected.item(), rel=1e-6)
    assert 0 < rates.mean < 1
    assert list(rates.by_layer)[:2] == ["stem.spike", "layer1.0.spike1"]
    penalty = FiringRatePenalty(weight=2.0, target=0.01)(rates)
    assert penalty.item() == pytest.approx(2 * (expected.item() - 0.01), rel=1e-5)
    penalty.backward()
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=1e-4, atol=1e-8)


def test_an_integer_is_as_many_spikes():
    network = nn.Sequential(nn.Linear(6, 5), ILIF())
    with firing_rates(network) as rates:
        spikes = network(3 * X)
    assert spikes.max() > 1
    torch.testing.assert_close(rates.by_layer["1"], spikes.mean())


@pytest.mark.parametrize("library", ["spikingjelly", "spikingjelly step by step", "snntorch", "norse"])
def test_neurons_of_other_libraries(library):
    torch.manual_seed(0)
    x = X if library != "norse" else 30 * X
    inputs = [x] if library == "spikingjelly" else list(x)
    if library.startswith("spikingjelly"):
        network = nn.Sequential(layer.Linear(6, 8), neuron.LIFNode(), layer.Linear(8, 5))
        functional.set_step_mode(network, "m" if library == "spikingjelly" else "s")
    elif library == "snntorch":
        network = nn.Sequential(nn.Linear(6, 8), snntorch.Leaky(beta=0.8, init_hidden=True), nn.Linear(8, 5))
    else:
        network = norse.SequentialState(nn.Linear(6, 8), norse.LIFBoxCell())
    expected = by_hand(network, [network[1]], *inputs)
    (gradient,) = torch.autograd.grad(expected, [network[0].weight])
    functional.reset_net(network)
    if library == "snntorch":
        network[1].reset_mem()
    with firing_rates(network) as rates:
        for x in inputs:
            network(x)
    assert rates.mean.item() == pytest.approx(expected.item())
    assert rates.mean > 0
    FiringRatePenalty()(rates).backward()
    torch.testing.assert_close(network[0].weight.grad, gradient)


def test_below_its_target_it_costs_nothing():
    weight = torch.ones((), requires_grad=True)
    penalty = FiringRatePenalty(weight=3.0, target=0.5)(FiringRates({"layer": 4 * weight}, {"layer": 10}))
    penalty.backward()
    assert (penalty.item(), weight.grad.item()) == (0, 0)


def test_what_has_no_rates_says_so():
    with pytest.raises(ValueError, match="Linear has no known neurons"), firing_rates(nn.Linear(2, 2)):
        pass
    with firing_rates(LIF()) as rates:
        pass
    with pytest.raises(ValueError, match="no firing rates"):
        FiringRatePenalty()(rates)


def test_a_plain_loop_buys_fewer_spikes_and_learns():
    data, fired = [tiny.Sides(32)[index] for index in range(32)], {}
    images, labels = torch.stack([image for image, _ in data]), torch.tensor([label for _, label in data])
    for penalty in (FiringRatePenalty(0.0), FiringRatePenalty(weight=8.0)):
        network = tiny.network()
        optimizer = torch.optim.Adam(network.parameters(), 0.02)
        for _ in range(40):
            with firing_rates(network) as rates:
                output = network(images)
            optimizer.zero_grad()
            (F.cross_entropy(output, labels) + penalty(rates)).backward()
            optimizer.step()
        assert torch.equal(output.argmax(1), labels)
        fired[penalty] = rates.mean.item()
    free, paid = fired.values()
    assert 0 < paid < 0.5 * free


def test_a_task_adds_its_penalty_at_every_step(tmp_path):
    rates = []

    def penalty(recorded: FiringRates) -> torch.Tensor:
        rates.append(recorded.mean)
        return 100.0 + recorded.mean

    tiny.run(tmp_path / "run", tiny.task(epochs=1, method=Method(penalty=penalty)))
    assert len(rates) == 5
    assert all(0 < rate < 1 for rate in rates)
    row = next(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert 100 < float(row["train_loss"]) < 102 + float(row["train_main_loss"])


def test_a_recipe_names_its_penalty():
    recipe = recipe_of("digits", parse_options(["method.penalty.kind=firing_rate", "method.penalty.target=0.1"]))
    assert str(recipe).endswith("penalty firing_rate")
    small = {"data": {"train_limit": 40, "test_limit": 20}, "network": {"kind": "resnet8", "width": 2}}
    task, _ = build(recipe_of(recipe.to_dict(), small))
    assert task.method.penalty == FiringRatePenalty(target=0.1)


def test_a_layer_without_gradients_is_no_silent_exception() -> None:
    net = nn.Sequential(nn.Linear(6, 8), LIF(), nn.Linear(8, 8), LIF())

    def recorded(use_reentrant: bool) -> FiringRates:
        with firing_rates(net) as rates:
            x = net[1](net[0](3 * torch.rand(4, 5, 6)))
            checkpoint(net[2:], x, use_reentrant=use_reentrant)
        return rates

    FiringRatePenalty()(recorded(use_reentrant=False)).backward()
    assert net[2].weight.grad is not None
    with pytest.raises(RuntimeError, match="the layer '3' runs without gradients"):
        FiringRatePenalty()(recorded(use_reentrant=True))
    with torch.no_grad():
        assert FiringRatePenalty()(recorded(use_reentrant=False)) > 0
