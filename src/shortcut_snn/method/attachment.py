"""One call that wraps a network of any library, with defaults that are right for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from .heads import Head
from .libraries import PLAIN, Library, Reset, library_of
from .model import Shortcut, dry_copy, evaluation, example_of
from .taps import Extract, TimeAxis, resolve, stages, tensor_in
from .time_loop import TimeLoop, takes_state

Auto = Literal["auto"]
Run = Callable[..., Any]


def attach(
    network: nn.Module,
    taps: str | Sequence[str] = "stages",
    *,
    example: Any = None,
    num_classes: int | None = None,
    loop: Literal["auto", "network", "input"] | int = "auto",
    time_axis: TimeAxis | Auto = "auto",
    extract: Extract | None = None,
    readout: Extract | Auto | None = "auto",
    head: Head | str | Mapping[str, Any] | None = None,
    reset: Reset | Auto | None = "auto",
    wrap: Callable[..., Shortcut] = Shortcut,
) -> Shortcut:
    """Wrap a network of SpikingJelly, snnTorch, Norse or plain PyTorch for training with shortcut branches.

    What is left at ``"auto"`` is found from the classes of the network's neurons and by a dry pass of ``example``
    through a copy: nothing of the network is changed, not even a neuron's state.

    Args:
        network: maps a batch, or one time step of it, to logits, perhaps of every time step, perhaps in a tuple.
        taps: see :class:`Shortcut`.
        example: a batch as training will give it; its values do not matter. May be left out for networks of ours.
        num_classes: width of the logits; by default as the network's.
        loop: who goes through time. ``"network"``: one call takes the whole batch. ``"input"``: one call takes one time
            step, and the wrapper calls it for each of a batch ``[T, N, ...]``. An integer: likewise, on a static
            batch shown so often. ``"auto"``: the first, unless the neurons compute one time step a call and
            the network is not able to take the example as a whole.
        time_axis: see :class:`Shortcut`; ``"auto"`` finds it for each tap.
        extract: see :class:`Shortcut`.
        readout: see :class:`Shortcut`; ``"auto"`` takes the first entry of a tuple and averages over time; None takes
            the output as it is.
        head: see :class:`Shortcut`.
        reset: see :class:`Shortcut`; ``"auto"`` is the library's own, None leaves the neurons' state alone.
        wrap: what makes the wrapper of all this, as a gradient mechanism does; by default :class:`Shortcut` itself.

    Raises:
        ValueError: something cannot be found; the message says what to pass.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> attach(network, ["1"], example=torch.rand(2, 4)).branches[0].classifier
        Linear(in_features=5, out_features=3, bias=True)
    """
    library, example = library_of(network), example_of(network, example)
    names = _names(network, taps, library)
    chosen_reset = library.reset if isinstance(reset, str) else reset
    chosen_readout = MeanOverTime(1 if time_axis == 1 else 0) if isinstance(readout, str) else readout
    run = _loop(network, library, loop, example, chosen_reset)

    seen, output = _dry_pass(network, names, run, example, chosen_reset)
    logits = output if chosen_readout is None else chosen_readout(output)
    if time_axis == "auto":
        axes = [_axis(name, seen[name], extract, len(logits), example, library, run) for name in names]
    else:
        axes = [time_axis] * len(names)
    if num_classes is None:
        num_classes = logits.shape[1 if logits.dim() == 4 else -1]
    return wrap(
        network,
        names,
        num_classes=num_classes,
        example=example,
        time_axis=axes,
        extract=extract,
        readout=chosen_readout,
        run=run,
        head=head,
        reset=chosen_reset,
    )


@dataclass(frozen=True)
class MeanOverTime:
    """Logits ``[N, classes]`` as they are; those of every time step averaged.

    Of a tuple, as in ``(spikes, membrane potential)`` or ``(output, state)``, the first entry counts.

    Args:
        time_axis: where time lies, 0 or 1, if there is a third axis.

    Example:
        >>> import torch
        >>> MeanOverTime()((torch.rand(5, 2, 3), "membrane potential")).shape
        torch.Size([2, 3])
    """

    time_axis: int = 0

    def __call__(self, output: Any) -> Tensor:
        """Return logits ``[N, classes]``.

        Raises:
            ValueError: there are not 2 or 3 axes.
        """
        logits = tensor_in(output)
        if logits is None or logits.dim() not in (2, 3):
            got = type(output).__name__ if logits is None else f"shape {tuple(logits.shape)}"
            raise ValueError(
                f"the network gave {got}, not logits [N, classes] or [T, N, classes]: pass readout=..., which takes "
                "the network's output and returns logits [N, classes]"
            )
        return logits.mean(self.time_axis) if logits.dim() == 3 else logits


def _names(network: nn.Module, taps: str | Sequence[str], library: Library) -> list[str]:
    neurons = list(library.neurons(network))
    if isinstance(taps, str) and neurons and len(stages(network)) < 2:
        raise ValueError(
            f"{type(network).__name__} has no submodules named layer1, layer2, ... to put branches behind; pass "
            f"taps=[...] with names of submodules, such as some of its {library.name} neurons: {', '.join(neurons)}"
        )
    return resolve(network, taps)


def _loop(network: nn.Module, library: Library, loop: str | int, example: Any, reset: Reset | None) -> Run | None:
    if not isinstance(loop, int) and loop not in ("auto", "network", "input"):
        raise ValueError(f"loop must be 'auto', 'network', 'input' or a number of time steps, got {loop!r}")
    neurons = library.neurons(network)
    carry = library.carries_state and takes_state(network)
    if isinstance(loop, int):
        return TimeLoop(loop, carry)
    if loop == "input":
        return TimeLoop(None, carry)
    if loop == "network" or not any(map(library.is_stepwise, neurons.values())):
        return None
    try:
        seen, _ = _dry_pass(network, list(neurons), None, example, reset)
    except (RuntimeError, ValueError, TypeError):
        # Made for one time step, such as a convolution is; if that is not the reason, the same error comes again.
        return TimeLoop(None, carry)
    if any(calls.count > 1 for calls in seen.values()):
        return None
    raise ValueError(
        f"{type(network).__name__} calls its neurons once for the example, of shape {tuple(example.shape)}, and they "
        "compute one time step a call: pass loop='input' if the batch is a sequence [T, N, ...], loop=T to show a "
        "static batch for T time steps, or loop='network' if there is one time step alone"
    )


@dataclass
class _Calls:
    """How often a module was called in a pass, and what it gave the first time."""

    count: int = 0
    first: Any = None

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.count:
            self.first = output
        self.count += 1


def _dry_pass(
    network: nn.Module, names: Sequence[str], run: Run | None, example: Any, reset: Reset | None
) -> tuple[dict[str, _Calls], Any]:
    """The calls of the named submodules, and the network's output, in a pass through a copy."""
    probe = dry_copy(network, reset)
    seen = {name: _Calls() for name in names}
    for name, calls in seen.items():
        probe.get_submodule(name).register_forward_hook(calls)
    with evaluation(probe):
        output = probe(example) if run is None else run(probe, example)
    return seen, output


