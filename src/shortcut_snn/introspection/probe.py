"""Probe: forward passes through copies of a network, and what differs between them.

All questions are answered by the same few passes, each of which is run once, when it is first needed:

* the base pass, of the example with a few samples;
* passes with one sample, or one time step, of the example altered;
* two passes in which every layer gives what it gave in the base pass, except for one channel;
* a pass in training mode, whose graph shows which weights a branch would train (:class:`GradientPaths`).

Networks often spike too little to show a perturbation: at initialisation, on random inputs, or with a zero-initialised
norm. The probe therefore scales what layers give, channel by channel, so that neurons after them spike now and then.
It also scales the inputs of modules that rarely fire in spite of that, as after a product of small numbers.
The scaling is learned in the base pass and is the same in all others, so that passes can be compared.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import Reset, call_on, copy_network, eager, evaluation, map_tensors, tensors_in
from .._utils.random_state import seeded
from ..method.taps import Extract, first_tensor, tensor_in
from .layers import Gains, is_layer, unsilence
from .outputs import tensors_of
from .perturb import Changed, alter, changed_indices, small_examples, varied
from .recorder import Edit, Pass, Recorder, one_channel

Run = Callable[..., Any]
CALL_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError, KeyError)
"""What a network raises that is called with an input of another form than it takes."""


class GradientPaths:
    """The autograd graph of a pass in training mode, and the nodes at which modules end."""

    def __init__(self, network: nn.Module) -> None:
        trained = [p for p in nn.Module.parameters(network) if p.requires_grad]
        # A threshold or a decay alone is not worth a branch.
        self._weights = set(map(id, [p for p in trained if p.dim() > 1] or trained))
        self.shapes: dict[str, tuple[int, ...]] = {}
        """By module, the shape of its features in the first call."""
        self.output: Any = None
        """What the network returned."""
        self._nodes: dict[str, list[Any]] = {}
        self.trains = cache(self._trains)
        """Returns whether a gradient comes from a module's output to weights; yes in a network without any."""

    def add(self, name: str, features: Any) -> None:
        """Add a call of a module. A later operation in place gives the tensor another node, so nodes are kept."""
        if isinstance(features, Tensor):
            self.shapes.setdefault(name, tuple(features.shape))
            nodes = [tensor.grad_fn for tensor in tensors_in(features) if tensor.grad_fn is not None]
            self._nodes.setdefault(name, []).extend(nodes)

    def _trains(self, name: str) -> bool:
        reached, left = set[Any](), list(self._nodes.get(name, []))
        while left:
            node = left.pop()
            if node is not None and node not in reached:
                reached.add(node)
                left.extend(earlier for earlier, _ in node.next_functions)
        return not self._weights or any(id(getattr(node, "variable", None)) in self._weights for node in reached)


