"""One call around networks of SpikingJelly, snnTorch, Norse and plain PyTorch."""

import copy
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import norse.torch as norse
import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torchvision.models import resnet18

from shortcut_snn import LossSum, Shortcut, TimeLoop, attach, measure_energy
from shortcut_snn.method.taps import Unfold

from ..method.peers import (
    CLASSES,
    LABELS,
    PEERS,
    RATES,
    STEPS,
    Peer,
    Plain,
    frames,
    integrating,
    snntorch_step,
    spikingjelly,
)
from ..method.toys import small

peers = pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)


def wrap(peer: Peer, **options: object) -> Shortcut:
    return attach(peer.make(), peer.taps, example=frames(), **peer.said, **options)


def spikes_by_hand(peer: Peer, network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Tapped outputs ``[T, N, C, H, W]`` and main outputs ``[T, N, classes]``, as the library's users run a network."""
    network, seen = copy.deepcopy(network), []
    name = "stage1" if peer.taps == "stages" else peer.taps[0]
    network.get_submodule(name).register_forward_hook(lambda _m, _a, out: seen.append(out))
    if not peer.looped:
        output = network(x)
    elif isinstance(network, norse.SequentialState):
        output = norse.Lift(network)(x)
    else:
        steps = [network(step) for step in x]
        output = torch.stack([step[0] if isinstance(step, tuple) else step for step in steps])
    tapped = [out[0] if isinstance(out, tuple) else out for out in seen]
    return tapped[0] if len(tapped) == 1 else torch.stack(tapped), output[0] if isinstance(output, tuple) else output


@peers
def test_layout_and_outputs_of_each_library(peer: Peer) -> None:
    model, x = wrap(peer), frames()
    assert [tap.time_axis for tap in model.taps.taps] == [peer.axis]
    assert (model.layout.run is not None) == peer.looped
    assert (model.layout.reset is not None) == peer.stateful
    assert model.branches[0].classifier.weight.shape == (CLASSES, 4)
    # The main output and the branch are means over time.
    tapped, outputs = spikes_by_hand(peer, model.network, x)
    assert tapped.shape == (STEPS, 2, 4, 6, 6)
    assert tapped.any()
    output = model(x)
    torch.testing.assert_close(output.main, outputs.mean(0))
    torch.testing.assert_close(output.branches[0], model.branches[0](tapped.mean((0, 3, 4))))
    assert [model(frames(n)).branches[0].shape for n in (5, 1, 2)] == [(n, CLASSES) for n in (5, 1, 2)]


@peers
def test_each_pass_starts_from_the_initial_state(peer: Peer) -> None:
    model, x = wrap(peer), frames()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = LossSum()(model(x), LABELS, 0.5)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == losses[1] == losses[2]
    assert all(parameter.grad is not None for parameter in model.parameters())
    # A pass of the network alone leaves a state and a graph, which do not reach the next one of the wrapper.
    with torch.no_grad():
        model.network(x if not peer.looped else x[0])
    assert LossSum()(model(x), LABELS, 0.5).item() == losses[0]
    model.eval()
    assert torch.equal(model(x).main, model(x).main)


def held(network: nn.Module) -> dict[tuple[str, str], object]:
    """Everything in a network by module and name, a neuron's state included."""
    kinds = ("_parameters", "_buffers", "_memories")
    found = {}
    for name, module in network.named_modules():
        values = [vars(module).get(kind, {}) for kind in kinds]
        found |= {(name, key): value for kind in values for key, value in kind.items()}
        found[name, "training"] = module.training
    return found


@peers
def test_attach_leaves_keys_values_and_state_unchanged(peer: Peer) -> None:
    network, example = peer.make(), frames()
    # A state that an earlier pass left, with its graph.
    network(example if not peer.looped else example[0])
    keys, before = list(network.state_dict()), held(network)
    values = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    attach(network, peer.taps, example=example, **peer.said)
    assert torch.equal(torch.get_rng_state(), random)
    assert list(network.state_dict()) == keys
    assert all(torch.equal(value, values[key]) for key, value in network.state_dict().items())
    after = held(network)
    assert after.keys() == before.keys()
    assert all(value is before[key] for key, value in after.items())


def test_only_the_wrapped_networks_neurons_are_reset() -> None:
    other, model = snntorch_step(), wrap(PEERS["snntorch step"])
    other(frames()[0])
    potential = other.stage1[1].mem
    model(frames())
    assert other.stage1[1].mem is potential
    assert model.network.stage1[1].mem.shape == (0,)


def test_reset_none_keeps_the_state_and_a_function_is_called() -> None:
    network, x = integrating()
    model = attach(network, ["0"], example=x, reset=None).eval()
    assert [round(3 * model(x).main[0, 0].item()) for _ in range(3)] == [1, 2, 1]
    calls: list[nn.Module] = []
    model = attach(network, ["0"], example=x, reset=lambda net: calls.append(net) or functional.reset_net(net))
    calls.clear()
    model(x)
    assert calls == [network, network]
    with pytest.raises(ValueError, match=r"in 1\..*reset="):
        attach(network, ["0"], example=x, reset=lambda net: None)


def test_static_batches_are_shown_for_a_number_of_time_steps() -> None:
    network, images = snntorch_step(), frames()[0]
    model = attach(network, example=images, loop=5, **RATES)
    shown = attach(copy.deepcopy(network), example=images.expand(5, -1, -1, -1, -1), batch_axis=1, **RATES)
    shown.load_state_dict(model.state_dict())
    assert model.layout.run == TimeLoop(5)
    output, expected = model(images), shown(images.expand(5, -1, -1, -1, -1))
    assert torch.equal(output.main, expected.main)
    assert torch.equal(output.branches[0], expected.branches[0])


def test_the_membrane_potential_may_be_the_readout() -> None:
    network, x = snntorch_step(), frames()
    model = attach(network, example=x, batch_axis=1, readout=lambda output: output[1][-1])
    _, expected = copy.deepcopy(network)(x[0])
    main = model(x).main
    assert main.shape == expected.shape == (2, CLASSES)
    assert torch.equal(main, TimeLoop()(copy.deepcopy(network), x)[1][-1])


def test_ambiguous_time_loop_raises() -> None:
    with pytest.raises(ValueError, match=r"loop=4.*loop='network'"):
        attach(snntorch_step(), example=frames()[0])
    model = attach(snntorch_step(), example=frames()[0], loop="network", readout=lambda output: output[0])
    assert model.layout.run is None
    assert model(frames()[0]).branches[0].shape == (2, CLASSES)
    with pytest.raises(ValueError, match=r"loop must be 'auto', 'network', 'input' or a number.*got 'outside'"):
        attach(snntorch_step(), example=frames(), loop="outside")
    with pytest.raises(ValueError, match="at least 1 time step, got 0"):
        attach(snntorch_step(), example=frames(), loop=0)


def test_ambiguous_time_axis_raises() -> None:
    """Samples are independent of each other along both axes, whatever is taken for time."""
    clips = frames().transpose(0, 1)
    with pytest.raises(ValueError, match=r"batch_axis=1 if.*batch_axis=0 if"):
        attach(snntorch_step(), example=clips)
    network = snntorch_step()
    expected = attach(copy.deepcopy(network), example=frames(), batch_axis=1, **RATES)(clips.transpose(0, 1)).main
    for told in ({"batch_axis": 0}, {"samples": 2}):
        model = attach(copy.deepcopy(network), example=clips, **told, **RATES)
        assert model.layout.run == TimeLoop(axis=1)
        assert torch.equal(model(clips).main, expected)
    assert attach(snntorch_step(), example=frames(), samples=2, **RATES).layout.run == TimeLoop()
    with pytest.raises(ValueError, match="may be time"):
        attach(snntorch_step(), example=frames(4), samples=4)  # and 4 steps


def test_an_error_of_the_network_itself_is_shown() -> None:
    with pytest.raises(ValueError, match=r"(?s)Expected 3D .*time step of it: .* 1 channels, but got 7.*class Wrapper"):
        attach(snntorch_step(), example=torch.zeros(4, 2, 7, 8, 8))


def test_labels_or_time_steps_in_a_list_are_named() -> None:
    step, x, labels = snntorch_step(), torch.zeros(4, 2, 1, 8, 8), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"takes one input, but the batch is a tuple of 2: .*without labels; [a-z ]*$"):
        attach(step, example=(x, labels))
    with pytest.raises(ValueError, match=r"the batch is a list of 4: .*stack a list of time steps$"):
        attach(step, example=list(x))
    with pytest.raises(ValueError, match=r"takes one input, but the batch is a tuple of 2: .*without labels; [a-z ]*$"):
        measure_energy(step, [(x, labels)])
    with pytest.raises(ValueError, match=r"same number of axes: pass \[inputs\], and labels=..."):
        measure_energy(step, (x, labels))


