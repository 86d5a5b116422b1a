"""The layout of a network, inferred question by question: time loop, reset, batch axis, readout, taps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._utils.calls import Reset, copy_network, example_of, primary, tensors_in
from ..method import Layout, Readout, Shortcut, Tap, TimeLoop
from ..method.taps import Extract, batch_of
from .adapters import Adapter, find_adapters, library_reset
from .answer import Answer, OpenQuestion, ask, collecting
from .infer_batch_axis import infer_batch_axis
from .infer_readout import Question, infer_readout
from .infer_reset import changed_attributes, check_layers_exist, infer_reset
from .infer_taps import TapInference
from .infer_time_loop import Loop, TimeLoopInference, written
from .probe import Probe


def introspect(
    network: nn.Module,
    example: Any,
    *,
    taps: str | int | Sequence[str] = "auto",
    labels: Tensor | None = None,
    num_classes: int | None = None,
    loop: Loop | TimeLoop = "auto",
    batch_axis: int | str = "auto",
    time_axis: Any = "auto",
    channel_axis: Any = "auto",
    extract: Extract | Mapping[str, Extract] | None = None,
    readout: Callable[[Any], Any] | str | None = "auto",
    step_axis: int | Literal["auto"] | None = "auto",
    reset: Reset | str | None = "auto",
    samples: int | None = None,
) -> Layout:
    """Infer the layout of a network by forward passes through copies of it.

    Conventions of known libraries are facts. Passes check them, and what the caller says. What is not certain is asked
    for in one error. The arguments are those of :func:`shortcut_snn.attach`.

    Raises:
        OpenQuestion: answers remain open; the message names the arguments to pass.
        ValueError: the network or its arguments cannot serve.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> layout = introspect(network, torch.rand(2, 4), taps=["1"])
        >>> layout.batch_axis, layout.num_classes, [tap.channels for tap in layout.taps]
        (0, 3, [5])
    """
    if not isinstance(labels, Tensor | None):
        raise TypeError(
            f"labels must be a tensor, got {type(labels).__name__}: pass labels=torch.as_tensor(labels); "
            "branches cannot predict labels that differ in shape from sample to sample, such as boxes"
        )
    if samples is None and labels is not None and not _begin_with_steps(labels, primary(example_of(network, example))):
        samples = len(labels)
    options: dict[str, Any] = {"loop": loop, "batch_axis": batch_axis, "reset": reset, "extract": extract}
    call = infer_call(network, example, samples=samples, **options)
    questions, layout = list(call.questions), None
    with collecting(questions):
        axis, along = infer_batch_axis(call.probe, batch_axis=batch_axis, samples=samples)
        prediction, tapped = Answer(Layout(), ""), Answer[tuple[Tap, ...]]((), "")
        with collecting(questions), batch_of(along.length):
            prediction = infer_readout(Question(along, labels, num_classes, step_axis), readout)
        if isinstance(provisional := questions[-1].provisional if questions else None, Answer):
            prediction = provisional
        # Places follow from the loop and the reset, but not from the readout.
        if not call.questions:
            every_step = prediction.value.step_axis is not None
            inference = TapInference(along, call.probe.gradient_paths, call.neurons, every_step)
            with collecting(questions):
                tapped = inference.infer(taps, time_axis, channel_axis)
        layout = call.layout(axis, prediction, tapped) if prediction.value.num_classes else None
    ask(questions, provisional=layout)
    assert layout is not None
    return layout


def reproducing_arguments(layout: Layout) -> dict[str, str]:
    """Return the arguments of ``attach`` that state a layout, as Python text; a function is written as ``...``."""
    run, readout = layout.run, layout.readout
    arguments = {
        "taps": repr([tap.name for tap in layout.taps]),
        "loop": "'network'" if run is None else repr(getattr(run, "steps", None) or "input"),
        "batch_axis": repr("auto" if layout.batch_axis is None else layout.batch_axis),
        "readout": "...",
    }
    if readout is None or (isinstance(readout, Readout) and readout == Readout()):
        arguments["readout"] = "None"
    elif isinstance(readout, Readout) and not readout.unfold and layout.reasons.get("readout") == "your readout=...":
        arguments["readout"] = f"shortcut_snn.method.{written(readout)}"
    elif isinstance(readout, Readout):
        path = "".join(f"[{key!r}]" for key in readout.path)
        how = repr(readout.steps or "auto")
        arguments["readout"] = f"lambda output: output{path}" if readout.time_axis is None else how
    if isinstance(run, TimeLoop) and layout.reasons.get("time loop") == "your loop":
        arguments["loop"] = f"shortcut_snn.{written(run)}"
    if layout.shape is None and layout.step_axis is None:
        arguments["num_classes"] = repr(layout.num_classes)
    else:
        arguments["step_axis"] = repr(layout.step_axis)
    if layout.reasons.get("reset", "").startswith("your") or layout.reasons.get("reset") == "reset=None":
        arguments["reset"] = "None" if layout.reset is None else "..."
    return arguments


def describe(
    network: nn.Module,
    example: Any,
    *,
    loop: Loop = "auto",
    reset: Reset | str | None = "auto",
    samples: int | None = None,
) -> Layout:
    """Infer how a network is called and reset and where its samples are; the arguments are those of ``attach``."""
    call = infer_call(network, example, loop=loop, batch_axis="auto", reset=reset, samples=samples)
    ask(call.questions)
    axis, _ = infer_batch_axis(call.probe, samples=samples)
    return call.layout(axis, Answer(Layout(), ""), Answer((), ""))


@dataclass
class Call:
    """How a network is called and reset, the probe that does so from its initial state, and what remains open."""

    network: nn.Module
    example: Any
    adapters: list[Adapter]
    loop: Answer[TimeLoop | None]
    reset: Answer[Reset | None]
    probe: Probe
    questions: list[OpenQuestion]

    @cached_property
    def neurons(self) -> list[str]:
        """The names of the network's neurons: those of a library, or modules whose state a pass changes."""
        names = [name for adapter in self.adapters for name in adapter.neurons(self.network)]
        if names or self.reset.value is None:
            return names
        stateful = {name for name, _ in changed_attributes(self.probe) if name in self.probe.base.events}
        names = [name for name, _ in nn.Module.named_modules(self.probe.initial) if name and name in stateful]
        # The innermost: what holds a neuron may count its calls.
        return [name for name in names if not any(other.startswith(f"{name}.") for other in names)]

    def layout(self, axis: Answer[int], prediction: Answer[Layout], taps: Answer[tuple[Tap, ...]]) -> Layout:
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
        return replace(
            prediction.value,
            library=libraries or ("neurons of its own" if self.neurons else "plain PyTorch"),
            run=self.loop.value,
            reset=self.reset.value,
            batch_axis=axis.value,
            time_axis=time_axis,
            time_steps=steps,
            taps=taps.value,
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


def with_remedy(refusal: ValueError) -> ValueError:
    """Return an error of inference for a function without the arguments of ``attach`` that its message may name."""
    remedy = " (of attach: in place of the network, pass attach(network, [], ...))" if "=" in str(refusal) else ""
    return ValueError(f"{refusal}{remedy}")


def infer_call(
    network: nn.Module,
    example: Any,
    *,
    loop: Loop | TimeLoop,
    batch_axis: int | str,
    reset: Reset | str | None,
    samples: int | None,
    extract: Extract | Mapping[str, Extract] | None = None,
) -> Call:
    """Infer how a network is called and reset."""
    if not isinstance(loop, int | TimeLoop) and loop not in ("auto", "network", "input"):
        raise ValueError(f"loop must be 'auto', 'network', 'input' or a number of time steps, got {loop!r}")
    if isinstance(network, Shortcut):
        raise ValueError("the network is wrapped already: pass its .network, after .strip() has removed the branches")
    if isinstance(network, torch.jit.ScriptModule):
        raise ValueError("a scripted or traced network has no submodules to tap: pass the network it was made from")
    example = example_of(network, example)
    if any(not tensor.isfinite().all() for tensor in tensors_in(example) if tensor.is_floating_point()):
        raise ValueError("the example has NaN or infinite values: pass example=... as a batch of finite data")
    shapes = {one.shape for one in tensors_in(example)} if isinstance(example, list) else set()
    if len(shapes) > 1 == len({shape[1:] for shape in shapes}):
        raise ValueError(
            "the example is a list of tensors of different lengths: pass a network that accepts one padded tensor"
        )
    try:
        copy_network(network)
    except Exception as error:  # Whatever the network raises.
        raise ValueError(
            f"{type(network).__name__} cannot be copied, which attach needs: copy.deepcopy(net) raises "
            f"{type(error).__name__}: {error}"
        ) from error
    adapters = find_adapters(network)
    # The network may have been called before, so it is reset as far as a reset is known.
    known_reset = library_reset(adapters) if isinstance(reset, str) else reset
    inference = TimeLoopInference(network, adapters, example, batch_axis, known_reset, samples, extract)
    questions: list[OpenQuestion] = []
    try:
        time_loop, probe = inference.infer(loop)
    except OpenQuestion as question:
        if question.provisional is None:
            raise
        questions.append(question)
        probe = question.provisional
        time_loop = Answer(probe.run, "")
    with collecting(questions):
        check_layers_exist(probe)
        inferred_reset: Answer[Reset | None] = Answer(None, "")
        with collecting(questions):
            inferred_reset = infer_reset(probe, adapters, reset)
    return Call(network, example, adapters, time_loop, inferred_reset, probe, questions)


def _begin_with_steps(labels: Tensor, example: Tensor) -> bool:
    """Return whether labels have the first two axes of the example, so that their first one may be time."""
    # Two axes of numbers are samples and features.
    is_sequence = example.dim() > (2 if example.is_floating_point() else 1)
    return labels.dim() > 1 and is_sequence and sorted(labels.shape[:2]) == sorted(example.shape[:2])
