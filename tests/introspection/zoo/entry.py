"""What a network of the zoo is: how it is made and fed, how its authors read it, and what ``attach`` has to be told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 5
WHICH = "may be time: pass batch_axis=1"
"""What a network of one time step a call is asked about."""
TIME_FIRST = {"batch_axis": 1}
MEAN: dict[str, Any] = {"asks": "real values of every time step.*readout='mean', 'last'", "cure": {"readout": "mean"}}
"""What a network is asked that returns potentials of every time step, and the answer of its authors."""
STEPS_OF_SAMPLES: dict[str, Any] = {
    "asks": r"not logits.*output\.mean\(1\) for \[N, T, classes\]",
    "cure": {"readout": lambda output: output.mean(1)},
}
"""What is asked about ``[N, T, classes]`` without labels."""
Read = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class Entry:
    """A network as somebody writes it.

    Args:
        make: builds it.
        example: makes a batch.
        read: runs it by hand, from rest, and returns ``[N, classes]``; by default one call, mean over axis 0 of three.
        batch: where samples lie in the batch.
        widths: that branches can have, if there are other axes that could be taken for channels.
        asks: what the message has to say where one call is not enough, and the arguments that it leads to.
        given: arguments that are always given.
        first: whether a gradient comes to the first layer.
        independent: whether samples are.
    """

    make: Callable[[], nn.Module]
    example: Callable[[], Any]
    read: Read | None = None
    batch: int = 0
    widths: set[int] | None = None
    asks: str | None = None
    cure: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    first: bool = True
    independent: bool = True


ZOO: dict[str, Entry] = {}


def entry(example: Callable[[], Any], **options: Any) -> Callable[[Any], Any]:
    """Put a network into the zoo, under the name of its class or function."""

    def register(make: Any) -> Any:
        ZOO[make.__name__] = Entry(make, example, **options)
        return make

    return register


def images(n: int = 3, channels: int = 3, side: int = 8) -> Callable[[], Tensor]:
    return lambda: torch.rand(n, channels, side, side)


def frames(steps: int = 4, n: int = 3, channels: int = 2, side: int = 8) -> Callable[[], Tensor]:
    """``[T, N, C, H, W]``."""
    return lambda: 2 * torch.rand(steps, n, channels, side, side)


def clips(n: int = 3, steps: int = 4, channels: int = 2, side: int = 8) -> Callable[[], Tensor]:
    """``[N, T, C, H, W]``."""
    return lambda: 2 * torch.rand(n, steps, channels, side, side)


def features(n: int = 3, width: int = 6) -> Callable[[], Tensor]:
    return lambda: torch.rand(n, width)


def sequence(first: int = 4, second: int = 3, width: int = 6) -> Callable[[], Tensor]:
    return lambda: 2 * torch.rand(first, second, width)


def mean(axis: int, key: Any = None) -> Read:
    """One call, of whose output the logits are averaged over an axis."""

    def read(network: nn.Module, x: Any) -> Tensor:
        output = network(x)
        return (output if key is None else output[key]).mean(axis)

    return read


def steps_of(axis: int = 0, key: Any = None, steps: int | None = None) -> Read:
    """One call for each time step, whose outputs are averaged."""

    def read(network: nn.Module, x: Tensor) -> Tensor:
        parts = x.unbind(axis) if steps is None else [x] * steps
        outputs = [network(part) for part in parts]
        return torch.stack([output if key is None else output[key] for output in outputs]).mean(0)

    return read


def one_of_several(readout: Callable[[Any], Tensor]) -> dict[str, Any]:
    """Return the question about several tensors in an output, and the answer."""
    return {"asks": "and any of these may be the logits: pass readout=", "cure": {"readout": readout}}


def first_of(key: Any) -> Read:
    return lambda network, x: network(x)[key]
