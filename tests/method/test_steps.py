"""Losses of every time step, of the branches too."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import LossSum, ShortcutOutput, StepLossSum, attach, nets
from shortcut_snn.neurons import LIF
from shortcut_snn.recipes import build, recipe_of

from .wrapped import wrapped

STEPS, SAMPLES, CLASSES = 3, 2, 4


def test_step_loss_sum_is_the_mean_of_loss_sums_with_its_gradient() -> None:
    main, *branches = (torch.randn(STEPS, SAMPLES, CLASSES, dtype=torch.float64, requires_grad=True) for _ in range(3))
    labels = torch.tensor([1, 3])
    loss = StepLossSum()(ShortcutOutput(main, tuple(branches)), labels, 0.3)
    each = [LossSum()(ShortcutOutput(main[t], (branches[0][t], branches[1][t])), labels, 0.3) for t in range(STEPS)]
    torch.testing.assert_close(loss, sum(each) / STEPS)

    def value(*outputs: Tensor) -> Tensor:
        return StepLossSum()(ShortcutOutput(outputs[0], outputs[1:]), labels, 0.3)

    assert torch.autograd.gradcheck(value, (main, *branches))


def test_logits_without_time_are_refused() -> None:
    with pytest.raises(ValueError, match=r"step_loss_sum needs the logits of every time step.*got shape \(2, 4\)"):
        StepLossSum()(ShortcutOutput(torch.zeros(SAMPLES, CLASSES)), torch.tensor([1, 3]), 1.0)


class Rated(nn.Module):
    """Returns every time step; its attribute ``readout`` has a meaning of its own."""

    readout = "rate"

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.neuron, self.layer2 = nn.Linear(8, 6), LIF(), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        assert self.readout == "rate"
        return self.layer2(self.neuron(self.layer1(x)))


@pytest.mark.parametrize("method", ["tet", "stages_and_steps"])
def test_a_network_that_returns_every_step_keeps_its_readout(method: str) -> None:
    labels, built_in = torch.tensor([1, 3]), nets.spiking_resnet8(CLASSES, STEPS, width=4, readout="sequence")
    given = {"image": (built_in, torch.rand(SAMPLES, 3, 8, 8)), "sequence": (Rated(), torch.rand(STEPS, SAMPLES, 8))}
    for network, example in given.values():
        before = network.readout
        model = attach(network, example=example, labels=labels, method=method, log=lambda line: None)
        assert model(example).main.shape == (STEPS, SAMPLES, CLASSES)
        assert network.readout == before
        assert model.eval()(example).main.shape == (SAMPLES, CLASSES)


class Layer(nn.Module):
    """Linear and ReLU, on sequences or on steps."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu()


@pytest.mark.parametrize("layout", ["[T, N, C]", "[N, T, C]", "a step a call"])
def test_branches_of_every_step_average_to_the_plain_branches(layout: str) -> None:
    network = nn.Sequential(Layer(5, 6), Layer(6, 7), nn.Linear(7, CLASSES))
    x = torch.randn(STEPS, SAMPLES, 5)
    if layout == "a step a call":
        options = {"loop": "input", "batch_axis": 1, "readout": "mean", "log": lambda line: None}
        model = attach(network, ["0", "1"], example=x, **options)
    else:
        x = x if layout == "[T, N, C]" else x.transpose(0, 1)
        axis = 0 if layout == "[T, N, C]" else 1
        model = wrapped(
            network, ["0", "1"], num_classes=CLASSES, example=x, time_axis=axis, readout=lambda y: y.mean(axis)
        )
    expected = model(x).branches
    model.taps.every_step = True
    found = model(x).branches
    for one, other in zip(found, expected, strict=True):
        assert one.shape == (STEPS, SAMPLES, CLASSES)
        torch.testing.assert_close(one.mean(0), other)
    # Each step by itself.
    sequence = x if layout != "[N, T, C]" else x.transpose(0, 1)
    by_hand = model.branches[0](network[0](sequence[1]))
    torch.testing.assert_close(found[0][1], by_hand)


def test_a_branch_that_keeps_space_has_it_at_every_step() -> None:
    network = nets.spiking_resnet8(CLASSES, STEPS, width=2, readout="sequence")
    head = {"kind": "conv", "width": 3}
    model = wrapped(network, num_classes=CLASSES, head=head)
    model.taps.every_step = True
    output = model(torch.rand(SAMPLES, 3, 8, 8))
    assert {tuple(logits.shape) for logits in (output.main, *output.branches)} == {(STEPS, SAMPLES, CLASSES)}


def test_a_recipe_trains_with_it() -> None:
    recipe = recipe_of(
        {"network": {"kind": "resnet8", "width": 2, "time_steps": 2}, "data": {"train_limit": 60, "test_limit": 10}},
        "stages_and_steps",
    )
    task, data = build(recipe)
    inputs, labels = task.prepare_batch(data.sample(7))
    output = task.model(inputs)
    assert {tuple(logits.shape) for logits in (output.main, *output.branches)} == {(2, 7, 10)}
    loss = task.model.weighted_loss(output, labels, 1.0, task.criterion)
    expected = [F.cross_entropy(logits.flatten(0, 1), labels.repeat(2)) for logits in (output.main, *output.branches)]
    torch.testing.assert_close(loss, sum(expected))
    assert task.model.eval()(inputs).main.shape == (7, 10), "in eval mode the steps are averaged"
