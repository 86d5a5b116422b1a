"""Networks that call, build or keep things in unusual ways: what attach infers, and what it asks."""

from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from torch import Tensor, nn

from shortcut_snn import TimeLoop, attach
from shortcut_snn.neurons import LIF, ATan, straight_through

LABELS = torch.tensor([0, 3, 1, 2, 2])


def fire(v: Tensor) -> Tensor:
    return straight_through((v > 0).float(), v, ATan())


class Step(nn.Module):
    """One time step, which takes its state as an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.spiking, self.head = nn.Linear(6, 12), snntorch.Leaky(0.9, threshold=0.1), nn.Linear(12, 4)

    def forward(self, x: Tensor, state: Any) -> Any:
        spikes, state = self.spiking(self.first(x), self.spiking.init_leaky() if state is None else state)
        return self.head(spikes), state


class Positional(Step):
    def __call__(self, *args: Any) -> Any:
        return self.forward(*args)


def test_a_class_may_be_called_by_position_alone() -> None:
    network, x = Positional(), torch.rand(7, 5, 6)
    model = attach(network, example=x, labels=LABELS, readout="mean", log=len).eval()
    assert model.layout.run == TimeLoop(carry=("state",))
    state, expected = None, []
    for step in x:
        logits, state = network(step, state)
        expected.append(logits)
    torch.testing.assert_close(model(x).main, torch.stack(expected).mean(0))


def test_one_step_that_needs_its_state_is_a_loop_of_one() -> None:
    x = torch.rand(5, 6)
    with pytest.raises(ValueError, match=r"or loop=1 if one call is all") as raised:
        attach(Step(), example=x, labels=LABELS)
    assert "'network'" not in str(raised.value)
    model = attach(Step(), example=x, labels=LABELS, loop=1, log=len)
    assert model(x).main.shape == model(x).branches[0].shape == (5, 4)


def test_the_error_of_the_whole_example_is_shown() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = norse.SequentialState(nn.Linear(64, 20), norse.LIFCell(), nn.Linear(20, 4))

        def forward(self, x: Tensor) -> Tensor:
            if x.dim() != 4:
                raise ValueError("a step has too few axes")
            raise RuntimeError("the whole is refused")

    with pytest.raises(ValueError, match=r"the whole is refused; .*one time step of it: a step has too few axes"):
        attach(Fails(), example=torch.rand(5, 1, 8, 8), labels=LABELS)


class Lazy(nn.Module):
    """Makes its last layer, and a layer without parameters, in the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last, self.drop = nn.Linear(6, 12), nn.ReLU(), None, None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.first(x))
        if self.last is None:
            self.last, self.drop = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)), nn.Dropout(0.1)
        return self.last(self.drop(hidden))


@pytest.mark.parametrize("options", [{}, {"reset": None}, {"loop": "network"}])
def test_layers_that_the_first_call_makes_are_asked_for(options: dict[str, Any]) -> None:
    network, x = Lazy(), torch.rand(5, 6)
    with pytest.raises(
        ValueError, match=r"Lazy makes layers in its first call, such as 'last.*: call the network once"
    ):
        attach(network, example=x, labels=LABELS, **options)
    network(x)
    assert attach(network, example=x, labels=LABELS, log=len, **options).taps.names
    network.drop = None

    class Remade(Lazy):
        def forward(self, x: Tensor) -> Tensor:
            self.drop = nn.Dropout(0.1)
            return super().forward(x)

    network.__class__ = Remade
    # A layer without parameters is neither state nor trained.
    assert attach(network, example=x, labels=LABELS, log=len).layout.reset is None


