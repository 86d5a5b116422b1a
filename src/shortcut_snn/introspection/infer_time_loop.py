"""Inference of the time loop: one call takes the whole batch, or one call takes one time step.

1. A loop that the caller passes is taken as it is.
2. Neurons of a known library say whether they compute one time step per call. Such a network is looped over the axis
   that does not hold the known number of samples, unless it calls its neurons several times itself.
3. A network without known neurons is called once, if no state outlives the call. Otherwise the caller is asked.

A step may take back the state that it returned, as arguments. The loop passes it on where that is certain (see
:class:`StepArguments`); otherwise the caller is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .._utils.calls import Reset, inputs_of, map_tensors, primary, signature_of
from ..method import TimeLoop
from ..method.layout import Readout, entries
from ..method.taps import Extract
from .adapters import Adapter, find_adapters
from .answer import Answer, OpenQuestion
from .infer_reset import changed_attributes, check_layers_exist, leaks
from .neurons import single_step_neurons
from .outputs import tensors_of
from .perturb import counts, varied
from .probe import Probe, Run

Loop = Literal["auto", "network", "input"] | int
WRAPPER = """
    class Wrapper(torch.nn.Module):
        def __init__(self, net): super().__init__(); self.net = net
        def forward(self, x): return {call}"""


def written(answer: TimeLoop | Readout) -> str:
    """Return a loop or a readout as Python text."""
    values = [f"{one.name}={value!r}" for one in fields(answer) if (value := getattr(answer, one.name)) != one.default]
    return f"{type(answer).__name__}({', '.join(values)})"


class StepArguments:
    """The arguments of a network that may be called step by step."""

    def __init__(self, network: nn.Module, example: Any) -> None:
        args, kwargs = inputs_of(network, map_tensors(varied, example))
        self.signature = signature_of(network)
        self.values: dict[str, Any] = dict(self.signature.bind_partial(*args, **kwargs).arguments)
        self.batch = next((name for name, value in self.values.items() if isinstance(value, Tensor)), None)
        """The name of the batch; None if it is not a tensor."""
        self._states = [adapter.state for adapter in find_adapters(network) if adapter.state]

    @property
    def flags(self) -> list[str]:
        """The Boolean arguments, which are the same in every step."""
        named = [part for value in self.values.values() if isinstance(value, dict) for part in value.items()]
        return [name for name, value in [*self.values.items(), *named] if isinstance(value, bool)]

    @cached_property
    def free(self) -> dict[str, bool]:
        """The arguments that may be a state, tensors after the batch or without a value; and whether one needs it."""
        free = {}
        for name, parameter in self.signature.parameters.items():
            default = None if parameter.default is parameter.empty else parameter.default
            leaves = tree_leaves(self.values.get(name, default))
            is_named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if is_named and self.batch not in (None, name) and all(v is None or isinstance(v, Tensor) for v in leaves):
                free[name] = parameter.default is parameter.empty and name not in self.values
        return free

    def loop(self, axis: int, steps: int | None = None) -> TimeLoop:
        """Return the loop over an axis, or over a static batch."""
        # An argument that the example lacks can only be state, and so is that of a library's convention.
        carry = [name for name, is_needed in self.free.items() if is_needed or name in self._states]
        return TimeLoop(steps, tuple(carry), axis, () if steps else self._sequences(axis))

    def _sequences(self, axis: int) -> tuple[str, ...]:
        """Return the arguments that have samples and time as the batch does, or a number for each time step."""
        sizes: tuple[int, ...] = () if self.batch is None else tuple(self.values[self.batch].shape[:2])

        def is_sequence(value: Any) -> bool:
            if not isinstance(value, Tensor) or len(sizes) < 2:
                return False
            numbers = value.shape == sizes[axis : axis + 1]
            # As many samples as time steps may be told from these by their numbers.
            return value.shape[:2] == sizes or (numbers and (len(set(sizes)) > 1 or counts(value)))

        return tuple(name for name, value in self.values.items() if name != self.batch and is_sequence(value))

    def possible_state(self, output: Any, loop: TimeLoop | None = None) -> tuple[str, ...]:
        """Return the arguments that may receive the previous call's output: entries after the first, or of a name.

        Sequences of a loop are none of these, and a loop that carries a state leaves no other.
        """
        if loop is not None and loop.carry:
            return ()
        names = tuple(name for name in self.free if loop is None or name not in loop.sequences)
        if isinstance(output, tuple | list):
            return names if len(output) > 1 else ()
        return tuple(name for name in names if not isinstance(output, Tensor) and name in entries(output))


@dataclass(frozen=True)
class TimeLoopInference:
    """The inference of the time loop, from what is known so far of batch axis, reset and number of samples."""

    network: nn.Module
    adapters: list[Adapter]
    example: Any
    batch_axis: int | str
    reset: Reset | None
    samples: int | None
    extract: Extract | Mapping[str, Extract] | None
    _probes: dict[Any, Probe] = field(default_factory=dict)

    def infer(self, loop: Loop | TimeLoop) -> tuple[Answer[TimeLoop | None], Probe]:
        """Return the loop, None if one call takes the whole batch; and a probe that calls the network in this way."""
        if isinstance(loop, TimeLoop):
            answer: Answer[TimeLoop | None] = Answer(loop, "your loop")
        elif loop == "network":
            answer = Answer(None, "loop='network'")
        elif loop != "auto":
            answer = Answer(self._loop_by_convention(loop if isinstance(loop, int) else None), f"loop={loop!r}")
        else:
            error = self._error(None)
            answer = self._after_whole_call() if error is None else self._after_refused_call(error)
        if answer.value is not None and self._arguments.flags:
            raise OpenQuestion(
                f"every time step of {self._name} gets the same {self._arguments.flags[0]!r}: pass a module that loops:"
                + WRAPPER.format(call="torch.stack([self.net(step, ...) for step in x])")
            )
        error = self._error(answer.value)
        if error is not None:
            raise self._refusal(error) from error
        if answer.value is not None and not isinstance(loop, TimeLoop):
            self._check_state(answer.value)
        return answer, self._probe(answer.value)

    @property
    def _name(self) -> str:
        return type(self.network).__name__

    @property
    def _shape(self) -> tuple[int, ...]:
        return tuple(primary(self.example).shape)

    def _probe(self, run: Run | None) -> Probe:
        if run not in self._probes:
            self._probes[run] = Probe(
                self.network, self.example, run, self.reset, samples=self.samples, extract=self.extract
            )
        return self._probes[run]

    def _error(self, run: Run | None) -> Exception | None:
        """Return the error that the network raises for the example, called in this way; None for none."""
        try:
            self._probe(run).base  # noqa: B018 - this runs the pass
        except Exception as error:  # Whatever the network raises.
            return error
        return None

    def _accepts(self, run: Run | None) -> bool:
        return self._error(run) is None

    @cached_property
    def _arguments(self) -> StepArguments:
        return StepArguments(self.network, self.example)

    def _loop_by_convention(self, steps: int | None = None) -> TimeLoop:
        """Return the loop over ``[T, N, ...]``, or over ``[N, T, ...]`` if the caller says that samples come first."""
        return self._arguments.loop(1 if self.batch_axis == 0 and steps is None else 0, steps)

    def _check_state(self, loop: TimeLoop) -> None:
        """Ask about arguments that may receive what the previous step returned."""
        probe = self._probe(loop)
        if state := self._arguments.possible_state(probe.base.output, loop):
            raise OpenQuestion(
                f"a time step of {self._name} may take back what the step before returned, as {', '.join(state)}: "
                f"pass loop=shortcut_snn.{written(replace(loop, carry=state))} if these are its state, its last "
                f"outputs, or loop=shortcut_snn.{written(loop)} if it has none",
                provisional=probe,
            )

    def _after_whole_call(self) -> Answer[TimeLoop | None]:
        """Return the answer for a network that takes the example as a whole."""
        probe = self._probe(None)
        check_layers_exist(probe)
        events, libraries = probe.base.events, " and ".join(adapter.name for adapter in self.adapters)
        stepped = [name for name in single_step_neurons(self.network) if name in events]
        if self.adapters and not stepped:
            return Answer(None, f"its {libraries} neurons take whole sequences")
        if not self.adapters:
            stepped = [name for name in dict.fromkeys(name for name, _ in changed_attributes(probe)) if name in events]
            if not leaks(probe, None) and not self._may_be_a_step():
                return Answer(None, "it takes the example and keeps no state")
        if self._calls(stepped) > 1:
            return Answer(None, "it calls its neurons several times itself")
        if self.adapters and (loop := self._loop_by_samples()):
            return Answer(loop, "neurons compute one time step per call, and the other axis has the known samples")
        raise self._question()

    def _may_be_a_step(self) -> bool:
        """Return whether a call may receive what the previous call returned, and does not loop over time itself."""
        # Two axes of numbers are samples and features. Two axes of words are treated alike, if one is not time.
        probe, sequence = self._probe(None), len(self._shape) > 2 or not primary(self.example).is_floating_point()
        if len(self._shape) < 2 or not self._arguments.possible_state(probe.base.output):
            return False
        return not sequence or all(_is_independent_along(probe, axis) for axis in (0, 1))

    def _calls(self, neurons: list[str]) -> int:
        """Return how often a pass calls a neuron. It may call it once more before the first step, to warm it up."""
        probe = self._probe(None)
        again = probe.observe(network=probe.used())
        return min(max((done.events[n].calls for n in neurons if n), default=1) for done in (probe.base, again))

    @property
    def _loops(self) -> list[TimeLoop]:
        """The loops over an axis of the example that may be time."""
        return [self._arguments.loop(axis) for axis in (0, 1)] if len(self._shape) > 2 else []

    def _loop_by_samples(self) -> TimeLoop | None:
        """Return the loop over the axis that is not that of samples, if this is known and each step stands alone."""
        loops = list(filter(self._accepts, self._with_known_samples(self._loops)))
        return loops[0] if len(loops) == 1 and _is_independent_along(self._probe(None), loops[0].axis) else None

    def _with_known_samples(self, loops: list[TimeLoop]) -> list[TimeLoop]:
        """Return the loops that leave the known batch axis, or the known number of samples, to the network."""
        if self.batch_axis != "auto":
            return [loop for loop in loops if 1 - loop.axis == self.batch_axis]
        return [loop for loop in loops if self._shape[1 - loop.axis] == self.samples]

    def _question(self) -> OpenQuestion:
        """Return the question for the loop; the provisional answer is that there is one."""
        ways = ["loop=4, say, to show a static batch for 4 time steps"]
        loops = list(filter(self._accepts, self._loops))
        if loops:
            ways.insert(0, "loop='input' to step through a sequence [T, N, ...] (and batch_axis=0 for [N, T, ...])")
        once = "'network'" if self._accepts(None) else "1"
        computes = (
            "computes one time step" if self.adapters else "keeps or takes back state, so it may compute one step"
        )
        runs: list[Run | None] = [*loops, self._loop_by_convention(2), None]
        return OpenQuestion(
            f"{self._name} {computes} per call, for an example of shape {self._shape}: {self._multi_step}pass "
            f"{', '.join(ways)}, or loop={once} if one call is all",
            provisional=self._probe(next(run for run in runs if self._accepts(run))),
        )

    def _after_refused_call(self, error: Exception) -> Answer[TimeLoop | None]:
        """Return the answer for a network that raised ``error`` on the example."""
        if any(adapter.advice(self.network) for adapter in self.adapters):
            raise self._refusal(error) from error
        loops = list(filter(self._accepts, self._loops))
        if not loops and self._arguments.free and self._accepts(self._loop_by_convention(2)):
            raise self._question() from error
        if not loops:
            raise self._refusal(error) from error
        if not single_step_neurons(self.network) and not loops[0].carry:
            raise OpenQuestion(
                f"{self._name} does not take the example, of shape {self._shape}, as a whole ({error}), but takes its "
                "time steps: pass loop='input' for [T, N, ...], and batch_axis=0 too for [N, T, ...]",
                provisional=self._probe(loops[0]),
            ) from error
        if self.batch_axis != "auto" or self.samples is not None:
            loops = self._with_known_samples(loops)
        if len(loops) != 1:
            raise OpenQuestion(
                f"{self._name} computes one time step per call, and either of the first axes of the example, of shape "
                f"{self._shape}, may be time: pass batch_axis=1 if it is [T, N, ...], batch_axis=0 if it is [N, T, ...]"
            ) from error
        return Answer(loops[0], "it takes single time steps, not the whole example")

    def _refusal(self, error: Exception) -> ValueError:
        """Return the error for a network that does not take the example, with what may help."""
        arguments, _ = inputs_of(self.network, self.example)
        if isinstance(self.example, list | tuple) and arguments[0] is self.example:
            return ValueError(
                f"{self._name} takes one input, but the batch is a {type(self.example).__name__} of "
                f"{len(self.example)}: pass the input alone, without labels; stack a list of time steps"
            )
        causes = []
        given, dtypes = primary(self.example).dtype, {each.dtype for each in self.network.parameters()}
        if given.is_floating_point and dtypes and given not in dtypes:
            causes.append(
                f"the example is {given}, the network {', '.join(sorted(map(str, dtypes)))}: convert one of them"
            )
        if "uint8" in str(given):
            causes.append("the example has uint8 values: pass example.float() / 255, as in training")
        causes += [adapter.advice(self.network) for adapter in self.adapters if adapter.advice(self.network)]
        if not causes:
            causes.append(
                f"{self._multi_step}pass example=... as one batch in training, and reset=... or a new network if this "
                "one keeps state of an earlier call; if a call needs other arguments, or the first step does, pass a "
                f"module that makes the calls:{WRAPPER.format(call='self.net(x, ...)')}"
            )
        stepped = self._error(self._loop_by_convention()) if single_step_neurons(self.network) else None
        step = f"; and for one time step of it: {stepped}" if stepped is not None and str(stepped) != str(error) else ""
        first = next(iter(str(error).splitlines()), "")
        return ValueError(
            f"{self._name} raises {type(error).__name__} for the example, of shape {self._shape}: {first}{step}\n"
            + "\n".join(causes)
        )

    @property
    def _multi_step(self) -> str:
        """The advice to switch to multi-step mode, if a library has such a mode."""
        calls = [adapter.set_multi_step for adapter in self.adapters if adapter.set_multi_step]
        if not calls or not single_step_neurons(self.network):
            return ""
        return f"call {calls[0]} before, if the network takes a whole sequence [T, N, ...]; or else "


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
