"""One call that wraps a network of any library, with defaults that are right for it."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..method import Extract, Head, Layout, Reset, Shortcut, TimeAxis, example_of
from .finding import Finder

Auto = Literal["auto"]


def attach(
    network: nn.Module,
    taps: str | int | Sequence[str] = "auto",
    *,
    example: Any = None,
    num_classes: int | None = None,
    loop: Literal["auto", "network", "input"] | int = "auto",
    batch_axis: int | Auto = "auto",
    time_axis: TimeAxis | Auto | Sequence[TimeAxis | Auto] = "auto",
    channel_axis: int | Auto | Sequence[int | Auto] = "auto",
    extract: Extract | None = None,
    readout: Extract | Auto | None = "auto",
    head: Head | str | Mapping[str, Any] | None = None,
    reset: Reset | Auto | None = "auto",
    labels: Tensor | None = None,
    samples: int | None = None,
    wrap: Callable[..., Shortcut] = Shortcut,
    log: Callable[[str], object] = print,
) -> Shortcut:
    """Wrap a network of SpikingJelly, snnTorch, Norse, sinabs, plain PyTorch or your own for training with branches.

    What is left at ``"auto"`` is found by passes of ``example`` through copies, some of them with one sample or one
    channel changed: nothing of the network is changed, not even a neuron's state. What was found is told in a line,
    and is ``description`` of the wrapper.

    Args:
        network: maps a batch, or one time step of it, to logits, perhaps of every time step, perhaps in a tuple.
        taps: ``"auto"``: the ends of its stages, if there are any, or else 3 places evenly spread; a number: so many;
            or see :class:`Shortcut`.
        example: a batch as training will give it; its values do not matter. A tuple or a dictionary of several inputs
            is given to the network as its arguments, if these are so many. May be left out for networks of ours.
        num_classes: width of the logits; by default as the network's.
        loop: who goes through time. ``"network"``: one call takes the whole batch. ``"input"``: one call takes one time
            step, and the wrapper calls it for each of a batch ``[T, N, ...]``, or ``[N, T, ...]`` with
            ``batch_axis=0``. An integer: likewise, on a static batch shown so often. ``"auto"``: the first, unless the
            neurons compute one time step a call and the network is not able to take the example as a whole; which axis
            is then time, ``batch_axis`` or ``samples`` has to say.
        batch_axis: where samples lie in the example, 0 or 1; ``"auto"`` finds it.
        time_axis: see :class:`Shortcut`; ``"auto"`` finds it for each tap.
        channel_axis: see :class:`Shortcut`; ``"auto"`` finds it for each tap.
        extract: see :class:`Shortcut`.
        readout: see :class:`Shortcut`; ``"auto"`` finds the logits in a tuple or a dictionary and averages them over
            time; None takes the output as it is.
        head: see :class:`Shortcut`.
        reset: see :class:`Shortcut`; ``"auto"`` finds one, None leaves the neurons' state alone.
        labels: of the example: their number tells samples from time steps, their classes logits from what else there is
            in a tuple, and the shape of targets ``[N, steps, variables]`` a forecast from logits.
        samples: how many samples the example has, if that is known without labels.
        wrap: what makes the wrapper of all this, as a gradient mechanism does; by default :class:`Shortcut` itself.
        log: takes the lines that say what was inferred.

    Raises:
        ValueError: something cannot be told; the message says what to pass.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> model = attach(network, ["1"], example=torch.rand(2, 4))
        neurons:    plain PyTorch
        time loop:  one call for the whole batch
        reset:      not needed (none needed)
        batch axis: 0
        readout:    output, 3 classes
        taps:       1 (5 channels)
        >>> model.branches[0].classifier
        Linear(in_features=5, out_features=3, bias=True)
    """
    if not isinstance(loop, int) and loop not in ("auto", "network", "input"):
        raise ValueError(f"loop must be 'auto', 'network', 'input' or a number of time steps, got {loop!r}")
    if isinstance(network, torch.jit.ScriptModule):
        raise ValueError(
            "a scripted or traced network has no submodules to tap: pass the network that it was made from"
        )
    # Nobody's random numbers are drawn from.
    example = tree_map_only(torch.Generator, copy.deepcopy, example_of(network, example))
    samples = len(labels) if labels is not None and samples is None else samples
    found = Finder(network, example, loop, batch_axis, reset, extract, samples)
    description = found.describe(taps, time_axis, channel_axis, readout, num_classes, labels)
    model = wrap(
        network,
        [tap.name for tap in description.taps],
        num_classes=description.num_classes,
        shape=description.shape,
        example=example,
        time_axis=[tap.time_axis for tap in description.taps],
        channel_axis=[tap.channel_axis for tap in description.taps],
        extract=[tap.extract for tap in description.taps],
        readout=description.readout,
        run=description.run,
        head=head,
        reset=description.reset,
        layout=description,
    )
    log(description.summary())
    return model


def describe(
    network: nn.Module,
    example: Any,
    *,
    loop: Literal["auto", "network"] = "auto",
    reset: Reset | Auto | None = "auto",
    samples: int | None = None,
) -> Layout:
    """Find how a network is called and put to rest and where samples lie; no branches, and nothing about its logits.

    Args:
        network: see :func:`attach`.
        example: see :func:`attach`.
        loop: see :func:`attach`.
        reset: see :func:`attach`.
        samples: see :func:`attach`.

    Raises:
        ValueError: something cannot be told; the message says what to pass to :func:`attach`.

    Example:
        >>> import torch
        >>> describe(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), torch.rand(2, 4)).batch_axis
        0
    """
    finder = Finder(network, example, loop, "auto", reset, None, samples)
    finder.samples.find([])
    return finder.described((), None, 0)