def test_without_stages_taps_are_spread_over_spiking_layers() -> None:
    loop, sequence = PEERS["snntorch loop"].make(), PEERS["norse sequence"].make()
    assert attach(loop, example=frames(), **RATES).taps.names == ["lif1", "lif2"]
    assert attach(loop, 1, example=frames(), **RATES).taps.names == ["lif1"]
    assert attach(loop, 0, example=frames(), **RATES).taps.names == []
    assert attach(sequence, example=frames(), readout="mean").taps.names == ["1"]
    with pytest.raises(ValueError, match=r"no submodules named layer1.*among: 0, .*1, 2"):
        attach(sequence, "blocks", example=frames(), readout="mean")
    with pytest.raises(ValueError, match=r"taps must be a number of branches.*got -1"):
        attach(loop, -1, example=frames(), **RATES)


def test_plain_and_built_in_networks() -> None:
    plain = attach(resnet18(num_classes=7), example=torch.rand(64, 3, 8, 8))
    assert [tap.time_axis for tap in plain.taps.taps] == [None] * 3
    assert [branch.classifier.in_features for branch in plain.branches] == [64, 128, 256]
    assert [branch.shape for branch in plain(torch.rand(2, 3, 8, 8)).branches] == [(2, 7)] * 3
    for steps in (1, 2):
        # The network's own example has two samples.
        taps = attach(small("resnet18", num_classes=5, time_steps=steps)).taps.taps
        assert [tap.time_axis for tap in taps] == [0] * 3
    ours = attach(small("resnet18", num_classes=5, time_steps=3))
    assert [tap.time_axis for tap in ours.taps.taps] == [0] * 3
    assert ours.layout.reset is None
    assert [branch.shape for branch in ours(torch.rand(2, 3, 8, 8)).branches] == [(2, 5)] * 3


