"""Labels compared with outputs, and values that can be read in several ways."""

from typing import Any

import pytest
import snntorch
import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import attach
from shortcut_snn.introspection import introspect
from shortcut_snn.introspection.inference import reproducing_arguments


class Population(nn.Module):
    """Spikes of 20 neurons in every time step, five of which vote for each of four classes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 24), snntorch.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(24, 20), snntorch.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        one, other, steps = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for step in x:
            spikes, one = self.lif1(self.fc1(step), one)
            spikes, other = self.lif2(self.fc2(spikes), other)
            steps.append(spikes)
        return torch.stack(steps)


VOTES, LABELS = {"example": 4 * torch.rand(9, 40, 12), "labels": torch.arange(40) % 4, "log": len}, torch.arange(5) % 2


def votes(output: Tensor) -> Tensor:
    return output.mean(0).unflatten(1, (4, 5)).sum(2)


def test_classes_that_do_not_occur_may_be_a_population_code() -> None:
    with pytest.raises(ValueError, match=r"(?s)1\. 40 labels use 4 of 20 outputs: pass num_classes=20.*2\. .*'sum'"):
        attach(Population(), **VOTES)
    assert attach(Population(), num_classes=20, readout="sum", **VOTES)(VOTES["example"]).main.shape == (40, 20)
    assert attach(Population(), readout=votes, **VOTES).layout.num_classes == 4
    with pytest.raises(ValueError, match=r"20 values per sample, not num_classes=4.*unflatten\(1, \(4, 5\)\)"):
        attach(Population(), num_classes=4, **VOTES)
    for classes in (3, 21):
        with pytest.raises(ValueError, match=f"not num_classes={classes}: leave num_classes out$"):
            attach(Population(), num_classes=classes, **VOTES)


def test_few_labels_may_show_that_outputs_are_no_classes() -> None:
    options: dict[str, Any] = {"example": torch.rand(8, 6), "labels": torch.arange(8) % 4, "log": len}
    with pytest.raises(ValueError, match="8 labels use 4 of 24 outputs: pass num_classes=24"):
        attach(mlp(24), **options)
    assert attach(mlp(24), num_classes=24, **options).layout.num_classes == 24
    # Chance leaves out the last of five classes in 17 % of such batches.
    assert attach(mlp(5), **options).layout.num_classes == 5


class Times(nn.Module):
    """When each output fires first, of 10 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.fire = nn.Linear(6, 24), nn.Linear(24, 4), surrogate.ATan()

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.stack([self.last(self.fire(self.first(x * step))) for step in range(10)])
        return (1 - self.fire(steps.cumsum(0))).cumprod(0).sum(0)


def test_whole_numbers_may_be_counts_or_times_of_spikes() -> None:
    network, options = Times(), {"example": torch.rand(5, 6), "labels": torch.arange(5) % 4, "log": len}
    with pytest.raises(ValueError, match=r"holds integers: pass readout=None for .*lambda output: -output for the"):
        attach(network, ["first"], **options)
    model = attach(network, ["first"], readout=lambda output: -output, **options)
    assert torch.equal(model(options["example"]).main, -network(options["example"]))


def mlp(outputs: int, *after: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, outputs), *after)


@pytest.mark.parametrize(
    ("network", "labels", "message"),
    [
        (mlp(1, nn.Sigmoid()), LABELS.float(), r"readout=lambda output: torch.logit\(output, 1e-6\) .*after a sigmoid"),
        (mlp(2, nn.Softmax(1)), LABELS, r"readout=lambda output: output.log\(\) .*after a softmax.*None"),
    ],
)
def test_probabilities_are_not_taken_for_logits(network: nn.Module, labels: Tensor, message: str) -> None:
    options: dict[str, Any] = {"example": torch.rand(5, 6), "labels": labels, "method": "loss_sum", "log": len}
    criterion = F.binary_cross_entropy_with_logits if labels.is_floating_point() else F.cross_entropy
    with pytest.raises(ValueError, match=message):
        attach(network, criterion=criterion, **options)
    model = attach(network, readout=lambda output: torch.logit(output, 1e-6), criterion=criterion, **options)
    assert model(options["example"]).main.shape == (5, 1 if labels.is_floating_point() else 2)


class Average(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = Population()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).mean(0)


def test_rates_that_the_network_averages_are_asked_about() -> None:
    options = VOTES | {"labels": torch.arange(40) % 20}
    with pytest.raises(ValueError, match=r"20 classes cannot fall below 2.08.*10 \* output, say, for firing rates"):
        attach(Average(), **options)
    assert attach(Average(), readout=None, **options).layout.num_classes == 20


