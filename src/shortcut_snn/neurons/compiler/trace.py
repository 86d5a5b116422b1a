"""Record one time step, written in plain PyTorch, as a graph of torch operations, and keep it with the neuron.

Everything that is not a tensor (thresholds, options, a loop over a constant) is Python and runs while tracing.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from .lowering import CannotTraceError, Lowering, TracedStep


class _Tracer(fx.Tracer):
    """Traces a step with proxies for the module's parameters and buffers; other tensors are refused.

    ``fx.Tracer.trace`` patches ``nn.Module`` for all threads. This tracer copies the module instead, with proxies in
    it.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.root, self.graph = module, fx.Graph()
        self.parameters = dict(module.named_parameters()) | dict(module.named_buffers())
        self.proxies: dict[str, fx.Proxy] = {}

    def proxy_of(self, tensor: Tensor) -> fx.Proxy | None:
        """Return the proxy of a parameter or buffer, None for another tensor."""
        for name, parameter in self.parameters.items():
            if parameter is tensor:
                if name not in self.proxies:
                    self.proxies[name] = self.create_proxy("placeholder", f"parameter_{len(self.proxies)}", (), {})
                    self.proxies[name].node.meta["parameter"] = name
                return self.proxies[name]
        return None

    def copy_with_proxies(self, module: nn.Module) -> nn.Module:
        """Return a module with the same attributes, and proxies for its parameters and buffers."""
        copy = object.__new__(type(module))
        submodules = module._modules.items()
        copy.__dict__.update(
            vars(module),
            _parameters=_ProxyDict(module._parameters, self),
            _buffers=_ProxyDict(module._buffers, self),
            _modules={name: submodule and self.copy_with_proxies(submodule) for name, submodule in submodules},
        )
        return copy

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        if kind.startswith("call") and not torch.is_grad_enabled():
            # Both run without gradients, and an autograd.Function has a backward pass that is not recorded.
            raise CannotTraceError("it contains an operation in torch.no_grad() or in an autograd.Function")
        return super().create_node(kind, *args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor):
            proxy = self.proxy_of(a)
            if proxy is None:
                raise CannotTraceError(
                    f"its tensor of shape {tuple(a.shape)} must be registered as a parameter or buffer"
                )
            return proxy.node
        return super().create_arg(a)


class _ProxyDict(dict[str, Any]):
    """A module's parameters, which are replaced by their proxies on access."""

    def __init__(self, parameters: Mapping[str, Any], tracer: _Tracer) -> None:
        super().__init__(parameters)
        self.tracer = tracer

    def __getitem__(self, name: str) -> Any:
        parameter = super().__getitem__(name)
        return parameter if parameter is None else self.tracer.proxy_of(parameter)


MAX_CHANNELS = 8
"""The largest number of parameters per channel that the kernels take."""
_warned: set[tuple[type, str]] = set()


def traced(neuron: Any) -> TracedStep | None:
    """Return a neuron's traced step, or None (and warn once) if its step cannot be traced."""
    step: TracedStep | None = _traced(neuron, neuron._attributes_version, neuron.training)
    return step


# A compiled network takes the program as a constant and guards the version, so it is compiled again after a change.
# In torch 2.9 such a constant breaks the graph; 2.13 is the first release that was tested to work.
_constant: Any = torch.compiler.assume_constant_result if torch.__version__ >= "2.13" else torch.compiler.disable


@_constant  # type: ignore[untyped-decorator]
def _traced(neuron: Any, version: str, training: bool) -> TracedStep | None:
    # One for training and one for evaluation, since a step may read ``self.training`` and networks switch often.
    steps: dict[bool, tuple[str, TracedStep | None]] = vars(neuron).setdefault("_traced_steps", {})
    if training not in steps or steps[training][0] != version:
        steps[training] = version, _trace(neuron)
    return steps[training][1]


def _trace(neuron: Any) -> TracedStep | None:
    """Trace ``neuron.step(current, *states) -> (spikes, *states)``."""
    kind, states = type(neuron), len(neuron.states)
    tracer = _Tracer(neuron)
    names = ["current", *(f"state{k}" for k in range(states))]
    proxies = [tracer.create_proxy("placeholder", name, (), {}) for name in names]
    try:
        copy: Any = tracer.copy_with_proxies(neuron)
        # With gradients, even if the first call comes without: the program serves later calls too.
        with torch.enable_grad():
            tracer.create_node("output", "output", (tracer.create_arg(copy.step(*proxies)),), {})
        step = Lowering(tracer.graph, states).result()
        if len(step.channels) <= MAX_CHANNELS:
            return step
        reason = f"it has {len(step.channels)} parameters per channel, more than {MAX_CHANNELS}"
    except CannotTraceError as error:
        reason = str(error)
    except fx.proxy.TraceError as error:
        reason = f"its operations depend on values ({str(error).splitlines()[0]})"
    except (TypeError, ValueError, RuntimeError, AttributeError, AssertionError, LookupError) as error:
        reason = f"{type(error).__name__}: {(str(error) or '?').splitlines()[0]}"
    if (kind, reason) not in _warned:
        _warned.add((kind, reason))
        warnings.warn(
            f"{kind.__name__} runs step by step in plain PyTorch, slower and with more memory: {reason}", stacklevel=2
        )
    return None
