"""Probe: forward passes through copies of a network, whose modules are observed by hooks.

Networks often spike too little to show a perturbation: at initialisation, on random inputs, or with a zero-initialised
norm. The probe therefore scales what layers give, channel by channel, so that neurons after them spike now and then.
The scaling is learned in a first pass and is the same in all others, so that passes can be compared.
"""

import copy
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..method import Reset, call_on, copy_network, evaluation, tensor_in
from .layers import Gains, has_weights, scaled, unsilence, with_first
from .perturb import alter, varied

Run = Callable[..., Any]
Edit = Callable[[str, Any], Any]
"""``(module name, output) -> output``: replaces what a module gives; returns None to leave it."""
CALL_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError, KeyError)
"""What a network raises that is called with an input of another form than it takes."""


@dataclass
class Event:
    """The calls of one module in a pass.

    Args:
        begin: time at which its first call began, counted in hooks.
        end: time at which its first call ended.
        shape: of the first call's output; None if that is not a tensor.
        calls: number of calls.
        same_shape: whether all calls gave the same shape.
    """

    begin: int
    end: int
    shape: tuple[int, ...] | None
    calls: int = 1
    same_shape: bool = True


@dataclass
class Pass:
    """The record of one forward pass.

    Args:
        output: of the network.
        events: by name, of every module that was called, in the order in which the modules ended.
        kept: by name, copies of the outputs of the modules listened to, call by call.
        network: the copy of the network.
        example: the batch.
    """

    output: Any = None
    events: dict[str, Event] = field(default_factory=dict)
    kept: dict[str, list[Any]] = field(default_factory=dict)
    network: nn.Module = field(default_factory=nn.Module)
    example: Any = None


@dataclass(frozen=True)
class Injection:
    """An edit that changes one channel of what a layer gives, by ten times its largest value."""

    layer: str
    axis: int
    index: int
    sign: int

    def __call__(self, name: str, output: Any) -> Any:
        """Return the changed output of the layer."""
        tensor = tensor_in(output)
        if name != self.layer or tensor is None or self.index >= tensor.shape[self.axis]:
            return None
        tensor = tensor.clone()
        tensor.select(self.axis, self.index).add_(self.sign * (10 + 10 * tensor.float().abs().max().item()))
        return with_first(output, tensor)


class Patch:
    """An edit that replaces the outputs of modules by those of another pass, call by call.

    Args:
        outputs: the outputs by module.
    """

    def __init__(self, outputs: Mapping[str, Sequence[Any]]) -> None:
        self._left = {name: list(calls) for name, calls in outputs.items()}

    def __call__(self, name: str, output: Any) -> Any:
        """Return the output to use, None where none is left."""
        calls = self._left.get(name)
        return tree_map_only(Tensor, torch.clone, calls.pop(0)) if calls else None


class Probe:
    """Runs examples through fresh copies of a network and records what its modules give.

    Args:
        network: the network to copy; it is not changed.
        example: a batch; floating-point tensors of one value are replaced by random ones.
        run: calls the network; None for one call.
        reset: returns the copies to their initial state, if it is known.
    """

    def __init__(self, network: nn.Module, example: Any, run: Run | None, reset: Reset | None = None) -> None:
        self.run = run
        self.example = tree_map_only(Tensor, varied, example)
        self.initial = copy_network(network)
        """The network in its initial state, from which every pass takes a copy."""
        if reset is not None:
            reset(self.initial)
        self._trace: Pass | None = None
        self.leaks_without_reset: bool | None = None
        """Whether the output depends on the batch before without a reset, once that is known."""
        self._gains: Gains | None = None
        if any(nn.parameter.is_lazy(tensor) for tensor in nn.Module.parameters(self.initial)):
            # A first pass sets the shapes of lazy parameters.
            with _reproducible(self.initial):
                call_on(self.initial, run, self.example)
        for module in nn.Module.modules(self.initial):
            unsilence(module)

    def fresh(self, name: str = "") -> nn.Module:
        """Return a copy of the network, or of one of its modules, in its initial state; copies share their weights."""
        shared = {id(tensor): tensor for tensor in nn.Module.parameters(self.initial)}
        module: nn.Module = copy.deepcopy(self.initial.get_submodule(name), shared)
        return module

    def accepts_example(self) -> bool:
        """Return whether the network takes the example."""
        try:
            self._learn_gains()
        except CALL_ERRORS:
            return False
        return True

    @property
    def trace(self) -> Pass:
        """The record of a pass of the example."""
        if self._trace is None:
            self._trace = self.observe()
        return self._trace

    def set_initial_state(self, reset: Reset) -> None:
        """Reset the network from which passes take their copies."""
        reset(self.initial)
        self._trace = None

    def set_example(self, example: Any) -> None:
        """Use another example from now on, if the network takes it."""
        with suppress(*CALL_ERRORS):
            self._trace = self.observe(example)
            self.example = example

    def observe(
        self,
        example: Any = None,
        listen: Iterable[str] = (),
        edit: Edit | None = None,
        network: nn.Module | None = None,
    ) -> Pass:
        """Return the record of a forward pass in evaluation mode.

        Args:
            example: a batch; by default the probe's.
            listen: names of modules whose outputs are kept.
            edit: changes outputs of modules.
            network: the copy to use; by default a fresh one.
        """
        recorder = _Recorder(self._learn_gains(), listen, edit)
        return self._record(recorder, example, network)

    def observe_training(self, example: Any, listen: Iterable[str]) -> Pass:
        """Return the record of a forward pass in training mode, with gradients of the example and all parameters."""
        recorder = _Recorder(self._learn_gains(), listen, None)
        return self._record(recorder, example, None, training=True)

    def observe_altered(
        self,
        example: Any,
        axis: int,
        sample: int | None,
        listen: Iterable[str] = (),
        seed: int = 0,
        network: nn.Module | None = None,
    ) -> Pass:
        """Return the record of a pass in which one sample, or all, have values of a wide range (see :func:`alter`)."""
        try:
            # A wide range shows more, but an embedding, for one, may refuse it.
            return self.observe(alter(example, axis, sample, seed, wide=True), listen, network=network)
        except CALL_ERRORS:
            return self.observe(alter(example, axis, sample, seed), listen, network=network)

    def fingerprint(self, network: nn.Module) -> list[tuple[Any, ...]]:
        """Return a few numbers for each call of each module in a pass through ``network``, to compare passes by."""
        recorder = _Recorder(self._learn_gains(), (), None, checksums=[])
        output = self._record(recorder, None, network).output
        assert recorder.checksums is not None
        return recorder.checksums + [("", *_checksum(leaf)) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]

    def _learn_gains(self) -> Gains:
        """Return the scaling of layers, learned in a pass of its own at first."""
        if self._gains is None:
            gains: Gains = {}
            self._record(_Recorder(gains, (), None, learn=True), None, None)
            self._gains = gains
        return self._gains

    def _record(self, recorder: "_Recorder", example: Any, network: nn.Module | None, training: bool = False) -> Pass:
        network = self.fresh() if network is None else network
        # Every pass draws the same random numbers, also from generators in the network.
        for module in nn.Module.modules(network):
            for value in vars(module).values():
                if isinstance(value, torch.Generator):
                    value.manual_seed(0)
        example = self.example if example is None else example
        recorder.done.network, recorder.done.example = network, example
        with recorder.listening(network), _reproducible(network, training):
            if training:
                with _all_require_gradients(network):
                    recorder.done.output = call_on(network, self.run, tree_map_only(Tensor, _requiring, example))
            else:
                recorder.done.output = call_on(network, self.run, example)
        return recorder.done


