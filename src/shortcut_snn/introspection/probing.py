"""Passes through copies of a network, of batches in which one sample is another, or with one channel changed."""

import copy
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..method import call_on, copy_network, evaluation, tensor_in
from .perturb import alter, varied

Run = Callable[..., Any]
Gains = dict[str, tuple[Tensor, Tensor]]
# What fails where a network is given something of another form than it takes.
UNFIT = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError, KeyError)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, *_CONVOLUTIONS)
_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.RNNBase, nn.RNNCellBase)
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


@dataclass
class Event:
    """The calls of a module in a pass."""

    begin: int
    end: int
    shape: tuple[int, ...] | None
    calls: int = 1
    alike: bool = True
    """Whether all calls gave the same shape."""


@dataclass
class Pass:
    """What was seen in one pass.

    Args:
        output: of the network.
        events: by name, of every module that was called, in the order in which they ended.
        kept: copies of what the modules listened to gave, call by call.
        sums: a few numbers for each call of each module, which differ where what it gave does.
        network: the copy it went through.
        example: the batch.
    """

    output: Any = None
    events: dict[str, Event] = field(default_factory=dict)
    kept: dict[str, list[Tensor]] = field(default_factory=dict)
    sums: list[tuple[Any, ...]] = field(default_factory=list)
    network: nn.Module = field(default_factory=nn.Module)
    example: Any = None


@dataclass(frozen=True)
class Injection:
    """A change of one channel in what a layer gives."""

    layer: str
    axis: int
    index: int
    sign: int