def _axis(
    name: str, calls: _Calls, extract: Extract | None, batch: int, example: Any, library: Library, run: Run | None
) -> TimeAxis:
    """Where time lies in what a tap gives, told by how often it is called and which axis is as long as the batch."""
    if run is not None or calls.count != 1:
        return None
    features = tensor_in(calls.first) if extract is None else extract(calls.first)
    if not isinstance(features, Tensor):
        # The wrapper says what is wrong with it.
        return library.time_axis
    shape = tuple(features.shape)
    first, second = shape[:1] == (batch,), len(shape) > 2 and shape[1] == batch
    if first and second and library is not PLAIN:
        return library.time_axis
    # As in a plain network that takes [N, T, ...]; but these may be channels too, as many as in the image.
    behind = first and library is PLAIN and isinstance(example, Tensor) and example.dim() > 2 and len(shape) > 2
    if first != second and not (behind and shape[1] == example.shape[1]):
        return 0 if second else None
    where = "both its first axes have" if first else "neither of its first axes has"
    if first and not second:
        where = "its second axis may be time or channels; its first has"
    raise ValueError(
        f"the tap {name!r} gives shape {shape}, and {where} the length {batch} of the batch: pass "
        "time_axis=0 for [T, N, C, ...], 1 for [N, T, C, ...] or None for [N, C, ...], with extract=... if need be, "
        "or an example with another number of samples"
    )