def test_time_elsewhere_is_an_argument() -> None:
    model = attach(Plain(), example=frames(), time_axis=1, extract=lambda features: features.transpose(1, 2))
    x = frames()
    tapped = model.network.layer1(x.permute(1, 2, 0, 3, 4))
    torch.testing.assert_close(model(x).branches[0], model.branches[0](tapped.mean((2, 3, 4))))


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.rand(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights


def test_ambiguous_axes_raise() -> None:
    network, x = nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 5), nn.Unflatten(0, (3, 2))), torch.rand(3, 2, 4)
    with pytest.raises(ValueError, match="batch_axis=0 if"):
        attach(network, ["1"], example=x)
    model = attach(network, ["1"], example=x, batch_axis=1, readout="mean")
    assert model.layout.taps[0].extract == Unfold(3)
    torch.testing.assert_close(model(x).branches[0], model.branches[0](network[1](x).mean(0)))
    behind, x = nn.Sequential(Weighted(), nn.Flatten(1), nn.Linear(12, 7)), torch.rand(2, 3, 4)
    with pytest.raises(ValueError, match=r"'0'.*channel_axis=\[1 or 2\]"):
        attach(behind, ["0"], example=x)
    for axis, other in ((1, 2), (2, 1), (-1, 1)):
        model = attach(behind, ["0"], example=x, channel_axis=axis)
        torch.testing.assert_close(model(x).branches[0], model.branches[0](behind[0](x).mean(other)))
    with pytest.raises(ValueError, match="batch_axis must be 0 or 1, got 2"):
        attach(behind, ["0"], example=x, batch_axis=2)


def test_taps_without_gradient_are_refused() -> None:
    class Sign(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x > 0).to(x.dtype)

    network = nn.Sequential(nn.Linear(6, 5), Sign(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, CLASSES))
    with pytest.raises(ValueError, match="no gradient comes through the tap '1'"):
        attach(network, ["1"], example=torch.rand(4, 6))
    assert attach(network, ["0"], example=torch.rand(4, 6)).taps.names == ["0"]
    network[0].requires_grad_(False)
    with pytest.raises(ValueError, match="tap '0', so its branch would train nothing: no weights before it require"):
        attach(network, ["0"], example=torch.rand(4, 6))


