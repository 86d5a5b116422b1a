"""Who goes through time: a network in one call, or a loop that calls it for each time step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..method import Reset, TimeLoop, copy_network, primary, takes_state, tensor_in
from .changes import changes
from .libraries import Library
from .probing import UNFIT, Pass, Prober
from .samples import leaves_of
from .states import changed_attributes, kept, leaks, left_over, methods

Run = Callable[..., Any]


def who_calls(
    network: nn.Module,
    libraries: list[Library],
    loop: str | int,
    batch_axis: int | str,
    example: Any,
    rest: Reset | None,
    samples: int | None = None,
) -> tuple[TimeLoop | None, Reset | None]:
    """Find who goes through time.

    Args:
        network: see :func:`~.attachment.attach`, as all but ``libraries`` and ``rest``.
        libraries: whose neurons it has.
        loop: see there.
        batch_axis: see there.
        example: see there.
        rest: puts it to rest, so far as that is known.
        samples: see there.

    Returns:
        What calls it step by step, None where one call takes the whole batch; and what has to be called for a network
        that somebody has run before to run at all.

    Raises:
        ValueError: it cannot be told; the message says what to pass.
    """
    axis = 1 if batch_axis == 0 else 0
    if loop == "network":
        return None, rest
    carry = takes_state(network)
    looped = TimeLoop(loop if isinstance(loop, int) else None, carry, 0 if isinstance(loop, int) else axis)
    if carry and not _can(network, example, looped, rest):
        # What is called a state may be anything.
        carry, looped = False, replace(looped, carry=False)
    if loop != "auto":
        return looped, rest
    stepwise = [
        name
        for library in libraries
        for name, neuron in library.neurons(network).items()
        if library.is_stepwise(neuron)
    ]
    prober = Prober(network, example, None, rest)
    shape = tuple(primary(example).shape)
    try:
        done = prober.go()
    except UNFIT as error:
        # Made for one time step, such as a convolution is; if that is not the reason, the same error comes again.
        rests = [rest, *(reset for reset, _ in methods(network))]
        rest = next((one for one in rests if len(shape) > 2 and _can(network, example, looped, one)), _unfit)
        if rest is _unfit and (stepwise or carry):
            if mode := _forgotten(network, libraries, example, rests[0]):
                raise ValueError(
                    f"{type(network).__name__} cannot take the example, of shape {shape}, as its neurons are set, for "
                    f"one time step a call ({error}), but can if they take sequences: call {mode} before"
                ) from error
            # Its own error in a step says more.
            return looped, rests[0]
        if rest is _unfit:
            rest = next((one for one in rests[1:] if _can(network, example, None, one)), _unfit)
            if rest is not _unfit:
                return None, rest
            if left := left_over(network):
                raise ValueError(
                    f"{error}; {kept(network, left)}, which may be why: pass reset=..., a function that takes the "
                    "network and puts it to rest, or a network that has not been called yet"
                ) from error
            raise
        if stepwise or carry or _keeps(network, example, looped.axis, rest):
            return looped if batch_axis != "auto" else _told(network, example, looped, rest, samples), rest
        raise ValueError(
            f"{type(network).__name__} cannot take the example, of shape {shape}, as a whole, but can take its steps "
            "one by one: pass loop='input' if it is a sequence [T, N, ...], and batch_axis=0 too if it is [N, T, ...]"
        ) from error
    calls = [done.events[name].calls for name in stepwise if name in done.events]
    if not stepwise and not libraries:
        own = {name for name, _ in changed_attributes(prober)}
        stepwise = [name for name in own if name in done.events and name]
        calls = [done.events[name].calls for name in stepwise]
        if any(_goes_through_time(prober, name) for name in stepwise) or not leaks(prober, None):
            return None, rest
    if not calls or max(calls) > 1:
        return None, rest
    told = [way for way in (0, 1) if (1 - way == batch_axis if batch_axis != "auto" else samples == shape[1 - way])]
    if len(shape) > 2 and len(told) == 1 and _apart(prober, done, told[0]):
        # What is no axis of samples, and along which nothing but the neurons' state goes on, is time.
        looped = replace(looped, axis=told[0])
        if _can(network, example, looped, rest):
            return looped, rest
    ways = ["loop=4, say, to show a static batch for 4 time steps"]
    if _can(network, example, looped, rest) or _can(network, example, replace(looped, axis=1 - looped.axis), rest):
        ways.insert(
            0, "loop='input' if the batch is a sequence [T, N, ...] (and batch_axis=0 too if it is [N, T, ...])"
        )
    mode = _forgotten(network, libraries, example, rest)
    first = "" if mode is None else f"call {mode} before, if the network takes a whole sequence [T, N, ...], or else "
    raise ValueError(
        f"{type(network).__name__} calls its neurons once for the example, of shape {shape}, and they compute one time "
        f"step a call: {first}pass {', '.join(ways)}, or loop='network' if one call is all, as where there is one "
        "time step alone, or where time is no matter of the neurons"
    )


def _forgotten(network: nn.Module, libraries: list[Library], example: Any, rest: Reset | None) -> str | None:
    """What to call before a network can take the example as a sequence; None where that would not do."""
    for library in libraries:
        if library.to_sequences is not None and primary(example).dim() > 2:
            twin = copy_network(network)
            library.to_sequences(twin)
            if _can(twin, example, None, rest):
                return library.to_sequences_call
    return None


def _told(network: nn.Module, example: Any, looped: TimeLoop, rest: Reset | None, samples: int | None) -> TimeLoop:
    """The loop over time where it is told which axis that is: samples are as independent in steps of either."""
    shape = tuple(primary(example).shape)
    ways = [replace(looped, axis=axis) for axis in (0, 1) if samples in (None, shape[1 - axis])]
    ways = [way for way in ways if _can(network, example, way, rest)]
    if len(ways) != 1:
        raise ValueError(
            f"{type(network).__name__} computes one time step a call, and either of the first axes of the example, of "
            f"shape {shape}, may be time: pass batch_axis=1 if it is [T, N, ...], batch_axis=0 if it is [N, T, ...]"
        )
    return ways[0]


def _unfit(network: nn.Module) -> None:
    """Stand for no reset that will do."""


def _can(network: nn.Module, example: Any, run: Run | None, rest: Reset | None) -> bool:
    try:
        Prober(network, example, run, rest).go()
    except UNFIT:
        return False
    return True


def _keeps(network: nn.Module, example: Any, axis: int, rest: Reset | None) -> bool:
    """Whether a network that is called step by step keeps a state between steps."""

    def first(module: nn.Module, batch: Tensor, *args: Any, **kwargs: Any) -> Any:
        return module(batch.select(axis, 0), *args, **kwargs)

    return leaks(Prober(network, example, first, rest), None)


def _apart(prober: Prober, base: Pass, axis: int) -> bool:
    """Whether each index of an axis of the example changes the output there alone, as where nothing goes along it."""
    heard = False
    for number in (0, primary(prober.example).shape[axis] - 1):
        others = leaves_of(prober.other(prober.example, axis, number).output)
        for path, leaf in leaves_of(base.output).items():
            found = changes(leaf, others[path]) if path in others else []
            if found is not None and (len(found) <= axis or not found[axis] <= {number}):
                return False
            heard |= found is not None
    return heard


def _goes_through_time(prober: Prober, name: str) -> bool:
    """Whether one call of a module goes through time: what comes early changes what comes late, and not the reverse."""
    network, seen = prober.fresh(), []
    handle = network.get_submodule(name).register_forward_pre_hook(lambda module, args: seen.append(args))
    prober.go(network=network)
    handle.remove()
    if not seen or not seen[0] or not isinstance(seen[0][0], Tensor):
        return False
    given, *others = seen[0]

    def call(batch: Tensor) -> Any:
        module = prober.fresh(name)
        try:
            with torch.no_grad():
                return tensor_in(module.eval()(batch.clone(), *others))
        except UNFIT:
            # It cannot be called by itself: what is around it prepares it.
            return None

    base = call(given)
    if base is None:
        return False
    for axis, size in enumerate(given.shape):
        if size < 2 or base.dim() <= axis or base.shape[axis] != size:
            continue
        late: dict[int, set[int]] = {}
        for index in (0, size - 1):
            late[index] = set()
            for scale in (0.3, 1.0, -1.0, 10.0):
                other = given.clone()
                other.select(axis, index).add_(scale)
                result = call(other)
                found = None if result is None else changes(base, result)
                late[index] |= set() if found is None else found[axis]
        if late[size - 1] <= {size - 1} and late[0] - {0}:
            return True
    return False
