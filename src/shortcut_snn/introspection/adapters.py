"""Adapters: the documented conventions of SpikingJelly, snnTorch, Norse and sinabs, as facts that need no probing.

- SpikingJelly 2.0.0, and ``clock_driven`` of its versions up to 0.0.0.0.14: neurons keep their membrane potential until
  ``reset()``. In multi-step mode, ``step_mode = "m"``, a layer takes a sequence ``[T, N, ...]``. ``clock_driven`` has
  other classes for that, whose names begin with ``MultiStep``. Classes named ``NonSpiking...`` give potentials.
- snnTorch 1.0.0: neurons compute one time step per call and keep their last membrane potential as a buffer.
  ``LeakyParallel`` and the like take whole sequences ``[T, N, ...]`` and have no ``reset_mem``. ``StateLeaky`` gives
  potentials alone with ``output=False``.
- Norse 1.1.0: neurons take their state as an argument and return ``(spikes, next state)``, so nothing is left to reset.
  Modules named ``...Cell`` compute one time step per call; the others take ``[T, N, ...]``. A leaky integrator does not
  spike.
- sinabs 3.1: neurons take ``[N, T, ...]``, or ``[N * T, ...]`` in their ``Squeeze`` variants, and keep their state
  until reset. ``ExpLeak`` integrates and does not spike. Outputs are read at the last time step, or as sum or maximum.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from .._utils.calls import Reset


@dataclass(frozen=True)
class Adapter:
    """The conventions of one library. No library is imported until a network of it is."""

    name: str
    package: str
    is_neuron: Callable[[nn.Module], bool]
    is_single_step: Callable[[nn.Module], bool]
    """Whether a neuron computes one time step per call, not a whole sequence."""
    reset: Reset | None
    """None if neurons keep no state between calls."""
    set_multi_step: str = ""
    """The call that switches a network ``net`` to multi-step mode."""
    state: str = ""
    """The argument in which a network takes back the state that it returned."""
    batch_first: bool = False
    """Whether neurons take ``[N, T, ...]`` instead of ``[T, N, ...]``."""
    averages_currents: bool = False
    """Whether what the last layer gives at every time step is averaged, by convention."""
    advice: Callable[[nn.Module], str] = lambda network: ""
    """How a network of a layout of its own is passed, in words."""

    def neurons(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return a network's spiking neurons of this library by name, in the order of the network."""
        return outermost(network, self.is_neuron)

    def resets(self, neuron: nn.Module) -> bool:
        """Return whether the library's reset is known to suffice: a subclass elsewhere may keep more state."""
        return self.reset is not None and type(neuron).__module__.partition(".")[0] == self.package


def outermost(network: nn.Module, is_kind: Callable[[nn.Module], bool]) -> dict[str, nn.Module]:
    """Return the modules of a kind by name, without those inside others, such as a neuron's connection to itself."""
    found: dict[str, nn.Module] = {}
    # Not the network's own named_modules, which some classes override.
    for name, module in nn.Module.named_modules(network):
        if is_kind(module) and not name.startswith(tuple(f"{outer}." for outer in found)):
            found[name] = module
    return found


def is_from(module: nn.Module, package: str) -> bool:
    """Return whether a module's class or one of its base classes is defined in a package."""
    return any(f"{base.__module__}.".startswith(f"{package}.") for base in type(module).__mro__)


def _reset_spikingjelly(network: nn.Module) -> None:
    # The library's reset_net would reset metrics too.
    for module in nn.Module.modules(network):
        if callable(reset := getattr(module, "reset", None)) and not is_from(module, "torchmetrics"):
            reset()


def _reset_snntorch(network: nn.Module) -> None:
    """Reset the neurons of this network alone; ``snntorch.utils.reset`` resets those of all networks.

    ``reset_mem`` leaves zeros in the shape of the last batch, which DistributedDataParallel would broadcast and an
    averaged model copy, between networks of other batch sizes.
    """
    for neuron in nn.Module.modules(network):
        if is_from(neuron, "snntorch._neurons") and hasattr(neuron, "reset_mem"):
            neuron.reset_mem()  # type: ignore[operator]
            _empty_buffers(neuron, kept=neuron.state_dict())