def test_the_loss_of_one_hot_labels_is_asked() -> None:
    options: dict[str, Any] = {"example": torch.rand(5, 6), "labels": torch.eye(5), "method": "loss_sum", "log": len}
    with pytest.raises(ValueError, match=r"labels are one-hot: pass criterion=.*cross_entropy.*mse_loss"):
        attach(mlp(5), **options)
    attach(mlp(5), criterion=F.mse_loss, **options)


class Plain(nn.Module):
    """Takes data that do not require gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(torch.tensor(x.cpu().numpy() / 2))


def test_a_network_may_turn_its_input_into_an_array() -> None:
    assert attach(Plain(), example=torch.rand(4, 6), labels=9 * torch.rand(4, 1), log=len).layout.num_classes == 1


class Online(nn.Module):
    """Its first step has an argument of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.v = nn.Linear(6, 16), nn.Linear(16, 4), 0.0

    def forward(self, x: Tensor, init: bool = False) -> Tensor:
        current = self.first(x)
        self.v = torch.zeros_like(current) if init else self.v
        self.v = 0.5 * self.v.detach() + current
        return self.last(surrogate.ATan()(self.v - 1))


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Online()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(x, init=step == 0) for step in range(4)])


def test_an_error_of_the_network_leads_to_a_wrapper() -> None:
    x = 4 * torch.rand(5, 6)
    with pytest.raises(ValueError, match=r"(?s)raises AttributeError.*has no attribute 'detach'.*class Wrapper"):
        attach(Online(), example=x)
    with pytest.raises(ValueError, match=r"(?s)every time step of Online gets the same 'init': .*class Wrapper"):
        attach(Online(), example={"x": x, "init": True}, loop=4)
    assert attach(Loop(), example=x, labels=LABELS, readout="mean", log=len)(x).main.shape == (5, 4)


class Squeeze(nn.Module):
    """Neurons over ``[N * T, ...]``, for the adapter those of sinabs."""

    __module__, batch_size = "sinabs.layers.stateful_layer", 3

    def forward(self, x: Tensor) -> Tensor:
        v, steps = torch.zeros(()), []
        for step in x.unflatten(0, (self.batch_size, -1)).unbind(1):
            v = v + step
            steps.append(surrogate.ATan()(v - 1))
            v = v - steps[-1]
        return torch.stack(steps, 1).flatten(0, 1)


class Folded(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def test_folded_samples_of_sinabs_lead_to_a_wrapper() -> None:
    x, pooled = 4 * torch.rand(3, 4, 2, 6, 6), (nn.Flatten(), nn.Linear(4 * 16, 5))
    network = nn.Sequential(nn.Conv2d(2, 4, 3), Squeeze(), *pooled, Squeeze())
    for example in (x.flatten(0, 1), x):
        with pytest.raises(ValueError, match=r"(?s)Squeeze layers take samples.*class Folded"):
            attach(network, example=example, labels=torch.arange(3))
    options = {"example": x, "labels": torch.arange(3), "readout": lambda output: output.sum(1), "log": len}
    assert attach(Folded(network), **options)(x).main.shape == (3, 5)


def test_a_layout_keeps_what_is_read_of_its_taps() -> None:
    def potential(output: Any) -> Tensor:
        return output[1]

    options: dict[str, Any] = VOTES | {"readout": "sum", "num_classes": 20}
    layout = attach(Population(), ["lif1"], extract=potential, **options).layout
    assert layout.taps[0].extract is potential
    assert attach(Population(), layout=layout, **VOTES).layout.taps == layout.taps


def test_a_layout_is_verified_and_written_as_arguments() -> None:
    network, x = Population(), VOTES["example"]
    layout = introspect(network, x, labels=VOTES["labels"], num_classes=20, readout="sum")
    checked = attach(network, example=x, labels=VOTES["labels"], layout=layout, log=len).layout
    assert (checked.taps, checked.readout, checked.num_classes) == (layout.taps, layout.readout, 20)
    arguments = {name: eval(value) for name, value in reproducing_arguments(layout).items()}
    assert arguments == {"taps": ["lif1"], "loop": "network", "batch_axis": 1, "readout": "sum", "num_classes": 20}
    again = introspect(network, x, labels=VOTES["labels"], **arguments)
    assert (again.taps, again.readout, again.run) == (layout.taps, layout.readout, layout.run)
    with pytest.raises(ValueError, match="samples of Population influence each other"):
        introspect(network, x, labels=VOTES["labels"], **arguments | {"batch_axis": 0})
