"""From one time step in plain PyTorch to a program: recorded once with ``torch.fx``.

What is no tensor (thresholds, options, a loop over a constant) is Python and runs as such.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from .lowering import CannotTraceError, Lowering, Traced


class _Tracer(fx.Tracer):
    """Knows a module's parameters and buffers by name, and takes no other tensors.

    ``fx.Tracer.trace`` stands in for every module's attributes and calls meanwhile, in all threads. Here a copy of the
    module has stand-ins for its parameters, and nothing else is touched.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.root, self.graph = module, fx.Graph()
        self.own = dict(module.named_parameters()) | dict(module.named_buffers())
        self.proxies: dict[str, fx.Proxy] = {}

    def known(self, value: Tensor) -> fx.Proxy | None:
        """Return what stands for a parameter or buffer, None for another tensor."""
        for name, each in self.own.items():
            if each is value:
                if name not in self.proxies:
                    self.proxies[name] = self.create_proxy("placeholder", f"own_{len(self.proxies)}", (), {})
                    self.proxies[name].node.meta["own"] = name
                return self.proxies[name]
        return None

    def copied(self, module: nn.Module) -> nn.Module:
        """Return a module with the same attributes, of which those that are known are stood in for."""
        copy = object.__new__(type(module))
        parts: dict[str, Any] = {
            "_parameters": _Known(module._parameters, self),
            "_buffers": _Known(module._buffers, self),
        }
        parts["_modules"] = {name: each and self.copied(each) for name, each in module._modules.items()}
        copy.__dict__.update(vars(module) | parts)
        return copy

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        if kind.startswith("call") and not torch.is_grad_enabled():
            # Both run without a gradient of what is recorded, and the latter has one of its own.
            raise CannotTraceError("an operation in it is in torch.no_grad(), or in an autograd.Function of its own")
        return super().create_node(kind, *args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor):
            found = self.known(a)
            if found is None:
                raise CannotTraceError(
                    f"a tensor of shape {tuple(a.shape)} in it is no parameter: make it one, or register it as a buffer"
                )
            return found.node
        return super().create_arg(a)


class _Known(dict[str, Any]):
    """A module's parameters, each stood in for when it is asked for."""

    def __init__(self, given: Mapping[str, Any], tracer: _Tracer) -> None:
        super().__init__(given)
        self.tracer = tracer

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        return found if found is None else self.tracer.known(found)


def trace(module: nn.Module, states: int) -> Traced:
    """Trace ``module.step(current, *states) -> (spikes, *states)``.

    Raises:
        CannotTraceError: naming the operation that there is no kernel for.
    """
    tracer = _Tracer(module)
    given = [
        tracer.create_proxy("placeholder", name, (), {}) for name in ("current", *map("state{}".format, range(states)))
    ]
    try:
        made: Any = tracer.copied(module)
        # A program has a way back, wherever it is first asked for.
        with torch.enable_grad():
            tracer.create_node("output", "output", (tracer.create_arg(made.step(*given)),), {})
        return Lowering(tracer.graph, states).result()
    except CannotTraceError:
        raise
    except fx.proxy.TraceError as error:
        raise CannotTraceError(f"what it does depends on values ({str(error).splitlines()[0]})") from error
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
        raise CannotTraceError(f"{type(error).__name__}: {(str(error) or '?').splitlines()[0]}") from error
