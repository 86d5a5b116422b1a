"""Steps that take more than one sequence, or the number of the step."""

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from shortcut_snn import LossSum, TimeLoop, attach

from .test_stateful import InPlace

FRAMES, COUNTS, LABELS = 2 * torch.rand(7, 5, 2, 6, 6), 2 * torch.rand(7, 5, 2, 6, 6), torch.arange(5) % 3


class Pair(nn.Module):
    """One time step of two sequences, whose neurons keep their state."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3)
        self.one, self.other, self.last = (neuron.LIFNode() for _ in range(3))
        self.hidden, self.head = nn.Linear(64, 8), nn.Linear(8, 3)

    def forward(self, frames: Tensor, counts: Tensor) -> Tensor:
        both = self.one(self.first(frames)) + self.other(self.second(counts))
        return self.head(self.last(self.hidden(both.flatten(1))))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("named", [False, True])
def test_sequences_are_stepped_together(axis: int, named: bool) -> None:
    network, batch = Pair(), tuple(one.movedim(0, axis) for one in (FRAMES, COUNTS))
    example: Any = dict(zip(("frames", "counts"), batch, strict=True)) if named else batch
    model = attach(network, example=example, labels=LABELS, log=len).eval()
    assert model.layout.run == TimeLoop(axis=axis, sequences=("counts",))
    assert (model.layout.batch_axis, model.layout.time_steps) == (1 - axis, 7)
    functional.reset_net(network)
    with torch.no_grad():
        expected = torch.stack([network(*step) for step in zip(FRAMES, COUNTS, strict=True)]).mean(0)
    output = model(**example) if named else model(*example)
    torch.testing.assert_close(output.main, expected)
    LossSum()(model.train()(*batch), LABELS, 0.5).backward()
    assert network.second.weight.grad is not None
    with pytest.raises(ValueError, match="same number of time steps"):
        model(batch[0], batch[1].narrow(axis, 0, 3))


class Flow(Pair):
    """Predicts numbers at every pixel of every time step."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = nn.Conv2d(4, 2, 3, padding=2)

    def forward(self, frames: Tensor, counts: Tensor) -> Any:
        return {"flow": [self.flow(self.one(self.first(frames)) + self.other(self.second(counts)))], "rates": None}


def test_targets_may_be_images_of_every_step() -> None:
    network, targets = Flow(), torch.rand(7, 5, 2, 6, 6)
    model = attach(network, ["one"], example=(FRAMES, COUNTS), labels=targets, batch_axis=1, step_axis=0, log=len)
    output = model(FRAMES, COUNTS)
    assert output.main.shape == output.branches[0].shape == targets.shape
    with pytest.raises(ValueError, match=r"do not fit.*step_axis=0 for"):
        attach(Flow(), ["one"], example=(FRAMES, COUNTS), labels=targets, batch_axis=1, log=len)


class Numbered(nn.Module):
    """Begins anew at step 0, with neurons of its own that take one step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 12), nn.Linear(12, 8), nn.Linear(8, 3)
        self.one, self.other = InPlace(), InPlace()

    def forward(self, x: Tensor, time_step: Any) -> Tensor:
        if time_step == 0:
            self.one.v = self.other.v = None
        elif self.one.v is None:
            raise RuntimeError("no step 0")
        return self.head(self.other(self.second(self.one(self.first(x)))))


def test_a_step_may_take_its_number() -> None:
    network, x = Numbered(), 4 * torch.rand(7, 5, 6)
    model = attach(network, example=(x, torch.arange(7)), labels=LABELS, loop="input", readout="mean", log=len).eval()
    assert model.layout.run == TimeLoop(sequences=("time_step",))
    with torch.no_grad():
        expected = torch.stack([network(step, number) for number, step in enumerate(x)]).mean(0)
    torch.testing.assert_close(model(x, torch.arange(7)).main, expected)
    LossSum()(model.train()(x, torch.arange(7)), LABELS, 0.5).backward()
    with pytest.raises(ValueError, match=r"takes time_step and returns Tensor.*numbers of the steps"):
        attach(network, example=x, labels=LABELS, loop="input", log=len)


def test_numbers_count_time_steps_where_there_are_as_many_samples() -> None:
    example = 4 * torch.rand(5, 5, 6), torch.arange(5)
    model = attach(Numbered(), example=example, loop="input", readout="mean", log=len)
    assert model.layout.run == TimeLoop(sequences=("time_step",))
    with pytest.raises(ValueError, match=r"pass loop='input' for"):
        attach(Numbered(), example=example, labels=LABELS, log=len)
