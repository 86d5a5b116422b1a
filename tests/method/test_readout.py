"""Logits in what networks return: taken out of it, and put back with others added."""

from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from shortcut_snn import TimeLoop
from shortcut_snn.method.layout import Readout, entries
from shortcut_snn.method.taps import Unfold

Pair = namedtuple("Pair", ["spikes", "potential"])
LOGITS = torch.arange(24.0).view(4, 2, 3)
OUTPUTS = {
    "tensor": (LOGITS, ()),
    "tuple": ((LOGITS, "state"), (0,)),
    "list": (["state", LOGITS], (1,)),
    "named tuple": (Pair(LOGITS, "state"), (0,)),
    "dictionary": ({"logits": LOGITS, "loss": None}, ("logits",)),
    "object": (SimpleNamespace(logits=LOGITS, loss=None), ("logits",)),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_logits_are_found_averaged_and_added_to(kind: str) -> None:
    output, path = OUTPUTS[kind]
    readout = Readout(path, 0)
    assert torch.equal(readout(output), LOGITS.mean(0))
    more = torch.ones(2, 3)
    added = readout.add(output, more)
    assert type(added) is type(output)
    torch.testing.assert_close(readout(added), LOGITS.mean(0) + 1)
    if path:
        assert {key: value for key, value in entries(added).items() if key != path[0]} == {
            key: value for key, value in entries(output).items() if key != path[0]
        }


@pytest.mark.parametrize(
    ("readout", "logits"),
    [
        (Readout(), LOGITS[0]),
        (Readout((), 1), LOGITS.transpose(0, 1)),
        (Readout((), 2), LOGITS.permute(1, 2, 0)),
        (Readout((), 0, Unfold(4, 0)), LOGITS.flatten(0, 1)),
        (Readout((), 1, Unfold(4, 1)), LOGITS.transpose(0, 1).flatten(0, 1)),
    ],
)
def test_wherever_time_lies_the_logits_come_once(readout: Readout, logits: Any) -> None:
    expected = LOGITS[0] if readout.time_axis is None else LOGITS.mean(0)
    torch.testing.assert_close(readout(logits), expected)
    added = readout.add(logits, torch.ones(2, 3))
    assert added.shape == logits.shape
    torch.testing.assert_close(readout(added), expected + 1)


def test_a_tuple_returned_in_training_alone_is_read_at_its_first_entry() -> None:
    assert torch.equal(Readout()((LOGITS[0], LOGITS[1])), LOGITS[0])
    with pytest.raises(ValueError, match="readout="):
        Readout((2,))((LOGITS,))


class Step(nn.Module):
    def forward(self, x: Any, scale: float = 1.0) -> Any:
        return {"out": scale * x, "states": {"mem": None}}, (x, "state")


def test_time_loop_stacks_nested_tensors_and_lists_other_outputs() -> None:
    x = torch.rand(4, 2, 3)
    outputs, pair = TimeLoop()(Step(), x, 2.0)
    assert torch.equal(outputs["out"], 2 * x)
    assert outputs["states"] == {"mem": [None] * 4}
    assert torch.equal(pair[0], x)
    assert pair[1] == ["state"] * 4
    outputs, _ = TimeLoop(axis=1)(Step(), x)
    assert torch.equal(outputs["out"], x.transpose(0, 1))


def test_a_time_loop_splits_all_frames_of_a_dictionary() -> None:
    frames = {"left": torch.rand(4, 2, 3), "right": torch.rand(4, 2, 3)}

    class Two(nn.Module):
        def forward(self, x: dict[str, Any]) -> Any:
            return x["left"] - x["right"]

    assert torch.equal(TimeLoop()(Two(), frames), frames["left"] - frames["right"])
    with pytest.raises(ValueError, match=r"axis 0, got \[3, 4\]"):
        TimeLoop()(Two(), frames | {"right": torch.rand(3, 2, 3)})


class Stubborn(nn.Module):
    def forward(self, x: Any, state: Any = None) -> Any:
        return x


def test_a_step_that_takes_a_state_and_gives_none_is_named() -> None:
    with pytest.raises(TypeError, match="Stubborn takes state"):
        TimeLoop(carry=("state",))(Stubborn(), torch.rand(4, 2, 3))