class Prober:
    """Sends batches through copies of a network, all alike and lively: what layers give is made large enough to spike.

    Args:
        network: to be copied; it is left as it is.
        example: a batch; floats that are all the same are replaced by random ones.
        run: calls the network on it.
        reset: puts the copies to rest, where something does that.

    Example:
        >>> prober = Prober(nn.Sequential(nn.Linear(4, 5), nn.ReLU()), torch.rand(2, 4), None)
        >>> list(prober.go().events)
        ['0', '1', '']
    """

    def __init__(
        self, network: nn.Module, example: Any, run: Run | None, reset: Callable[[nn.Module], object] | None = None
    ) -> None:
        self.run = run
        self.example = tree_map_only(Tensor, varied, example)
        self.rest = copy_network(network)
        if reset is not None:
            reset(self.rest)
        self._gains: Gains | None = None
        self._learning = False
        if any(nn.parameter.is_lazy(tensor) for tensor in nn.Module.parameters(self.rest)):
            # Their shapes are found by a pass.
            with _quiet(self.rest):
                call_on(self.rest, run, self.example)
        for module in nn.Module.modules(self.rest):
            _enliven(module)

    def fresh(self, name: str = "") -> nn.Module:
        """Return a copy of the network, or of a module of it, as it was given, which shares its weights with others."""
        shared = {id(tensor): tensor for tensor in nn.Module.parameters(self.rest)}
        return copy.deepcopy(self.rest.get_submodule(name), shared)

    def go(
        self,
        example: Any = None,
        listen: Iterable[str] = (),
        inject: Injection | None = None,
        network: nn.Module | None = None,
        training: bool = False,
        sums: bool = False,
        patch: Mapping[str, Sequence[Any]] | None = None,
        gradients: bool = False,
    ) -> Pass:
        """Run a batch, by default the example, through a fresh copy or the one given.

        Of modules in ``patch``, what they give in their calls is put in the place of what they would. With
        ``gradients``, all that has one, of whatever is in the network or the batch, requires it.
        """
        if self._gains is None and not self._learning:
            # A pass of its own, so that all passes are alike that anything is told from.
            self._learning, self._gains = True, {}
            try:
                self.go(training=training)
            except BaseException:
                self._gains = None
                raise
            finally:
                self._learning = False
        gains = {} if self._gains is None else self._gains
        left = {name: list(outputs) for name, outputs in (patch or {}).items()}
        network = self.fresh() if network is None else network
        for value in (value for module in nn.Module.modules(network) for value in vars(module).values()):
            if isinstance(value, torch.Generator):
                value.manual_seed(0)
        # Of a generator of random numbers every pass begins where it stood.
        example = tree_map_only(torch.Generator, copy.deepcopy, self.example if example is None else example)
        done = Pass(kept={name: [] for name in listen}, network=network, example=example)
        clock, begun = [0], dict[str, int]()

        def pre(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any) -> None:
                begun.setdefault(name, clock[0])
                clock[0] += 1

            return hook

        def post(name: str) -> Callable[..., Any]:
            def hook(module: nn.Module, args: Any, output: Any) -> Any:
                changed = None
                if isinstance(module, (*_LAYERS, *_LAST, *_NORMS)):
                    output = changed = _louder(name, module, output, gains, self._learning)
                    if inject is not None and inject.layer == name:
                        output = changed = _injected(output, inject)
                if left.get(name):
                    output = changed = tree_map_only(Tensor, torch.clone, left[name].pop(0))
                found = tensor_in(output)
                shape = None if found is None else tuple(found.shape)
                event = done.events.get(name)
                if event is None:
                    done.events[name] = Event(begun.get(name, clock[0]), clock[0], shape)
                else:
                    event.calls += 1
                    event.alike = event.alike and event.shape == shape
                clock[0] += 1
                if name in done.kept:
                    done.kept[name].append(tree_map_only(Tensor, torch.clone, output))
                if sums and found is not None:
                    done.sums.append((name, *_sums(found)))
                return changed

            return hook

        handles = []
        for name, module in named(network):
            handles += [module.register_forward_pre_hook(pre(name)), module.register_forward_hook(post(name))]
        try:
            with _quiet(network, training), _learning(network) if gradients else nullcontext():
                given = tree_map_only(Tensor, _requiring, example) if gradients else example
                done.output = call_on(network, self.run, given)
        finally:
            for handle in handles:
                handle.remove()
        if sums:
            done.sums += [("", *_sums(leaf)) for leaf in tree_leaves(done.output) if isinstance(leaf, Tensor)]
        return done

    def other(
        self, example: Any, axis: int, number: int | None, listen: Iterable[str] = (), seed: int = 0, **options: Any
    ) -> Pass:
        """Run a batch with other values in one sample or in all: of a wide range, so that it shows, if taken."""
        try:
            done = self.go(altered := alter(example, axis, number, seed, wide=True), listen, **options)
        except UNFIT:
            done = self.go(altered := alter(example, axis, number, seed), listen, **options)
        done.example = altered
        return done


