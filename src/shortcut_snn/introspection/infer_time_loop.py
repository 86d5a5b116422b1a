"""Inference of the time loop: one call takes the whole batch, or one call takes one time step.

1. A loop that the caller passes is taken as it is.
2. The network takes the example as a whole. One call is enough, unless its neurons compute one time step per call and
   are called once. Then the axis of time is the one that does not have the known number of samples, if perturbing a
   step changes the output at this step alone.
3. The network does not take the example as a whole. It is looped if it takes single steps and keeps state between
   them.

A step may return its state and take it back as arguments. The loop then passes it on (see :mod:`.step_arguments`).

Whatever remains open raises an error that names the argument to pass.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median_low
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._utils.calls import Reset, copy_network, inputs_of, map_tensors, primary
from ..method import Extract, TimeLoop
from .adapters import Adapter
from .answer import Answer, OpenQuestion
from .infer_batch_axis import Samples
from .infer_reset import (
    changed_attributes,
    check_layers_exist,
    describe_state,
    keeps_state,
    leaks,
    leftover_state,
    reset_methods,
)
from .layers import is_layer
from .neurons import single_step_neurons
from .outputs import tensors_of
from .probe import CALL_ERRORS, Probe, Run
from .recorder import named_modules
from .step_arguments import StepArguments

Loop = Literal["auto", "network", "input"] | int


@dataclass
class TimeLoopInference:
    """The inference of the time loop, and the facts that its steps share; ``reset`` is one that is known so far."""

    network: nn.Module
    adapters: list[Adapter]
    example: Any
    batch_axis: int | str
    reset: Reset | None
    samples: int | None
    classes: int | None
    extract: Extract | None
    _probes: dict[Any, Probe] = field(default_factory=dict)

    def infer(self, loop: Loop) -> tuple[Answer[TimeLoop | None], Probe]:
        """Return the loop, None if one call takes the whole batch; and a probe that calls the network in this way."""
        reset, whole = self.reset, self._probe(None, self.reset)
        if loop == "network":
            return Answer(None, "loop='network'"), whole
        if loop != "auto":
            looped = self._with_state(self._loop_by_convention(loop if isinstance(loop, int) else None), reset)
            return Answer(looped, f"loop={loop!r}"), self._probe(looped, reset)
        try:
            whole.base  # noqa: B018 - this runs the pass
        except CALL_ERRORS as error:
            answer, reset = self._after_refused_call(error)
        else:
            check_layers_exist(whole)
            answer = self._after_whole_call(whole)
        if answer.value is not None:
            answer = replace(answer, value=self._with_state(answer.value, reset))
        return answer, self._probe(answer.value, reset)

    @property
    def _name(self) -> str:
        return type(self.network).__name__

    @property
    def _shape(self) -> tuple[int, ...]:
        return tuple(primary(self.example).shape)

    def _probe(self, run: Run | None, reset: Reset | None) -> Probe:
        # By identity, since a reset need not be hashable.
        key = run, id(reset)
        if key not in self._probes:
            known: dict[str, Any] = {"samples": self.samples, "classes": self.classes, "extract": self.extract}
            self._probes[key] = Probe(self.network, self.example, run, reset, **known)
        return self._probes[key]

    def _accepts(self, run: Run | None, reset: Reset | None) -> bool:
        """Return whether the network takes the example in this way."""
        with suppress(*CALL_ERRORS):
            return self._probe(run, reset).base is not None
        return False

    @cached_property
    def _arguments(self) -> StepArguments:
        return StepArguments(self.network, self.example)

    def _loop_by_convention(self, steps: int | None = None) -> TimeLoop:
        """Return the loop over ``[T, N, ...]``, or over ``[N, T, ...]`` if the caller says that samples come first."""
        return self._arguments.loop(1 if self.batch_axis == 0 and steps is None else 0, steps)

    def _with_state(self, loop: TimeLoop, reset: Reset | None) -> TimeLoop:
        """Return the loop in which a step takes back the state that the step before returned."""
        fresh = self._probe(loop, reset).fresh
        return self._arguments.with_state(loop, fresh, lambda carrying: self._accepts(carrying, reset))

    # The network takes the example as a whole

    def _after_whole_call(self, probe: Probe) -> Answer[TimeLoop | None]:
        """Return the answer for a network that takes the example as a whole."""
        neurons = list(single_step_neurons(self.network))
        if not self.adapters:
            names = (name for name, _ in changed_attributes(probe) if name in probe.base.events)
            neurons = [name for name in dict.fromkeys(names) if name]
            if not neurons and not self._takes_steps(probe):
                return Answer(None, "it takes the example and keeps no state")
            if not neurons:
                return self._loop_by_samples(probe)
        steps = self._calls_per_pass(probe, neurons)
        if not steps:
            libraries = " and ".join(adapter.name for adapter in self.adapters)
            return Answer(
                None, f"its {libraries} neurons take whole sequences" if libraries else "it takes the example"
            )
        if steps > 1:
            return Answer(None, f"it calls its neurons {steps} times itself")
        if not self.adapters and any(_goes_through_time(probe, name) for name in neurons):
            return Answer(None, "one call of its neurons goes through time")
        fire = not self.adapters or self._all_fire(probe, neurons)
        if fire and not (leaks(probe, None) or keeps_state(probe) or self._takes_steps(probe)):
            return Answer(None, "it takes the example and keeps no state")
        return self._loop_by_samples(probe)

    def _all_fire(self, probe: Probe, neurons: list[str]) -> bool:
        """Return whether state that a call left would show in the next one."""
        features = (Samples(probe, 0).features(name) for name in neurons)
        return all(bool(calls) and calls[0] is not None and bool(calls[0].any()) for calls in features)

    def _takes_steps(self, probe: Probe) -> bool:
        """Return whether a call takes back the state that it returns, and does not go through time itself."""
        # Two axes of numbers are samples and features. Two axes of words are treated alike, if one is not time.
        sequence = len(self._shape) > 2 or not primary(self.example).is_floating_point()
        return (
            bool(self._arguments.free)
            and len(self._shape) > 1
            and (not sequence or all(_is_independent_along(probe, axis) for axis in (0, 1)))
            and bool(self._with_state(self._loop_by_convention(None if sequence else 2), self.reset).carry)
        )

    def _loop_by_samples(self, probe: Probe) -> Answer[TimeLoop | None]:
        """Return the loop over the axis that does not have the known number of samples."""
        axis = self._time_axis_by_samples(probe)
        if axis is not None and self._accepts(self._arguments.loop(axis), self.reset):
            reason = "neurons compute one time step per call, and the other axis has the known samples"
            return Answer(self._arguments.loop(axis), reason)
        raise OpenQuestion(self._question_about_steps())

    def _calls_per_pass(self, probe: Probe, neurons: list[str]) -> int:
        """Return how often a pass calls most neurons, or its layers; 0 if it calls no neuron.

        One neuron may be shared by several layers, or be called once more before the first step, to warm it up.
        """
        events = probe.base.events
        calls = [events[name].calls for name in neurons if name in events]
        if not calls or max(calls) == 1:
            return len(calls[:1])
        modules = dict(named_modules(probe.initial))
        layers = max((event.calls for name, event in events.items() if is_layer(modules[name])), default=1)
        if layers > 1:
            return max(calls)
        # A second call without a reset is not warmed up.
        again = probe.observe(network=probe.used()).events
        return median_low(again[name].calls for name in neurons if name in again)

    def _time_axis_by_samples(self, probe: Probe) -> int | None:
        """Return the axis that is not the known batch axis, if perturbing a step there changes this step alone."""
        if self.batch_axis != "auto":
            axes = [axis for axis in (0, 1) if 1 - axis == self.batch_axis]
        else:
            axes = [axis for axis in (0, 1) if len(self._shape) > 1 and self._shape[1 - axis] == self.samples]
        if len(self._shape) < 3 or len(axes) != 1 or not _is_independent_along(probe, axes[0]):
            return None
        return axes[0]

    def _question_about_steps(self) -> str:
        ways = ["loop=4, say, to show a static batch for 4 time steps"]
        axes = (0, 1) if len(self._shape) > 2 else ()
        if any(self._accepts(self._arguments.loop(axis), self.reset) for axis in axes):
            ways.insert(
                0, "loop='input' if the batch is a sequence [T, N, ...] (and batch_axis=0 too if it is [N, T, ...])"
            )
        mode = self._multi_step_call(self.reset)
        once = "'network'" if self._accepts(None, self.reset) else "1"
        first = f"call {mode} before, if the network takes a whole sequence [T, N, ...], or else " if mode else ""
        return (
            f"{self._name} calls its neurons once for the example, of shape {self._shape}, and they compute one time "
            f"step per call: {first}pass {', '.join(ways)}, or loop={once} if one call is all"
        )

    # The network does not take the example as a whole

    def _after_refused_call(self, error: Exception) -> tuple[Answer[TimeLoop | None], Reset | None]:
        """Return the answer, and a reset that the call needs, for a network that raised ``error`` on the example."""
        if primary(self.example).dtype == torch.uint8:
            floating = replace(self, example=map_tensors(Tensor.float, self.example), _probes={})
            if floating._accepts(None, self.reset) or floating._accepts(floating._loop_by_convention(), self.reset):
                raise ValueError(
                    f"{self._name} does not take the example, of uint8 values ({error}): pass example.float() / 255, "
                    "as in training"
                ) from error
        looped = self._loop_by_convention()
        stepwise = bool(single_step_neurons(self.network) or looped.carry)
        resets = [self.reset, *(method for method, _ in reset_methods(self.network))]
        for reset in resets if len(self._shape) > 2 else ():
            if self._accepts(looped, reset):
                return self._loop_that_works(looped, reset, stepwise, error), reset
        if len(self._shape) < 3 and looped.carry and self._accepts(self._loop_by_convention(2), self.reset):
            raise OpenQuestion(self._question_about_steps()) from error
        arguments, _ = inputs_of(self.network, self.example)
        # Some networks do take a list as their one input, so this is no answer until all calls have failed.
        listed = isinstance(self.example, list | tuple) and arguments[0] is self.example
        if stepwise:
            if mode := self._multi_step_call(self.reset):
                raise ValueError(
                    f"{self._name} does not take the example, of shape {self._shape}, with single-step neurons "
                    f"({error}), but does with multi-step neurons: call {mode} before"
                ) from error
            try:
                self._probe(looped, self.reset).base  # noqa: B018 - this runs the pass
            except CALL_ERRORS as of_step:
                if not listed:
                    raise ValueError(
                        f"{self._name} raises an error for the example, of shape {self._shape}: {error}; and another "
                        f"one for one time step of it: {of_step}"
                    ) from error
            else:
                return Answer(looped, "its neurons compute one time step per call"), self.reset
        for reset in resets[1:]:
            if self._accepts(None, reset):
                return Answer(None, "it takes the example after a reset"), reset
        if listed:
            raise ValueError(
                f"{self._name} takes one input, but the batch is a {type(self.example).__name__} of "
                f"{len(self.example)}: pass the input alone, without labels; stack a list of time steps. The network's "
                f"own error: {error}"
            ) from error
        if state := leftover_state(self.network):
            raise ValueError(
                f"{error}; {describe_state(self.network, state)}, which may be why: pass reset=..., a function that "
                "resets the network, or a network that has not been called yet"
            ) from error
        raise error

    def _loop_that_works(
        self, looped: TimeLoop, reset: Reset | None, stepwise: bool, error: Exception
    ) -> Answer[TimeLoop | None]:
        if not stepwise and not changed_attributes(self._probe(looped, reset)):
            raise OpenQuestion(
                f"{self._name} does not take the example, of shape {self._shape}, as a whole, but takes its steps one "
                "by one: pass loop='input' if it is a sequence [T, N, ...], and batch_axis=0 too if it is [N, T, ...]"
            ) from error
        reason = "it takes single time steps, not the whole example"
        if self.batch_axis != "auto":
            return Answer(looped, reason)
        return Answer(self._loop_over_known_axis(reset), reason)

    def _loop_over_known_axis(self, reset: Reset | None) -> TimeLoop:
        """Return the loop over the axis that is not that of samples; perturbations cannot tell the two apart."""
        loops = [self._arguments.loop(axis) for axis in (0, 1) if self.samples in (None, self._shape[1 - axis])]
        loops = [loop for loop in loops if self._accepts(loop, reset)]
        if len(loops) != 1:
            raise OpenQuestion(
                f"{self._name} computes one time step per call, and either of the first axes of the example, of shape "
                f"{self._shape}, may be time: pass batch_axis=1 if it is [T, N, ...], batch_axis=0 if it is [N, T, ...]"
            )
        return loops[0]

    def _multi_step_call(self, reset: Reset | None) -> str | None:
        """Return the call that switches to multi-step mode, if the network takes the example in that mode."""
        for adapter in self.adapters:
            if adapter.set_multi_step is not None and primary(self.example).dim() > 2:
                twin = copy_network(self.network)
                adapter.set_multi_step(twin)
                if replace(self, network=twin, _probes={})._accepts(None, reset):
                    return adapter.set_multi_step_call
        return None


def _is_independent_along(probe: Probe, axis: int) -> bool:
    """Return whether altering one index of an axis of the example changes the output at this index alone."""
    changed = False
    for index in (0, primary(probe.base.example).shape[axis] - 1):
        done = probe.altered(axis, index)
        for path in tensors_of(probe.base.output):
            indices = probe.changes_of_output(path, done)
            if indices is not None and (len(indices) <= axis or not indices[axis] <= {index}):
                return False
            changed |= indices is not None
    return changed


def _goes_through_time(probe: Probe, name: str) -> bool:
    """Return whether one call of a module takes several time steps.

    Its output then has an axis that the example lacks, or time steps and samples in one axis; or early indices of the
    example change late ones of its output, and not the reverse.
    """
    example, shape = primary(probe.base.example), probe.base.events[name].shape
    if shape is None or len(shape) > example.dim():
        return shape is not None
    if any(axis.merged for axis in Samples(probe, 0).axes_of_module(name) or []):
        return True
    for axis, size in enumerate(example.shape[: min(2, len(shape))]):
        first, last = (probe.altered(axis, index).changes.get(name) for index in (0, size - 1))
        if first is None or last is None or shape[axis] != size:
            continue
        if last[axis] <= {size - 1} and first[axis] - {0}:
            return True
    return False