class Drawn(nn.Module):
    """Draws spikes from a generator of its own, or from the one that it is given."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, CLASSES))
        self.own = torch.Generator().manual_seed(3) if own else None

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.layers((torch.rand(images.shape, generator=self.own or generator) < images).float())


@pytest.mark.parametrize("own", [True, False])
def test_generators_are_not_state(own: bool) -> None:
    network, generator = Drawn(own), torch.Generator().manual_seed(3)
    kept = [each.get_state() for each in (network.own, generator) if each is not None]
    example = torch.rand(5, 20) if own else {"images": torch.rand(5, 20), "generator": generator}
    model = attach(network, example=example)
    assert model.layout.reset is None
    left = [each.get_state() for each in (network.own, generator) if each is not None]
    assert all(map(torch.equal, kept, left))


def test_a_tap_that_is_shared_or_never_called_is_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 5), act := nn.Tanh(), nn.Linear(5, 6), act, nn.Linear(6, 3))
    with pytest.raises(ValueError, match="'1' is called 2 times"):
        attach(network, ["1"], example=torch.rand(2, 4))
    network = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ModuleList([nn.Linear(2, 2)])})
    network.forward = network["a"].forward
    with pytest.raises(ValueError, match="'b' is not called"):
        attach(network, ["b"], example=torch.rand(2, 2))


def test_layout_is_logged_and_stored() -> None:
    lines: list[str] = []
    model = attach(spikingjelly("m"), example=frames(), log=lines.append)
    found = model.layout
    assert lines[0].startswith(found.summary())
    assert "taps:" in repr(model)
    assert (found.library, found.batch_axis, found.time_axis, found.time_steps) == ("SpikingJelly", 1, 0, STEPS)
    (tap,) = found.taps
    assert (tap.name, tap.time_axis, tap.batch_axis, tap.channel_axis, tap.channels) == ("stage1", 0, 1, 2, 4)
    with pytest.raises(FrozenInstanceError):
        found.batch_axis = 0  # type: ignore[misc]


def test_no_peer_is_imported_for_a_network_that_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = {"spikingjelly", "snntorch", "norse", "torchvision", "lightning"}
    for name in {*peers, *(name for name in sys.modules if name.partition(".")[0] in peers)}:
        monkeypatch.setitem(sys.modules, name, None)  # importing it now fails
    model = attach(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), ["1"], example=torch.zeros(2, 4))
    assert model(torch.zeros(2, 4)).branches[0].shape == (2, 3)
    model.strip(check=torch.zeros(2, 4))


class OtherWords(nn.Module):
    """As Rockpool's: batch first, states kept, layers of its own, ``modules`` and ``parameters`` in dictionaries."""

    class Matrix(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    class Spiking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.v: Any = torch.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            spikes = []
            for step in x.unbind(1):
                self.v = 0.5 * self.v + step
                spikes.append(torch.sigmoid(4 * (self.v - 1)))
                self.v = self.v - spikes[-1].detach()
            return torch.stack(spikes, 1)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((6, 20), (20, 20), (20, 20)):
            layers += [self.Matrix(inputs, outputs), self.Spiking()]
        self.layers = nn.Sequential(*layers, self.Matrix(20, 5))

    def rest(self) -> None:
        for spiking in self.layers[1::2]:
            spiking.v = torch.zeros(1)

    def modules(self) -> Any:
        return dict(nn.Module.named_modules(self))

    def parameters(self, recurse: bool = True) -> Any:
        return {"weights": list(nn.Module.parameters(self, recurse))}

    def forward(self, x: Tensor) -> Any:
        return self.layers(x)


def test_overridden_modules_and_parameters_are_supported() -> None:
    torch.manual_seed(0)
    net, x = OtherWords(), 3 * torch.rand(4, 7, 6)
    options = {"example": x, "loop": "network", "readout": lambda output: output.mean(1), "log": len}
    options["reset"] = OtherWords.rest
    said = attach(copy.deepcopy(net), time_axis=1, channel_axis=-1, **options).layout.taps
    model = attach(net, **options)
    assert [(tap.name, tap.time_axis, tap.channels) for tap in model.layout.taps] == [
        (tap.name, tap.time_axis, tap.channels) for tap in said
    ]
    assert model.taps.names == ["layers.1", "layers.3"]
    for _ in range(2):
        output = model(x)
        (output.main.sum() + sum(branch.sum() for branch in output.branches)).backward()
    assert [output.main.shape, *(branch.shape for branch in output.branches)] == [(4, 5)] * 3
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.strip(check=x)


class TwoAxes(nn.Module):
    """``[N, T, C]`` behind matrices that are no layers of PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = OtherWords.Matrix(6, 8), OtherWords.Matrix(8, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        spikes = (self.first(x).sigmoid() - 0.5).cumsum(1)
        return self.head(self.second(spikes).mean(1))


def test_a_channel_axis_that_is_time_in_another_tap_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'first'.*channel_axis as a list"):
        attach(TwoAxes(), ["first"], example=torch.rand(4, 7, 6), channel_axis=1)
    assert (
        attach(TwoAxes(), ["first"], example=torch.rand(4, 7, 6), channel_axis=2).branches[0].classifier.in_features
        == 8
    )


def test_state_of_a_compiled_network_is_carried() -> None:
    """``torch.compile`` takes any arguments; what the network itself takes is told by the one inside."""
    cells = norse.SequentialState(nn.Linear(10, 20), norse.LIFCell(), nn.Linear(20, 3), norse.LICell())
    frames = 20 * torch.rand(4, 6, 10)
    options: dict[str, Any] = {
        "example": frames,
        "labels": torch.arange(6) % 3,
        "loop": "input",
        "readout": "mean",
        "log": lambda line: None,
    }
    plain = attach(cells, **options)
    compiled = attach(torch.compile(cells, backend="eager"), **options)
    assert isinstance(compiled.layout.run, TimeLoop)
    assert compiled.layout.run.carry
    with torch.compiler.set_stance("force_eager"):
        assert torch.equal(compiled(frames).main, plain(frames).main)
