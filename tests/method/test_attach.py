"""One call around networks of SpikingJelly, snnTorch, Norse and plain PyTorch."""

import copy
import subprocess
import sys

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torchvision.models import resnet18

from shortcut_snn import LossSum, Shortcut, TimeLoop, attach

from .peers import CLASSES, LABELS, PEERS, STEPS, Peer, Plain, frames, integrating, snntorch_step
from .toys import small

peers = pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)


def wrap(peer: Peer, **options: object) -> Shortcut:
    return attach(peer.make(), peer.taps, example=frames(), **options)


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
def test_what_is_found_out_about_a_network(peer: Peer) -> None:
    model = wrap(peer)
    assert model.taps.time_axes == [peer.axis]
    assert (model.run is not None) == peer.looped
    assert (model._reset is not None) == peer.stateful
    assert model.branches[0].classifier.weight.shape == (CLASSES, 4)


@peers
def test_main_output_and_branch_are_the_means_over_time_of_what_the_network_gives(peer: Peer) -> None:
    model, x = wrap(peer), frames()
    tapped, outputs = spikes_by_hand(peer, model.network, x)
    assert tapped.shape == (STEPS, 2, 4, 6, 6)
    assert tapped.any()
    output = model(x)
    torch.testing.assert_close(output.main, outputs.mean(0))
    torch.testing.assert_close(output.branches[0], model.branches[0](tapped.mean((0, 3, 4))))


@peers
def test_training_needs_no_reset_and_each_pass_starts_from_rest(peer: Peer) -> None:
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


@peers
def test_another_batch_size_follows(peer: Peer) -> None:
    model = wrap(peer)
    assert [model(frames(n)).branches[0].shape for n in (5, 1, 2)] == [(n, CLASSES) for n in (5, 1, 2)]


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
def test_a_networks_keys_values_and_states_are_as_before(peer: Peer) -> None:
    network, example = peer.make(), frames()
    # A state that an earlier pass left, with its graph.
    network(example if not peer.looped else example[0])
    keys, before = list(network.state_dict()), held(network)
    values = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    attach(network, peer.taps, example=example)
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


def test_reset_none_leaves_the_state_and_one_of_your_own_is_called() -> None:
    network, x = integrating()
    model = attach(network, ["0"], example=x, reset=None).eval()
    assert [round(3 * model(x).main[0, 0].item()) for _ in range(3)] == [1, 2, 1]
    calls: list[nn.Module] = []
    model = attach(network, ["0"], example=x, reset=lambda net: calls.append(net))
    calls.clear()
    model(x)
    assert calls == [network, network]


def test_static_batches_are_shown_for_a_number_of_time_steps() -> None:
    network, images = snntorch_step(), frames()[0]
    model = attach(network, example=images, loop=5)
    shown = attach(copy.deepcopy(network), example=images.expand(5, -1, -1, -1, -1))
    shown.load_state_dict(model.state_dict())
    assert model.run == TimeLoop(5)
    output, expected = model(images), shown(images.expand(5, -1, -1, -1, -1))
    assert torch.equal(output.main, expected.main)
    assert torch.equal(output.branches[0], expected.branches[0])


def test_the_membrane_potential_may_be_the_readout() -> None:
    network, x = snntorch_step(), frames()
    model = attach(network, example=x, readout=lambda output: output[1][-1])
    _, expected = copy.deepcopy(network)(x[0])
    main = model(x).main
    assert main.shape == expected.shape == (2, CLASSES)
    assert torch.equal(main, TimeLoop()(copy.deepcopy(network), x)[1][-1])


def test_a_loop_that_cannot_be_told_from_the_example_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"once for the example, of shape \(2, 1, 8, 8\).*pass loop='input'.*loop=T"):
        attach(snntorch_step(), example=frames()[0])
    model = attach(snntorch_step(), example=frames()[0], loop="network")
    assert model.run is None
    assert model(frames()[0]).branches[0].shape == (2, CLASSES)
    with pytest.raises(ValueError, match=r"loop must be 'auto', 'network', 'input' or a number.*got 'outside'"):
        attach(snntorch_step(), example=frames(), loop="outside")
    with pytest.raises(ValueError, match="at least 1 time step, got 0"):
        attach(snntorch_step(), example=frames(), loop=0)


