"""The layout of a network, inferred question by question: time loop, reset, batch axis, readout, taps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import Reset, example_of, primary, tensors_in
from ..method import Extract, Layout, Shortcut, Tap, TimeLoop
from .adapters import Adapter, adapters_of, library_reset
from .answer import Answer, OpenQuestion, ask
from .candidates import Candidates
from .find_by_labels import Prediction
from .infer_batch_axis import infer_batch_axis
from .infer_readout import ReadoutInference
from .infer_reset import changed_attributes, check_layers_exist, infer_reset
from .infer_taps import TapInference
from .infer_time_loop import Loop, TimeLoopInference
from .neurons import single_step_neurons
from .probe import Probe
from .recorder import named_modules


def introspect(
    network: nn.Module,
    example: Any,
    *,
    taps: str | int | Sequence[str] = "auto",
    labels: Tensor | None = None,
    num_classes: int | None = None,
    loop: Loop = "auto",
    batch_axis: int | str = "auto",
    time_axis: Any = "auto",
    channel_axis: Any = "auto",
    extract: Extract | None = None,
    readout: Callable[[Any], Any] | str | None = "auto",
    reset: Reset | str | None = "auto",
    samples: int | None = None,
) -> Layout:
    """Infer the layout of a network by forward passes through copies of it.

    Each question is answered with the answers before it: adapters of known libraries first, probing for the rest. The
    arguments are those of :func:`shortcut_snn.attach`.

    Raises:
        OpenQuestion: answers remain open; the message names the arguments to pass.
        ValueError: the network or its arguments cannot serve.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> layout = introspect(network, torch.rand(2, 4), taps=["1"])
        >>> layout.batch_axis, layout.num_classes, [tap.channels for tap in layout.taps]
        (0, 3, [5])
    """
    if labels is not None and not isinstance(labels, Tensor):
        cure = "pass labels=torch.as_tensor(labels)"
        try:
            torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError):
            cure = "branches cannot predict labels that differ in shape from sample to sample, such as boxes"
        raise TypeError(f"labels must be a tensor, got {type(labels).__name__}: {cure}")
    samples = len(labels) if labels is not None and samples is None else samples
    sizes = tuple(labels.shape) if labels is not None else ()
    shape = tuple(primary(example_of(network, example)).shape)
    # Labels of every time step may begin with time, as the example may.
    known = None if sizes[1:] and sizes[:2] == shape[:2] and single_step_neurons(network) else samples
    options: dict[str, Any] = {"loop": loop, "batch_axis": batch_axis, "reset": reset, "extract": extract}
    call = infer_call(network, example, samples=known, classes=_number_of_classes(labels, num_classes), **options)
    probe = call.probe
    axis, along = infer_batch_axis(probe, batch_axis=batch_axis, samples=samples, labels=sizes)
    time_and_samples = shape[:2] if axis.value == 1 else shape[1:2] + shape[:1]
    # Labels [N, T] of an example [N, T, ...] look like [T, N] where N = T.
    is_ambiguous = axis.value == 0 and sizes[:1] == sizes[1:2]
    time_first = len(sizes) > 1 and sizes[:2] == time_and_samples and not is_ambiguous
    questions: list[OpenQuestion] = []
    try:
        prediction = ReadoutInference(along, labels, num_classes, time_first, time_axis).infer(readout)
    except OpenQuestion as question:
        questions.append(question)
        prediction = question.provisional or Answer(Prediction(None, 0), "")
    tapped = Answer[tuple[Tap, ...]]((), f"taps={taps}")
    if taps or isinstance(taps, str):
        paths, events = probe.gradient_paths, probe.base.events
        trained = {name: event for name, event in events.items() if paths.trains(name)} or events
        try:
            candidates = Candidates(network, events, trained, call.neurons).for_taps(taps)
            tapped = TapInference(along, prediction.value, paths).infer(taps, candidates, time_axis, channel_axis)
        except OpenQuestion as question:
            questions.append(question)
        except (ValueError, TypeError):
            # What is wrong with the taps may follow from the open question.
            ask(questions)
            raise
    layout = call.layout(axis, prediction, tapped)
    ask(questions, provisional=layout if layout.num_classes else None)
    return layout


def describe(
    network: nn.Module,
    example: Any,
    *,
    loop: Loop = "auto",
    reset: Reset | str | None = "auto",
    samples: int | None = None,
) -> Layout:
    """Infer how a network is called and reset and where its samples are, without taps and readout.

    The arguments are those of :func:`shortcut_snn.attach`.

    Raises:
        ValueError: an answer remains open; the message names the argument to pass to :func:`shortcut_snn.attach`.

    Example:
        >>> describe(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), torch.rand(2, 4)).batch_axis
        0
    """
    call = infer_call(network, example, loop=loop, batch_axis="auto", reset=reset, samples=samples)
    axis, _ = infer_batch_axis(call.probe, samples=samples)
    return call.layout(axis, Answer(Prediction(None, 0), ""), Answer((), ""))


@dataclass
class Call:
    """How a network is called and reset, and the probe that does so from its initial state."""

    network: nn.Module
    example: Any
    adapters: list[Adapter]
    loop: Answer[TimeLoop | None]
    reset: Answer[Reset | None]
    probe: Probe

    @cached_property
    def neurons(self) -> list[str]:
        """The names of the network's neurons: those of a library, or modules whose state a pass changes."""
        names = [name for adapter in self.adapters for name in adapter.neurons(self.network)]
        if names or self.reset.value is None:
            return names
        stateful = {name for name, _ in changed_attributes(self.probe) if name}
        modules = dict(named_modules(self.probe.initial))
        return [name for name in modules if name in stateful and name in self.probe.base.events]

    def layout(self, axis: Answer[int], prediction: Answer[Prediction], taps: Answer[tuple[Tap, ...]]) -> Layout:
        """Return the layout made of all answers."""
        time_axis, steps = self._time(axis.value, taps.value)
        libraries = " and ".join(adapter.name for adapter in self.adapters)
        reasons = {
            "time loop": self.loop.reason,
            "reset": self.reset.reason,
            "batch axis": axis.reason,
            "readout": prediction.reason,
            "taps": taps.reason,
        }
        return Layout(
            library=libraries or ("neurons of its own" if self.neurons else "plain PyTorch"),
            run=self.loop.value,
            reset=self.reset.value,
            batch_axis=axis.value,
            time_axis=time_axis,
            time_steps=steps,
            readout=prediction.value.readout,
            num_classes=prediction.value.num_classes,
            taps=taps.value,
            shape=prediction.value.shape,
            step_axis=prediction.value.step_axis,
            reasons=reasons,
        )

    def _time(self, batch_axis: int, taps: Sequence[Tap]) -> tuple[int | None, int | None]:
        """Return the axis of time in the input, and the number of time steps."""
        shape, loop = primary(self.example).shape, self.loop.value
        if loop is not None:
            return (loop.axis if loop.steps is None else None), loop.steps or shape[loop.axis]
        if batch_axis == 1:
            return 0, shape[0]
        # The shapes of taps are those of the passes, whose example may have other lengths.
        passed = primary(self.probe.base.example).shape
        if len(shape) > 2 and any(tap.time_axis == 1 and tap.shape[1] == passed[1] for tap in taps):
            return 1, shape[1]
        # A tap may lie where time has been summed already, so the longest counts.
        calls = next((tap.calls for tap in taps if tap.calls > 1), None)
        lengths = (tap.shape[tap.time_axis] for tap in taps if tap.time_axis is not None)
        return None, calls or max(lengths, default=None)