class Probe:
    """Runs examples through fresh copies of a network and records what its modules give.

    In the example, floating-point tensors of one value are replaced by random ones. ``extract`` maps a module's output
    to its features, or has such functions by modules' names.
    """

    def __init__(
        self,
        network: nn.Module,
        example: Any,
        run: Run | None,
        reset: Reset | None = None,
        *,
        samples: int | None = None,
        extract: Extract | Mapping[str, Extract] | None = None,
    ) -> None:
        self.run, self.samples = run, samples
        self.extract = None if isinstance(extract, Mapping) else extract
        self._extracts = dict(extract) if isinstance(extract, Mapping) else {}
        self.full_example = map_tensors(varied, example)
        self.initial = copy_network(network)
        """The network in its initial state, from which every pass takes a copy."""
        if reset is not None:
            reset(self.initial)
        self._gains: Gains = {}
        self.altered = cache(self._observe_altered)
        """Returns the pass with other values at one index of an axis of the example."""
        if any(nn.parameter.is_lazy(tensor) for tensor in nn.Module.parameters(self.initial)):
            # A first pass sets the shapes of lazy parameters.
            with _reproducible(self.initial):
                call_on(self.initial, run, self.full_example)
        for module in nn.Module.modules(self.initial):
            unsilence(module)

    def fresh(self) -> nn.Module:
        """Return a copy of the network in its initial state; copies share their weights."""
        shared = {id(tensor): tensor for tensor in nn.Module.parameters(self.initial)}
        duplicate: nn.Module = copy.deepcopy(self.initial, shared)
        return duplicate

    def features(self, name: str, output: Any) -> Any:
        """Return the tensor in a module's output."""
        # The caller's function is made for the tapped modules, and may fail for others.
        with suppress(*CALL_ERRORS):
            return self.extract_of(name)(output)
        return tensor_in(output)

    def extract_of(self, name: str) -> Extract:
        """Return the function that maps a module's output to its features: of potentials and spikes, the spikes."""
        if self.extract is None and name not in self._extracts:
            calls = [call if isinstance(call, tuple | list) else [] for call in self.base.outputs.get(name, [[]])]
            is_neuron = not any(map(is_layer, nn.Module.modules(self.initial.get_submodule(name))))
            spikes = [index for index, entry in enumerate(zip(*calls, strict=False)) if is_neuron and _fire(entry)]
            self._extracts[name] = itemgetter(spikes[0]) if spikes and spikes[0] else first_tensor
        return self.extract or self._extracts[name]

    # The passes

    @cached_property
    def base(self) -> Pass:
        """The pass of the example, with few samples if the network takes so few."""
        *smaller, full = small_examples(self.full_example, self.samples)
        if any(isinstance(getattr(one, "batch_size", None), int) for one in nn.Module.modules(self.initial)):
            # Other sizes would be split into samples and time steps otherwise.
            smaller = []
        for example in smaller:
            with suppress(*CALL_ERRORS):
                return self._base_pass(example)
        return self._base_pass(full)

    def used(self) -> nn.Module:
        """Return a copy of the network that has been called with other samples."""
        return self._observe_altered(0, None).network

    @cached_property
    def channel_passes(self) -> list[Pass]:
        """Two passes in which layers give what they gave in the base pass, except for one channel."""
        return [self.observe(edit=one_channel(self.base, later)) for later in (False, True)]

    @cached_property
    def gradient_paths(self) -> GradientPaths:
        """The paths of gradients in a pass in training mode."""
        network = self.fresh()
        paths = GradientPaths(network)

        def keep(name: str, output: Any) -> None:
            paths.add(name, self.features(name, output))

        try:
            recorder = Recorder(self._gains, Pass(self.base.example, network), keep)
            done = self._record(recorder, training=True, gradients=True)
        except CALL_ERRORS as error:
            raise ValueError(
                f"{type(network).__name__} takes the example in evaluation, but raises in training mode: "
                f"{str(error) or type(error).__name__}"
            ) from error
        paths.output = done.output
        self._check_early_exit([name for name in done.events if name not in self.base.events])
        return paths

    def _check_early_exit(self, names: list[str]) -> None:
        """Check that modules that are called in training alone are not called in evaluation for other values.

        Scaled layers may make a network confident, which then returns before its last layers.
        """
        unscaled = Recorder({}, Pass(self.base.example, self.fresh()), lambda *call: None)
        if names and (missed := [name for name in names if name in self._record(unscaled).events]):
            raise ValueError(
                f"{type(self.initial).__name__} calls {missed[0]!r} for some inputs only, as with an early exit: turn "
                "this off before you attach the network"
            )

    def observe(
        self,
        example: Any = None,
        *,
        edit: Edit | None = None,
        network: nn.Module | None = None,
        gradients: bool = False,
    ) -> Pass:
        """Return the record of a pass in evaluation mode, compared with the base pass."""
        base = self.base
        done = Pass(base.example if example is None else example, self.fresh() if network is None else network)

        def keep(name: str, output: Any) -> None:
            calls, call = base.outputs.get(name, []), done.events[name].calls - 1
            before, after = (self.features(name, one) for one in (calls[call] if call < len(calls) else None, output))
            if not isinstance(before, Tensor) or not isinstance(after, Tensor):
                return
            changed = changed_indices(before, after)
            if changed is not None:
                total = done.changes.setdefault(name, [set() for _ in changed])
                for indices, new in zip(total, changed, strict=False):
                    indices |= new

        return self._record(Recorder(self._gains, done, keep, edit), gradients=gradients)

    def _observe_altered(self, axis: int, index: int | None) -> Pass:
        """Return a pass in which one index of an axis, or all, have other values (see :func:`alter`)."""
        problem: Exception | None = None
        # A wide range shows more, but an embedding may refuse it, and a mask all values but its own.
        for values in ("wide", "like", "moved"):
            try:
                return self.observe(alter(self.base.example, axis, index, values))
            except CALL_ERRORS as error:
                problem = error
        raise ValueError(
            f"{type(self.initial).__name__} takes the example, but not with the values of one sample or time step "
            f"changed ({problem}), so no axis can be inferred: attach the part of it that takes any values"
        ) from problem

    def _base_pass(self, example: Any) -> Pass:
        gains: Gains = {}
        recorder = self._record_outputs(gains, example, learn=True)
        if recorder.silent:
            recorder = self._record_outputs(gains, example, learn=True, scale_inputs_of=recorder.silent)
        if recorder.learned_late:
            # The calls before were not scaled.
            recorder = self._record_outputs(gains, example)
        self._gains = gains
        return recorder.done

    def _record_outputs(self, gains: Gains, example: Any, **options: Any) -> Recorder:
        done = Pass(example, self.fresh())

        def keep(name: str, output: Any) -> None:
            done.outputs.setdefault(name, []).append(map_tensors(torch.clone, output))

        recorder = Recorder(gains, done, keep, **options)
        self._record(recorder)
        return recorder

    def _record(self, recorder: Recorder, training: bool = False, gradients: bool = False) -> Pass:
        done = recorder.done
        # Every pass draws the same random numbers, also from generators in the network.
        for module in nn.Module.modules(done.network):
            for value in vars(module).values():
                if isinstance(value, torch.Generator):
                    value.manual_seed(0)
        reproducible = _reproducible(done.network, training)
        with recorder.listening(done.network), reproducible, torch.set_grad_enabled(gradients):
            done.output = call_on(done.network, self.run, done.example)
        return done

    # Comparisons

    def changes_of_output(self, path: Any, done: Pass) -> Changed | None:
        """Return where a tensor of the output differs from the base pass; None if it does not."""
        before, after = tensors_of(self.base.output)[path], tensors_of(done.output).get(path)
        return changed_indices(before, after) if after is not None else [set(range(size)) for size in before.shape]

    def output_differs(self, done: Pass) -> bool:
        """Return whether any tensor of the output differs from the base pass."""
        tensors = tensors_of(self.base.output)
        # A tensor of one axis may be a statistic of the whole batch.
        wide = [path for path, tensor in tensors.items() if tensor.dim() > 1] or list(tensors)
        return any(self.changes_of_output(path, done) is not None for path in wide)

    def differs(self, done: Pass) -> bool:
        """Return whether anything in a pass differs from the base pass."""
        calls = {name: event.calls for name, event in done.events.items()}
        if bool(done.changes) or calls != {name: event.calls for name, event in self.base.events.items()}:
            return True
        return any(self.changes_of_output(path, done) is not None for path in tensors_of(self.base.output))


def _fire(calls: Sequence[Any]) -> bool:
    """Return whether tensors, call by call, are spikes: zeros and one other value."""
    if not all(isinstance(call, Tensor) and call.dim() > 1 for call in calls):
        return False
    return any(call.any() for call in calls) and all(((call == 0) | (call == call.max())).all() for call in calls)


@contextmanager
def _reproducible(network: nn.Module, training: bool = False) -> Iterator[None]:
    """Run without gradients and from fixed seeds, with every module called; restore random states afterwards."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        # Compiled modules would be compiled again for every copy.
        with evaluation(network), eager(), seeded(0):
            # The fast path of attention calls no submodules.
            torch.backends.mha.set_fastpath_enabled(False)
            if training:
                network.train()
            # torch.manual_seed collects a stack trace for each kind of device, so it is called only where one is used.
            if any(p.device.type != "cpu" for p in nn.Module.parameters(network)):
                torch.manual_seed(0)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