class Graph(nn.Module):
    """Mixes nodes by a sparse matrix: a constant, not a state."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)
        self.register_buffer("adjacency", torch.eye(9).to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        mixed = torch.sparse.mm(self.adjacency, self.first(x).transpose(0, 1).reshape(9, -1))
        return self.last(mixed.view(9, len(x), 8).relu().mean(0))


def test_sparse_buffers_are_compared() -> None:
    assert attach(Graph(), example=torch.rand(5, 9, 6), labels=LABELS, log=len).layout.reset is None


class Cached(nn.Module):
    """Keeps the order of the first batch in an object, under its own identity."""

    class Cache:
        def __init__(self) -> None:
            self.kept: dict[int, Tensor] = {}

    def __init__(self) -> None:
        super().__init__()
        self.cache, self.layers = self.Cache(), nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.gather(1, self.cache.kept.setdefault(id(self), x.detach().argsort(1))))


def test_a_cache_in_an_object_is_state() -> None:
    x = torch.randn(5, 6)
    with pytest.raises(ValueError, match=r"(?s)loop='network'.*Cached keeps state .*: pass reset="):
        attach(Cached(), example=x, labels=LABELS)
    model = attach(
        Cached(), example=x, labels=LABELS, loop="network", log=len, reset=lambda net: net.cache.kept.clear()
    ).eval()
    expected = model(x).main
    model(torch.rand(5, 6))
    assert torch.equal(model(x).main, expected)


@pytest.mark.parametrize("samples", [3, 4, 5])
def test_shortened_sequences_have_another_length_than_the_samples(samples: int) -> None:
    cells = norse.SequentialState(nn.Linear(6, 20), norse.LIF(), nn.Linear(20, 1), norse.LIF())
    x, labels = 100 * torch.rand(12, samples, 6), 25 + 100 * torch.rand(samples)
    layout = attach(cells, example=x, labels=labels, readout="mean", log=len).layout
    assert (layout.batch_axis, layout.readout.time_axis) == (1, 0)


@pytest.mark.parametrize("kind", ["potentials", "currents"])
def test_how_potentials_are_read_over_time_is_asked(kind: str) -> None:
    network, x, lines = Potentials(kind), 3 * torch.randn(5, 6), list[str]()
    with pytest.raises(ValueError, match=r"output, of shape \(8, 5, 4\), holds real values of every time step.*'last'"):
        attach(network, example=x, labels=LABELS)
    outputs = network(x)
    ways: dict[Any, Tensor] = {"mean": outputs.mean(0), "last": outputs[-1], "max": outputs.amax(0)}
    for way, expected in (ways | {lambda out: out[-1]: outputs[-1]}).items():
        model = attach(network, example=x, labels=LABELS, readout=way, method="loss_sum", log=lines.append)
        torch.testing.assert_close(model.eval()(x).main, expected)
    assert "output maximum over axis 0, 4 classes (the only tensor; your readout='max')" in lines[2]
    with pytest.raises(ValueError, match="readout must be 'mean', 'last', 'max'"):
        attach(network, example=x, labels=LABELS, readout="median")


def test_spikes_that_cannot_be_the_labels_are_asked_about() -> None:
    """Labels beyond 0 to 1 are no firing rates; they may be times of first spikes."""
    network, frames = nn.Sequential(nn.Linear(6, 12), LIF(), nn.Linear(12, 4), LIF(threshold=0.1)), torch.rand(8, 5, 6)
    with pytest.raises(ValueError, match=r"holds spikes or the like of every time step.*'mean' for rates"):
        attach(network, example=frames, labels=8 * torch.rand(5, 4))
    # Rates as targets may be compared with rates.
    assert attach(network, example=frames, labels=torch.rand(5, 4)).layout.readout.time_axis == 0


class Heads(nn.Module):
    """Heads, single layers and neurons in one list, ``layers``."""

    def __init__(self) -> None:
        super().__init__()
        heads = nn.ModuleList(nn.Sequential(nn.Linear(2, 4), LIF()) for _ in range(4))
        self.layers = nn.ModuleList([heads, nn.Linear(16, 12), LIF(), nn.Linear(12, 16), LIF(), nn.Linear(16, 4)])

    def forward(self, x: Tensor) -> Tensor:
        heads, *others = self.layers
        x = torch.cat([head(part) for head, part in zip(heads, x.split(2, -1), strict=True)], -1)
        return nn.Sequential(*others)(x).mean(0)


def test_single_layers_in_a_list_are_not_blocks() -> None:
    by_method, alone = (
        attach(Heads(), example=torch.rand(8, 5, 8), labels=LABELS, method=method, log=len).taps.names
        for method in ("loss_sum", None)
    )
    assert by_method == alone
    assert len(alone) == 3


class EarlyExit(nn.Sequential):
    """Returns the logits of all heads in training, and in evaluation those of the first confident one."""

    def forward(self, x: Tensor) -> Any:
        logits: list[Tensor] = []
        for block, head in zip(self[:3], self[3:], strict=True):
            x = fire(block(x) - 1)
            logits.append(head(x.mean((2, 3))))
            if not self.training and (logits[-1].softmax(1).amax(1) > 0.7).all():
                break
        return logits if self.training else logits[-1]


def test_an_early_exit_is_refused() -> None:
    torch.manual_seed(4)
    blocks = (nn.Conv2d(16 if number else 3, 16, 3, padding=1) for number in range(3))
    network = EarlyExit(*blocks, *(nn.Linear(16, 3) for _ in range(3)))
    with pytest.raises(ValueError, match="calls '1' for some inputs only, as with an early exit: turn this off"):
        attach(network, example=torch.rand(2, 3, 8, 8), labels=torch.tensor([0, 2]))


@pytest.mark.parametrize("kind", ["spikes", "votes"])
def test_how_rates_enter_a_cross_entropy_is_asked(kind: str) -> None:
    network, x = Potentials(kind), 3 * torch.randn(5, 6)
    with pytest.raises(ValueError, match=r"of 4 classes cannot fall below 0.74: pass readout='sum'.*'mean' for rates"):
        attach(network, example=x, labels=LABELS)
    for way, expected in (("sum", network(x).sum(0)), ("mean", network(x).mean(0))):
        model = attach(network, example=x, labels=LABELS, readout=way, log=len).eval()
        torch.testing.assert_close(model(x).main, expected)


class SinabsNeurons(nn.Module):
    """Neurons over ``[N, T, C]``, for the adapter those of sinabs."""

    __module__ = "sinabs.layers.stateful_layer"

    def forward(self, x: Tensor) -> Tensor:
        v, steps = torch.zeros(()), []
        for step in x.unbind(1):
            v = 0.5 * v + step
            steps.append(fire(v - 0.3))
        return torch.stack(steps, 1)


def test_sinabs_has_no_convention_for_real_values_over_time() -> None:
    network, x = nn.Sequential(nn.Linear(6, 12), SinabsNeurons(), nn.Linear(12, 4)), 3 * torch.rand(5, 7, 6)
    with pytest.raises(ValueError, match=r"holds real values of every time step.*'max'"):
        attach(network, example=x, labels=LABELS)


class Potentials(nn.Module):
    """Returns the potentials of its last neurons in every step, ``[T, N, classes]``, or something else."""

    def __init__(self, kind: str = "potentials") -> None:
        super().__init__()
        self.first, self.act, self.kind = nn.Linear(6, 12), nn.ReLU(), kind
        self.last = nn.Linear(12, 12 if kind == "votes" else 4)

    def forward(self, x: Tensor) -> Tensor:
        v, outputs = torch.zeros(()), []
        for _ in range(8):
            current = self.last(self.act(self.first(x)))
            v = 0.9 * v + current
            spikes = fire(v - 0.1)
            kinds = {"potentials": v, "spikes": spikes, "counts": spikes + fire(v - 0.5), "currents": current}
            outputs.append(spikes.unflatten(1, (4, 3)).mean(2) if self.kind == "votes" else kinds[self.kind])
        return torch.stack(outputs)


class Late(nn.Module):
    """Neurons without submodules over ``[N, T, C]``, whose spikes follow their input two steps later."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(6, 16))

    def forward(self, x: Tensor) -> Tensor:
        v = current = torch.zeros(len(x), 16)
        spikes = []
        for step in (x @ self.matrix).unbind(1):
            spikes.append(fire(v - 0.3))
            v, current = 0.8 * v + current, 0.6 * current + step
        return torch.stack(spikes, 1)


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1)


