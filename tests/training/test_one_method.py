"""A wrapper's method is the one that trains, in a task, in a recipe and in a loop of one's own."""

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import TET, Classification, LinearDecay, LogitSum, LossSum, attach, initialise, nets, wrap
from shortcut_snn.method import Branches, Layout, Method, Tap
from shortcut_snn.method.method import METHODS
from shortcut_snn.neurons import Neuron

LABELS = torch.tensor([0, 2, 1, 1])


def built_in() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nets.spiking_resnet8(3, time_steps=2, width=4), torch.rand(4, 3, 8, 8)


def sequential() -> tuple[nn.Module, Tensor]:
    """A network of SpikingJelly whose output is [T, N, classes]."""
    torch.manual_seed(0)
    network = nn.Sequential()
    for index, (inputs, outputs) in enumerate([(6, 12), (12, 12), (12, 12)]):
        fires = neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="m")
        network.add_module(f"layer{index + 1}", nn.Sequential(layer.Linear(inputs, outputs, step_mode="m"), fires))
    network.add_module("head", layer.Linear(12, 3, step_mode="m"))
    return network, 4 * torch.rand(5, 4, 6)


NETWORKS = {"built-in": built_in, "Sequential": sequential}


def attached(kind: str, method: Any, lines: list[str] | None = None) -> tuple[Any, Tensor]:
    network, x = NETWORKS[kind]()
    log = (lambda line: None) if lines is None else lines.append
    return attach(network, method=method, example=x, labels=LABELS, log=log), x


@pytest.mark.parametrize("name", ["loss_sum", "evolutionary", "deep_supervision", "vanilla"])
def test_a_task_trains_the_wrappers_method(name: str) -> None:
    model, x = attached("built-in", name)
    task = Classification(model)
    assert task.method == METHODS[name]
    output = model(x)
    expected = METHODS[name].objective(output, LABELS, METHODS[name].branch_weight(0, 10), F.cross_entropy)
    torch.testing.assert_close(model.loss(output, LABELS, 0, 10, task.criterion), expected)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"objective": LogitSum()}, r"LossSum.*LogitSum"),
        ({"branch_weight": LinearDecay(0.5)}, r"0\.25.*0\.5"),
        ({"method": "evolutionary"}, r"loss_sum.*logit_sum"),
        ({"objective": TET()}, r"LossSum.*TET"),
    ],
)
def test_another_method_than_the_wrappers_is_refused_by_both_names(given: Any, named: str) -> None:
    model, _ = attached("built-in", "loss_sum")
    with pytest.raises(ValueError, match=named):
        Classification(model, **given)
    assert Classification(model, objective=LossSum(), branch_weight=LinearDecay(0.25)).method == METHODS["loss_sum"]


def test_a_wrapper_without_a_method_takes_the_tasks() -> None:
    network, x = built_in()
    model = wrap(network, network.layout("stages"), log=len)  # type: ignore[operator]
    assert Classification(model, objective=LossSum()).method == Method(Branches(), LossSum())
    assert Classification(built_in()[0], method="tet").method == METHODS["tet"]
    output, other = model(x), wrap(network, network.layout(), log=len)  # type: ignore[operator]
    with pytest.raises(ValueError, match="has no method"):
        other.loss(output, LABELS, 0, 1)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", ["tet", "stages_and_steps"])
def test_methods_of_every_step_train_any_network_that_has_steps(kind: str, name: str) -> None:
    lines: list[str] = []
    model, x = attached(kind, name, lines)
    steps = 2 if kind == "built-in" else 5
    output = model(x)
    assert {tuple(each.shape) for each in (output.main, *output.branches)} == {(steps, 4, 3)}
    assert len(output.branches) == (0 if name == "tet" else 2)
    assert str(METHODS[name]) in lines[0]
    expected = METHODS[name].objective(output, LABELS, METHODS[name].branch_weight(0, 10))
    loss = model.loss(output, LABELS, 0, 10)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    first = next(model.network.parameters())
    assert first.grad is not None
    assert first.grad.any()
    # The same in a task; in eval mode the steps are averaged, and the network reads as before.
    task = Classification(model)
    assert model.weighted_loss(model(x), LABELS, 1.0, task.criterion).isfinite()
    assert model.eval()(x).main.shape == (4, 3)
    assert getattr(model.network, "readout", "mean") == "mean"