def test_an_error_of_the_network_itself_is_shown() -> None:
    with pytest.raises(RuntimeError, match=r"expected input.* to have 1 channels, but got 7"):
        attach(snntorch_step(), example=torch.zeros(4, 2, 7, 8, 8))


def test_without_stages_the_spiking_layers_are_listed() -> None:
    with pytest.raises(ValueError, match=r"SnntorchLoop has no .*its snnTorch neurons: lif1, lif2, lif3$"):
        attach(PEERS["snntorch loop"].make(), example=frames())
    with pytest.raises(ValueError, match=r"its Norse neurons: 1, 3$"):
        attach(PEERS["norse sequence"].make(), "blocks", example=frames())
    with pytest.raises(ValueError, match=r"its SpikingJelly neurons: 1, 3\.0$"):
        attach(
            nn.Sequential(nn.Linear(4, 5), neuron.LIFNode(), nn.Tanh(), nn.Sequential(neuron.PSN(4))), example=frames()
        )


def test_plain_networks_with_time_in_front_without_time_and_ours() -> None:
    images = torch.rand(2, 3, 32, 32)
    plain = attach(resnet18(num_classes=7), example=images)
    assert plain.taps.time_axes == [None] * 3
    assert [branch.shape for branch in plain(images).branches] == [(2, 7)] * 3
    ours = attach(small("resnet18", num_classes=5, time_steps=3))
    assert ours.taps.time_axes == [0] * 3
    assert ours._reset is None
    assert [branch.shape for branch in ours(torch.rand(2, 3, 8, 8)).branches] == [(2, 5)] * 3


def test_time_elsewhere_is_an_argument() -> None:
    model = attach(Plain(), example=frames(), time_axis=1, extract=lambda features: features.transpose(1, 2))
    x = frames()
    tapped = model.network.layer1(x.permute(1, 2, 0, 3, 4))
    torch.testing.assert_close(model(x).branches[0], model.branches[0](tapped.mean((2, 3, 4))))


def test_an_axis_that_cannot_be_told_is_asked_for() -> None:
    network = nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 5), nn.Unflatten(0, (3, 2)))
    with pytest.raises(ValueError, match=r"the tap '1' gives shape \(6, 5\), and neither of .* length 2"):
        attach(network, ["1"], example=torch.rand(3, 2, 4))
    with pytest.raises(ValueError, match=r"the tap '1' gives shape \(2, 2, 4\), and both its first axes"):
        attach(nn.Sequential(nn.Identity(), nn.Tanh()), ["1"], example=torch.rand(2, 2, 4))
    behind = nn.Sequential(nn.Tanh(), nn.Flatten(1), nn.Linear(12, 7))
    with pytest.raises(ValueError, match="its second axis may be time or channels"):
        attach(behind, ["0"], example=torch.rand(2, 3, 4))
    assert attach(behind, ["0"], example=torch.rand(2, 3, 4), time_axis=1).branches[0].classifier.in_features == 4
    model = attach(network, ["1"], example=torch.rand(3, 2, 4), extract=lambda y: y.unflatten(0, (3, 2)))
    assert model.taps.time_axes == [0]


def test_an_output_that_is_no_logits_asks_for_a_readout() -> None:
    with pytest.raises(ValueError, match=r"gave shape \(2, 4, 8, 8\), not logits.*pass readout"):
        attach(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Identity()), ["0"], example=torch.zeros(2, 1, 8, 8))


def test_neurons_of_two_libraries_are_refused() -> None:
    with pytest.raises(ValueError, match="neurons of SpikingJelly and of snnTorch: wrap it with Shortcut"):
        attach(nn.Sequential(neuron.LIFNode(), snntorch.Leaky(0.5)), ["0"], example=frames())


def test_no_peer_is_imported_for_a_network_that_needs_none() -> None:
    code = """
import sys
for name in ("spikingjelly", "snntorch", "norse", "torchvision", "lightning"):
    sys.modules[name] = None  # importing it now fails
from torch import nn, zeros
from shortcut_snn import attach
model = attach(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), ["1"], example=zeros(2, 4))
assert model(zeros(2, 4)).branches[0].shape == (2, 3)
model.strip(check=zeros(2, 4))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