class _Recorder:
    """The hooks of one pass: they scale and edit outputs, and record events, outputs and checksums."""

    def __init__(
        self,
        gains: Gains,
        listen: Iterable[str],
        edit: Edit | None,
        learn: bool = False,
        checksums: list[tuple[Any, ...]] | None = None,
    ) -> None:
        self.gains, self.edit, self.learn, self.checksums = gains, edit, learn, checksums
        self.done = Pass(kept={name: [] for name in listen})
        self._clock = 0
        self._begun: dict[str, int] = {}

    @contextmanager
    def listening(self, network: nn.Module) -> Iterator[None]:
        handles = []
        for name, module in named_modules(network):
            handles.append(module.register_forward_pre_hook(self._pre_hook(name)))
            handles.append(module.register_forward_hook(self._hook(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _pre_hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self._begun.setdefault(name, self._clock)
            self._clock += 1

        return hook

    def _hook(self, name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            original = output
            if has_weights(module):
                output = scaled(name, module, output, self.gains, self.learn)
            edited = None if self.edit is None else self.edit(name, output)
            output = output if edited is None else edited
            self._note(name, output)
            return None if output is original else output

        return hook

    def _note(self, name: str, output: Any) -> None:
        tensor = tensor_in(output)
        shape = None if tensor is None else tuple(tensor.shape)
        event = self.done.events.get(name)
        if event is None:
            self.done.events[name] = Event(self._begun.get(name, self._clock), self._clock, shape)
        else:
            event.calls += 1
            event.same_shape = event.same_shape and event.shape == shape
        self._clock += 1
        if name in self.done.kept:
            self.done.kept[name].append(tree_map_only(Tensor, torch.clone, output))
        if self.checksums is not None and tensor is not None:
            self.checksums.append((name, *_checksum(tensor)))


def named_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield modules by name, also for a class that overrides ``named_modules``."""
    yield from nn.Module.named_modules(network)


def _checksum(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.is_sparse or tensor.is_quantized or tensor.is_complex():
        return (tuple(tensor.shape),)
    flat = tensor.detach().double().flatten().nan_to_num()
    weights = torch.linspace(1, 2, max(flat.numel(), 1), dtype=torch.float64, device=flat.device)[: flat.numel()]
    return (tuple(tensor.shape), flat.sum().item(), (flat * weights).sum().item())


def _requiring(tensor: Tensor) -> Tensor:
    # A clone, since the network may change its input in place, which leaves forbid.
    return tensor.detach().requires_grad_().clone() if tensor.is_floating_point() else tensor


@contextmanager
def _all_require_gradients(network: nn.Module) -> Iterator[None]:
    """Enable gradients, also of frozen parameters."""
    frozen = [p for p in nn.Module.parameters(network) if not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in frozen:
            parameter.requires_grad_()
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextmanager
def _reproducible(network: nn.Module, training: bool = False) -> Iterator[None]:
    """Run without gradients and from fixed seeds, with every module called; restore random states afterwards."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # Compiled modules would be compiled again for every copy. Without _dynamo nothing is compiled.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    numpy = sys.modules.get("numpy")
    try:
        with evaluation(network), eager:
            # The fast path of attention calls no submodules.
            torch.backends.mha.set_fastpath_enabled(False)
            if training:
                network.train()
            # torch.manual_seed collects a stack trace for each kind of device; on the CPU the generator will do.
            accelerated = any(p.device.type != "cpu" for p in nn.Module.parameters(network))
            (torch.manual_seed if accelerated else torch.default_generator.manual_seed)(0)
            random.seed(0)
            if numpy is not None:
                numpy.random.seed(0)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