def test_branches_that_eval_mode_leaves_out_are_warned_of() -> None:
    model, x = attached("built-in", "loss_sum")
    with pytest.warns(UserWarning, match=r"call model\.train\(\)"):
        model.loss(model.eval()(x), LABELS, 0, 1)
    with torch.no_grad():
        model.loss(model(x), LABELS, 0, 1)


def test_a_method_that_the_wrapper_cannot_have_is_refused() -> None:
    network, _ = built_in()
    for name in ("loss_sum", "evolutionary"):
        with pytest.raises(ValueError, match="the wrapper has none"):
            Classification(network, method=name)
        with pytest.raises(ValueError, match="the wrapper has none"):
            wrap(network, network.layout(), name)  # type: ignore[operator]
    with pytest.raises(ValueError, match="only attach and wrap can set"):
        Classification(network, method="sltt")
    assert Classification(wrap(network, network.layout(), "sltt")).method == METHODS["sltt"]  # type: ignore[operator]
    assert not any(module._forward_hooks for module in network.modules())


def test_after_sltt_a_network_trains_by_another_method() -> None:
    network, _ = built_in()
    neurons = [module for module in network.modules() if isinstance(module, Neuron)]
    neurons[0].detach_membrane = True
    model = wrap(network, network.layout(), "sltt")  # type: ignore[operator]
    assert all(neuron.detach_membrane for neuron in neurons)
    model.strip()
    assert [neuron.detach_membrane for neuron in neurons] == [True] + [False] * (len(neurons) - 1)


def test_a_network_that_was_not_initialised_has_no_loss() -> None:
    network, x = built_in()
    model = wrap(network, network.layout(), "initialised")  # type: ignore[operator]
    output = model(x)
    with pytest.raises(ValueError, match=r"call initialise\(model"):
        model.loss(output, LABELS, 0, 1)
    initialise(model, x, LABELS)
    assert model.loss(model(x), LABELS, 0, 1).isfinite()


def test_a_method_of_every_step_is_refused_without_steps_and_leaves_no_trace() -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match="every time step, which Sequential"):
        attach(network, method="tet", example=torch.rand(4, 6), labels=LABELS)
    with pytest.raises(ValueError, match="every time step, which Sequential"):
        Classification(network, method="tet")
    assert not any(module._forward_hooks for module in network.modules())


def test_what_fails_while_wrapping_changes_nothing() -> None:
    network, x = built_in()
    keys = {name: value.clone() for name, value in network.state_dict().items()}
    refused = [
        ("sltt", Layout(taps=(Tap("layer9"),), num_classes=3), AttributeError),
        ("loss_sum", Layout(taps=(Tap("layer1", time_axis=1),), num_classes=3), ValueError),
    ]
    for method, layout, error in refused:
        method = METHODS[method] if method != "sltt" else Method(Branches(), gradient=METHODS["sltt"].gradient)
        with pytest.raises(error):
            wrap(network, layout, method, example=x, labels=LABELS, log=len)
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(getattr(module, "detach_membrane", False) for module in network.modules())
    assert all(torch.equal(value, keys[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, x: wrap(net, "stages"), "Layout, as network.layout"),
        (lambda net, x: attach(net, example=x, layout={"taps": 3}), "Layout, as attach"),
        (lambda net, x: attach(net, example=x, time_axis=9), "time_axis must be 0, 1 or None, got 9"),
        (lambda net, x: Classification(net, objective=LossSum), r"such as LossSum\(\)"),
        (lambda net, x: Classification(net, branch_weight=0.3), r"as LinearDecay\(0.25\), got 0.3"),
    ],
)
def test_arguments_of_another_type_are_named(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call(*built_in())
