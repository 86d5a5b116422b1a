"""Folded networks as NIR graphs: nodes are layers, edges are currents and spikes, edges that meet are summed.

NIR (Pedersen et al., "Neuromorphic Intermediate Representation", Nature Communications 2024) describes neurons by
differential equations, ``tau dv/dt = (v_leak - v) + r I`` for LIF and ``dv/dt = r I`` for IF, a spike where
``v > v_threshold`` and then ``v = v_reset``. With a step of ``dt`` these are ours for ``tau = dt / (1 - decay)`` and
``r = tau / dt``, and for IF ``r = 1 / dt``. ``DT`` is the step that snnTorch and SpikingJelly assume.
"""

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..nets import SelfAttention, SpikingNetwork, TokenAttention
from ..neurons import Neuron, is_lif
from .describe import Description
from .extra import need
from .step import check_steps, neurons_of

DT = 1e-4
ABOUT = "shortcut_snn"


def nir_graph(network: nn.Module, about: Description) -> Any:
    """Return the graph of one time step; its input is normalised, its output a step's logits.

    Args:
        network: from :func:`~shortcut_snn.deploy.folding.fold`.
        about: what it is; kept in the graph's metadata.

    Raises:
        OSError: nir is not installed.
        ValueError: NIR has no words for a part of the network; the message names it.
    """
    nir = need("nir", "NIR export")
    if not isinstance(network, SpikingNetwork):
        raise ValueError(f"NIR describes one time step, which {type(network).__name__} does not say; export to onnx")
    check_steps(network)
    for path, module in network.named_modules():
        if isinstance(module, TokenAttention | SelfAttention):
            raise ValueError(f"NIR has no products of spikes with spikes, which {path} computes; export to onnx")
    network = copy.deepcopy(network)
    recorder = _Recorder(nir, {id(parameter): path for path, parameter in network.named_parameters()})
    for path, each in neurons_of(network).items():
        if not is_lif(each.neuron):
            raise ValueError(f"NIR has no words for {path}, a {type(each.neuron).__name__}; export to onnx")
        if each.neuron.reset != "hard":
            raise ValueError(f"NIR resets a neuron to a value, but those of {path} have a soft reset; export to onnx")
        owner, _, name = path.rpartition(".")
        setattr(network.get_submodule(owner), name, _Layer(path, each.neuron, recorder))
    network.time_steps = 1
    frame = torch.zeros(1, 1, about.images.channels, *about.images.image_size)
    recorder.nodes["input"] = nir.Input({"input": np.array(frame.shape[2:])})
    recorder.sources[id(frame)] = (frame, ["input"])
    with torch.no_grad(), recorder:
        logits = network.classifier(network.features(frame).squeeze(0))
    recorder.add("output", nir.Output({"output": np.array(logits.shape[1:])}), logits, logits)
    return nir.NIRGraph(recorder.nodes, recorder.edges, metadata={ABOUT: json.dumps(about.to_dict())})


class _Layer(nn.Module):
    """Stands for a layer of neurons while the graph is drawn."""

    def __init__(self, path: str, neuron: Neuron, recorder: "_Recorder") -> None:
        super().__init__()
        self.path, self.neuron, self.recorder = path, neuron, recorder

    def forward(self, x: Tensor, residual: Tensor | None = None, time_steps: int | None = None) -> Tensor:
        """Draw the node of ``neuron(x + residual)``."""
        current = x if residual is None else x + residual
        node = _neuron_node(self.recorder.nir, self.neuron, tuple(current.shape[2:]))
        return self.recorder.add(self.path, node, current, torch.zeros(current.shape))