def named(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules by name, also of a class that means something else by ``named_modules``."""
    yield from nn.Module.named_modules(network)


def is_layer(module: nn.Module) -> bool:
    """Whether a module has weights that mix channels."""
    return isinstance(module, (*_LAYERS, nn.RNNBase, nn.RNNCellBase))


def channel_axis_of(module: nn.Module, dims: int) -> int | None:
    """Return the axis of channels in what a layer or norm gives, counted from the end; None for modules without one.

    Example:
        >>> channel_axis_of(nn.Conv2d(1, 2, 3), 4), channel_axis_of(nn.LayerNorm(8), 3), channel_axis_of(nn.ReLU(), 3)
        (-3, -1, None)
    """
    if isinstance(module, _LAST):
        return -1
    for space, kinds in enumerate(((nn.Conv1d, nn.ConvTranspose1d), (nn.Conv2d, nn.ConvTranspose2d)), 1):
        if isinstance(module, kinds):
            return -1 - space
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        return -4
    if isinstance(module, nn.BatchNorm2d):
        return -3
    if isinstance(module, nn.BatchNorm3d):
        return -4
    if isinstance(module, _NORMS):
        # SpikingJelly's one-dimensional ones take [T, N, C, L] in its step mode "m".
        place = 2 if getattr(module, "step_mode", "s") == "m" else 1
        return place - dims if dims > place else None
    return None


def _enliven(module: nn.Module) -> None:
    """Let nothing be silent that is so at the start alone, and no batch statistics mix samples."""
    for tensor in vars(module).get("_parameters", {}).values():
        if tensor is None or tensor.is_meta or not tensor.is_floating_point() or tensor.any():
            continue
        if isinstance(module, _NORMS) and tensor is module.weight:
            tensor.data.fill_(1)
        elif isinstance(module, _LAYERS) and tensor is module.weight:
            drawn = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0)) - 0.5
            tensor.data.copy_(drawn)
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
        reference = module.weight if module.weight is not None else torch.zeros(module.num_features)
        module.running_mean = torch.zeros_like(reference.detach())
        module.running_var = torch.ones_like(reference.detach())
        module.track_running_stats = True


def _louder(name: str, module: nn.Module, output: Any, gains: Gains, learn: bool) -> Any:
    """Let neurons behind a layer spike now and then, whatever its weights: by channel, the same in every pass."""
    found = tensor_in(output)
    if found is None or not found.is_floating_point() or found.numel() < 2:
        return output
    # It may be called with sequences and with single steps.
    name = f"{name}, {found.dim()} axes"
    if name not in gains and learn:
        channels = channel_axis_of(module, found.dim())
        others = [axis for axis in range(found.dim()) if channels is None or axis != channels % found.dim()]
        mean = found.float().mean(others, keepdim=True)
        deviation = (found.float() - mean).square().mean(others, keepdim=True).sqrt()
        # Of what does not vary, rounding errors would be all that is left.
        still = deviation <= 1e-3 * found.float().abs().mean()
        if not still.all():
            gains[name] = torch.where(still, 0, mean), torch.where(still, 1, 2 / deviation)
    if name not in gains:
        return output
    mean, gain = gains[name]
    return _with(output, ((found - mean) * gain).to(found.dtype))


def _injected(output: Any, inject: Injection) -> Any:
    found = tensor_in(output)
    if found is None or inject.index >= found.shape[inject.axis]:
        return output
    found = found.clone()
    found.select(inject.axis, inject.index).add_(inject.sign * (10 + 10 * found.float().abs().max().item()))
    return _with(output, found)


def _with(output: Any, first: Tensor) -> Any:
    if isinstance(output, Tensor):
        return first
    rest = list(output)[1:]
    return type(output)(first, *rest) if hasattr(output, "_fields") else type(output)([first, *rest])


def _sums(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.is_sparse or tensor.is_quantized or tensor.is_complex():
        return (tuple(tensor.shape),)
    flat = tensor.detach().double().flatten().nan_to_num()
    weights = torch.linspace(1, 2, max(flat.numel(), 1), dtype=torch.float64, device=flat.device)[: flat.numel()]
    return (tuple(tensor.shape), flat.sum().item(), (flat * weights).sum().item())


def _requiring(tensor: Tensor) -> Tensor:
    # No leaf, since it may be changed in place.
    return tensor.detach().requires_grad_().clone() if tensor.is_floating_point() else tensor


@contextmanager
def _learning(network: nn.Module) -> Iterator[None]:
    """With gradients, of whatever may be frozen too."""
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
def _quiet(network: nn.Module, training: bool = False) -> Iterator[None]:
    """Without gradients, from the same random numbers every time, all of which are put back; every module is called."""
    fast = torch.backends.mha.get_fastpath_enabled()
    # What is compiled would be compiled anew for every copy; nothing is, where the compiler was never imported.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    numpy = sys.modules.get("numpy")
    try:
        with evaluation(network), eager:
            torch.backends.mha.set_fastpath_enabled(False)
            if training:
                network.train()
            # torch.manual_seed writes down the stack, once for each kind of device, also where there is none.
            elsewhere = any(p.device.type != "cpu" for p in nn.Module.parameters(network))
            (torch.manual_seed if elsewhere else torch.default_generator.manual_seed)(0)
            random.seed(0)
            if numpy is not None:
                numpy.random.seed(0)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