def test_time_is_known_where_an_input_acts_two_steps_late() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late, self.matrix, self.sum = Late(), nn.Parameter(torch.randn(16, 4)), Sum()

        def forward(self, x: Tensor) -> Tensor:
            return self.sum(self.late(x) @ self.matrix)

    torch.manual_seed(0)
    (tap,) = attach(Network(), example=torch.rand(5, 9, 6), labels=LABELS, log=len).layout.taps
    assert (tap.name, tap.time_axis, tap.channel_axis) == ("late", 1, 2)


class NormOfEachStep(nn.Module):
    """Each layer has a batch norm for each time step, as in BNTT (Kim and Panda, 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, 8) for inputs in (6, 8, 8))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm1d(8) for _ in range(4)) for _ in range(3))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(len(x), 4)
        for t, spikes in enumerate(x.unbind(1)):
            for layer, norms in zip(self.layers, self.norms, strict=True):
                spikes = fire(norms[t](layer(spikes)) - 0.5)
            total = total + self.head(spikes)
        return total


def test_a_branch_sees_every_step_of_a_network_with_norms_for_each() -> None:
    x = torch.rand(5, 4, 6)
    model = attach(NormOfEachStep(), example=x, labels=LABELS, log=len)
    assert model.taps.names
    other = x.clone()
    other[:, 1:] = torch.rand(5, 3, 6)
    with torch.no_grad():
        before, after = model(x).branches, model(other).branches
    assert not any(torch.allclose(one, two) for one, two in zip(before, after, strict=True))


class OneRecurrentLayer(nn.Module):
    """An encoder without weights, one recurrent layer of neurons, and a readout, as in Norse's notebook of MNIST."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = norse.ConstantCurrentLIFEncoder(4)
        self.cell, self.readout = norse.LIFRecurrentCell(6, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        state, total = None, torch.zeros(len(x), 4)
        for step in self.encoder(x):
            spikes, state = self.cell(step, state)
            total = total + self.readout(spikes)
        return total


def test_the_only_neurons_are_tapped_if_a_layer_follows_them() -> None:
    model = attach(OneRecurrentLayer(), example=3 * torch.rand(5, 6), labels=LABELS, log=len)
    assert model.taps.names == ["cell"]


class Counts(nn.Module):
    """Returns the spikes of each class in six steps, which vote in groups of five."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 20), nn.Linear(20, 20)
        self.neurons = nn.ModuleList(LIF() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neurons[0](4 * self.first(x).expand(6, -1, -1))
        return self.neurons[1](4 * self.second(spikes)).unflatten(-1, (4, 5)).mean(-1).sum(0)


def test_counts_and_labels_of_rates_lead_to_a_question() -> None:
    torch.manual_seed(0)
    x, labels = 2 * torch.randn(5, 6), nn.functional.one_hot(LABELS, 4).float()
    options: dict[str, Any] = {"example": x, "labels": labels, "criterion": nn.functional.mse_loss, "log": len}
    with pytest.raises(ValueError, match=r"output reaches .*, and labels are 0 or 1: pass readout=lambda output: outp"):
        attach(Counts(), **options)
    network = Counts()
    model = attach(network, readout=lambda output: output / 6, **options).eval()
    torch.testing.assert_close(model(x).main, network(x) / 6)
    assert attach(network, readout=None, **options).eval()(x).main.max() > 1