class _Recorder(TorchFunctionMode):
    """Draws a node for each layer that a tensor passes, and knows of each tensor which nodes it is the sum of."""

    def __init__(self, nir: Any, names: Mapping[int, str]) -> None:
        super().__init__()
        self.nir, self.names = nir, names
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        # With each tensor's id the tensor itself, so that no other gets the same id.
        self.sources: dict[int, tuple[Tensor, list[str]]] = {}
        self.layers: dict[str, Callable[..., tuple[str, Any]]] = {
            "conv2d": self._conv,
            "linear": self._linear,
            "avg_pool2d": self._pool,
        }
        # What takes more than one node.
        self.chains: dict[str, Callable[..., None]] = {
            "max_pool2d": self._max_pool,
            "mean": self._mean,
            "adaptive_avg_pool2d": self._whole_pool,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.__name__
        known = [each for each in args if isinstance(each, Tensor) and id(each) in self.sources]
        if not isinstance(out, Tensor) or not known:
            return out
        x = known[0]
        if name in _VIEWS and out.shape[-1] == x.numel() != x.shape[-1]:
            # Of one sample at one time step: its axes become one.
            count = x.dim() - out.dim() + 1
            shape = {"input": np.array(x.shape[-count:])}
            self.add(self._free("flatten"), self.nir.Flatten(shape, start_dim=-count, end_dim=-1), x, out)
        elif name in _VIEWS or (name == "dropout" and out is x):
            self.sources[id(out)] = (out, self.sources[id(x)][1])
        elif name in _SUMS:
            self.sources[id(out)] = (out, [source for each in known for source in self.sources[id(each)][1]])
        elif name in self.chains:
            self.chains[name](x, out, *args[1:], **(kwargs or {}))
        elif name in self.layers:
            path, node = self.layers[name](*args, **(kwargs or {}))
            self.add(path, node, x, out)
        else:
            raise ValueError(f"NIR has no words for {name}, which the network calls; export to onnx")
        return out

    def add(self, path: str, node: Any, x: Tensor, out: Tensor) -> Tensor:
        """Add a node that makes ``out`` of ``x``.

        Raises:
            ValueError: a layer that is called twice, or a sum in which something stands twice.
        """
        sources = self.sources[id(x)][1]
        if path in self.nodes:
            raise ValueError(
                f"NIR has a node for each layer, and {path} is called twice in a time step: give each place a layer of "
                "its own"
            )
        if twice := [source for source in sources if sources.count(source) > 1]:
            raise ValueError(
                f"NIR sums what comes from other nodes, and {path} takes that of {twice[0]} twice; export to onnx"
            )
        self.nodes[path] = node
        self.edges += [(source, path) for source in sources]
        self.sources[id(out)] = (out, [path])
        return out

    def _layer(self, weight: Tensor) -> str:
        return self.names[id(weight)].removesuffix(".weight")

    def _conv(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
    ) -> tuple[str, Any]:
        if groups > 1:
            raise ValueError(
                f"NIR's library has no convolutions in groups whose sizes fit together, such as {self._layer(weight)}; "
                "export to onnx"
            )
        if isinstance(padding, str):
            around = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
            if any(each % 2 for each in around):
                raise ValueError(f"NIR pads both sides alike, which {self._layer(weight)} does not; export to onnx")
            padding = tuple(each // 2 for each in around)
        sizes = {"stride": stride, "padding": padding, "dilation": dilation}
        node = self.nir.Conv2d(
            input_shape=tuple(x.shape[2:]), weight=weight.numpy(), bias=_numbers(bias, weight), groups=groups, **sizes
        )
        return self._layer(weight), node

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[str, Any]:
        return self._layer(weight), self.nir.Affine(weight=weight.numpy(), bias=_numbers(bias, weight))

    def _pool(self, x: Tensor, size: Any, stride: Any, padding: Any = 0, ceil: bool = False, *rest: Any) -> Any:
        self._whole_windows(x, size, stride, padding, ceil)
        return self._free("pool"), self._average(size, stride, padding)

    def _mean(self, x: Tensor, out: Tensor, axes: tuple[int, int]) -> None:
        pooled = self._between(self._free("pool"), self._average(x.shape[-2:], x.shape[-2:], 0), x)
        # Counted from the end, the axes are the same with a batch before them and without.
        shape = {"input": np.array([x.shape[-3], 1, 1])}
        self.add(self._free("flatten"), self.nir.Flatten(shape, start_dim=-3, end_dim=-1), pooled, out)

    def _whole_pool(self, x: Tensor, out: Tensor, size: Any) -> None:
        if out.shape[-2:] != (1, 1):
            raise ValueError(f"NIR has no adaptive pooling but to one pixel, and this is to {size}; export to onnx")
        self.add(self._free("pool"), self._average(x.shape[-2:], x.shape[-2:], 0), x, out)

    def _between(self, path: str, node: Any, x: Tensor) -> Tensor:
        """Add a node whose output no tensor of the network stands for."""
        return self.add(path, node, x, torch.empty(0))

    def _average(self, size: Any, stride: Any, padding: Any) -> Any:
        return self.nir.AvgPool2d(*(np.array(_pair(each)) for each in (size, stride, padding)))

    def _max_pool(
        self, x: Tensor, out: Tensor, size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> None:  # fmt: skip
        sources = self.sources[id(x)][1]
        if not all(type(self.nodes[source]) in (self.nir.LIF, self.nir.IF) for source in sources) or len(sources) > 1:
            raise ValueError("NIR has no max pooling, and only that of spikes can be written otherwise; export to onnx")
        self._whole_windows(x, size, stride, padding, ceil_mode)
        averaged = self._between(self._free("pool"), self._average(size, stride, padding), x)
        height, width = _pair(size)
        self.add(self._free("any"), _any_spike(self.nir, tuple(out.shape[1:]), height * width), averaged, out)

    def _whole_windows(self, x: Tensor, size: Any, stride: Any, padding: Any, ceil: bool) -> None:
        sides = zip(x.shape[-2:], _pair(size), _pair(stride), _pair(padding), strict=True)
        if ceil and any((side + 2 * pad - window) % step for side, window, step, pad in sides):
            raise ValueError(
                f"NIR has no pooling that rounds up, which {x.shape[-2]}x{x.shape[-1]} pixels need; export to onnx"
            )

    def _free(self, kind: str) -> str:
        return f"{kind}{sum(name.startswith(kind) for name in self.nodes)}"


_VIEWS = frozenset({"flatten", "view", "unflatten", "unsqueeze", "squeeze", "expand"})
_SUMS = frozenset({"add", "__add__"})


def _numbers(bias: Tensor | None, weight: Tensor) -> Any:
    return np.zeros(len(weight), np.float32) if bias is None else bias.numpy()


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _neuron_node(nir: Any, neuron: Neuron, shape: tuple[int, ...]) -> Any:
    """Return the node of a layer of neurons ``[C, ...]``; in double precision, so that readers find exact factors."""
    decay = float(neuron.decay)
    each = np.ones(shape)
    if decay == 1.0:
        return nir.IF(r=each / DT, v_threshold=each * neuron.threshold, v_reset=each * 0.0)
    tau = DT / (1.0 - decay)
    return nir.LIF(
        tau=each * tau, r=each * (tau / DT), v_leak=each * 0.0, v_threshold=each * neuron.threshold, v_reset=each * 0.0
    )


def _any_spike(nir: Any, shape: tuple[int, ...], window: int) -> Any:
    """Return a node that fires where the mean over a window of spikes is not 0, which makes of it their maximum.

    It has no memory: what it gets is 0, or enough to fire and so to be reset.
    """
    each = np.ones(shape)
    return nir.LIF(
        tau=each * 2 * DT, r=each * 2.0, v_leak=each * 0.0, v_threshold=each * 0.5 / window, v_reset=each * 0.0
    )