def infer_call(
    network: nn.Module,
    example: Any,
    *,
    loop: Loop,
    batch_axis: int | str,
    reset: Reset | str | None,
    samples: int | None,
    classes: int | None = None,
    extract: Extract | None = None,
) -> Call:
    """Infer how a network is called and reset.

    Raises:
        ValueError: an answer remains open, or the network cannot be inspected.
    """
    if not isinstance(loop, int) and loop not in ("auto", "network", "input"):
        raise ValueError(f"loop must be 'auto', 'network', 'input' or a number of time steps, got {loop!r}")
    if isinstance(network, Shortcut):
        raise ValueError("the network is wrapped already: pass its .network, after .strip() has removed the branches")
    if isinstance(network, torch.jit.ScriptModule):
        raise ValueError("a scripted or traced network has no submodules to tap: pass the network it was made from")
    example = example_of(network, example)
    if any(not tensor.isfinite().all() for tensor in tensors_in(example) if tensor.is_floating_point()):
        raise ValueError("the example has NaN or infinite values: pass example=... as a batch of finite data")
    adapters = adapters_of(network)
    # The network may have been called before, so it is reset as far as a reset is known.
    known_reset = library_reset(adapters) if isinstance(reset, str) else reset
    inference = TimeLoopInference(network, adapters, example, batch_axis, known_reset, samples, classes, extract)
    time_loop, probe = inference.infer(loop)
    check_layers_exist(probe)
    found_reset, probe = infer_reset(probe, adapters, reset)
    return Call(network, example, adapters, time_loop, found_reset, probe)


def _number_of_classes(labels: Tensor | None, num_classes: int | None) -> int | None:
    """Return the number of classes, or of numbers, that the labels have."""
    if num_classes is not None or labels is None or not labels.numel():
        return num_classes
    return labels.shape[-1] if labels.is_floating_point() else int(labels.max()) + 1