def _reset_sinabs(network: nn.Module) -> None:
    # The library's reset overwrites what the backward pass still needs.
    for module in nn.Module.modules(network):
        if _is_stateful(module):
            _empty_buffers(module)


def _empty_buffers(module: nn.Module, kept: Container[str] = ()) -> None:
    """Empty the buffers of a neuron, as in a new one."""
    for name, state in list(module.named_buffers(recurse=False)):
        if name not in kept:
            setattr(module, name, torch.zeros(0, dtype=state.dtype, device=state.device))


def _is_stateful(module: nn.Module) -> bool:
    return is_from(module, "sinabs.layers.stateful_layer")


def _advice_for_sinabs(network: nn.Module) -> str:
    modules = nn.Module.modules(network)
    if not any(_is_stateful(module) and hasattr(module, "batch_size") for module in modules):
        return ""
    return (
        "sinabs' Squeeze layers take samples and time steps in one axis: pass example=... as [N, T, ...], and a module "
        "that folds it:\n"
        "    class Folded(torch.nn.Module):\n"
        "        def __init__(self, net): super().__init__(); self.net = net\n"
        "        def forward(self, x): return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])"
    )


ADAPTERS = (
    Adapter(
        "SpikingJelly",
        "spikingjelly",
        is_neuron=lambda module: (
            is_from(module, "spikingjelly.activation_based.neuron")
            and not any("NonSpiking" in base.__name__ for base in type(module).__mro__)
        ),
        is_single_step=lambda neuron: getattr(neuron, "step_mode", "m") == "s",
        reset=_reset_spikingjelly,
        averages_currents=True,
        set_multi_step="spikingjelly.activation_based.functional.set_step_mode(net, 'm')",
    ),
    Adapter(
        "SpikingJelly (clock_driven)",
        "spikingjelly",
        is_neuron=lambda module: is_from(module, "spikingjelly.clock_driven.neuron"),
        is_single_step=lambda neuron: not type(neuron).__name__.startswith("MultiStep"),
        reset=_reset_spikingjelly,
        averages_currents=True,
    ),
    Adapter(
        "snnTorch",
        "snntorch",
        is_neuron=lambda module: (
            is_from(module, "snntorch._neurons")
            and (hasattr(module, "reset_mem") or bool(getattr(module, "output", True)))
        ),
        is_single_step=lambda neuron: hasattr(neuron, "reset_mem"),
        reset=_reset_snntorch,
    ),
    Adapter(
        "Norse",
        "norse",
        is_neuron=lambda module: (
            is_from(module, "norse.torch.module.snn")
            and not any("leaky_integrator" in base.__module__ for base in type(module).__mro__)
        ),
        is_single_step=lambda neuron: any(
            base.__name__ in ("SNNCell", "SNNRecurrentCell") for base in type(neuron).__mro__
        ),
        reset=None,
        state="state",
    ),
    Adapter(
        "sinabs",
        "sinabs",
        is_neuron=lambda module: _is_stateful(module) and not type(module).__name__.startswith("ExpLeak"),
        is_single_step=lambda neuron: False,
        reset=_reset_sinabs,
        batch_first=True,
        advice=_advice_for_sinabs,
    ),
)


def find_adapters(network: nn.Module) -> list[Adapter]:
    """Return the adapters of the libraries whose neurons a network has."""
    return [adapter for adapter in ADAPTERS if adapter.neurons(network)]


def library_reset(adapters: Sequence[Adapter]) -> Reset | None:
    """Return a function that resets the neurons of these libraries; None if none of them needs one."""
    resets = [adapter.reset for adapter in adapters if adapter.reset is not None]
    return partial(_reset_by, resets) if len(resets) > 1 else resets[0] if resets else None


def _reset_by(resets: Sequence[Reset], network: nn.Module) -> None:
    for reset in resets:
        reset(network)
