"""NIR files: written by nir, run by nirtorch with neurons as NIR specifies them.

Nodes are layers, edges are currents and spikes, and edges that meet are summed. NIR (Pedersen et al., "Neuromorphic
Intermediate Representation", Nature Communications 2024) describes neurons by differential equations: ``tau dv/dt =
(v_leak - v) + r I`` for LIF and ``dv/dt = r I`` for IF, with a spike where ``v > v_threshold`` and then ``v =
v_reset``. With a step ``dt`` they equal the neurons of this package for ``tau = dt / (1 - decay)`` and ``r = tau /
dt``, and for IF ``r = 1 / dt``. An I-LIF neuron without memory is one LIF neuron for each of its spikes.
"""

import copy
import json
from collections.abc import MutableMapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from .. import components
from ..introspection.neurons import spiking_layers
from ..nets import SelfAttention, SpikingNetwork, TokenAttention
from ..neurons import ILIF
from ..neurons.modules import is_lif
from .exporter import Exporter, Logits, mean_over_steps, require
from .single_step import check_has_single_steps
from .spec import NetworkSpec, Prepare

DT = 1e-4  # time step in seconds that snnTorch and SpikingJelly assume


def nir_graph(network: nn.Module, spec: NetworkSpec) -> Any:
    """Return the NIR graph of one time step; its input is normalised, its output the logits of the step."""
    nir = require("nir", "NIR export")
    check_has_single_steps(network)
    _check_representable(network)
    network = copy.deepcopy(network)
    assert isinstance(network, SpikingNetwork)
    recorder = _Recorder(nir, network)
    for path, layer in spiking_layers(network).items():
        network.set_submodule(path, _RecordedNeuron(path, layer.neuron, recorder))
    network.time_steps = 1
    frame = torch.zeros(1, 1, *spec.input_shape[-3:])
    recorder.nodes["input"] = nir.Input({"input": np.array(frame.shape[2:])})
    recorder.sources[frame] = ["input"]
    with torch.no_grad(), recorder:
        logits = network.classifier(network.features(frame).squeeze(0))
    recorder.add("output", nir.Output({"output": np.array(logits.shape[1:])}), logits, logits)
    return nir.NIRGraph(recorder.nodes, recorder.edges, metadata={"shortcut_snn": json.dumps(spec.to_dict())})


def _check_representable(network: nn.Module) -> None:
    for path, module in network.named_modules():
        if isinstance(module, TokenAttention | SelfAttention):
            raise _unsupported(f"products of spikes with spikes, as in {path}")
    for path, layer in spiking_layers(network).items():
        neuron: Any = layer.neuron
        if type(neuron) is ILIF:
            if network.time_steps != 1 and float(neuron.decay):
                reason = "a NIR neuron that fires is set to a constant, and I-LIF keeps the rest of its potential"
                raise _unsupported(f"I-LIF neurons over several time steps, as in {path}: {reason}")
            continue
        if not is_lif(neuron):
            raise _unsupported(f"{type(neuron).__name__} neurons, as in {path}")
        if neuron.reset != "hard":
            raise _unsupported(f"a soft reset, as in {path}")


def _unsupported(what: str) -> ValueError:
    return ValueError(f"NIR cannot represent {what}; export to onnx instead")


class _RecordedNeuron(nn.Module):
    """A layer of neurons that adds its node to the graph and returns zeros."""

    def __init__(self, path: str, neuron: Any, recorder: "_Recorder") -> None:
        super().__init__()
        self.path, self.neuron, self.recorder = path, neuron, recorder

    def forward(self, x: Tensor, residual: Tensor | None = None, time_steps: int | None = None) -> Tensor:
        current = x if residual is None else x + residual
        nodes = _neuron_nodes(self.recorder.nir, self.neuron, tuple(current.shape[2:]))
        paths, spikes = [f"{self.path}{ending}" for ending in nodes], torch.zeros(current.shape)
        for path, node in zip(paths, nodes.values(), strict=True):
            self.recorder.add(path, node, current, spikes)
        self.recorder.sources[spikes] = paths
        return spikes


class _Recorder(TorchFunctionMode):
    """Add a node for each layer that runs, and remember for each tensor the nodes whose outputs it sums."""

    def __init__(self, nir: Any, network: nn.Module) -> None:
        super().__init__()
        self.nir = nir
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.sources: MutableMapping[Tensor, list[str]] = WeakTensorKeyDictionary()
        self.layer_of = {id(weight): path.removesuffix(".weight") for path, weight in network.named_parameters()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and any(isinstance(x, Tensor) and x in self.sources for x in args):
            name = func.__name__.removeprefix("__").removesuffix("__")
            if (record := getattr(self, f"on_{name}", None)) is None:
                raise _unsupported(f"the function {func.__name__}")
            record(output, *args, **(kwargs or {}))
        return output

    def add(self, path: str, node: Any, x: Tensor, output: Tensor) -> Tensor:
        """Add a node that computes ``output`` from ``x``."""
        sources = self.sources[x]
        if path in self.nodes:
            raise _unsupported(f"{path}, which is called twice in a time step")
        for source in sources:
            if sources.count(source) > 1:
                raise _unsupported(f"{path}, which takes the output of {source} twice")
        self.nodes[path] = node
        self.edges += [(source, path) for source in sources]
        self.sources[output] = [path]
        return output

    def _unique(self, kind: str) -> str:
        return f"{kind}{sum(name.startswith(kind) for name in self.nodes)}"

    # One method per torch function, on_NAME: its output, then its arguments.

    def _same(self, output: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> None:
        self.sources[output] = self.sources[x]

    def on_add(self, output: Tensor, a: Tensor, b: Any, **kwargs: Any) -> None:
        terms = [x for x in (a, b) if isinstance(x, Tensor) and x in self.sources]
        self.sources[output] = [source for x in terms for source in self.sources[x]]

    def on_view(self, output: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> None:
        if output.shape[-1] != x.numel() or output.shape[-1] == x.shape[-1]:
            self._same(output, x)
            return
        # The batch and time axes have length 1, so the channel and image axes became one.
        merged = x.dim() - output.dim() + 1
        node = self.nir.Flatten({"input": np.array(x.shape[-merged:])}, start_dim=-merged, end_dim=-1)
        self.add(self._unique("flatten"), node, x, output)

    on_dropout = _same
    on_flatten = on_unflatten = on_unsqueeze = on_squeeze = on_expand = on_view

    def on_conv2d(self, output: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> None:
        path = self.layer_of[id(weight)]
        options = dict(zip(("stride", "padding", "dilation", "groups"), args, strict=True))
        if options["groups"] > 1:
            raise _unsupported(f"grouped convolutions, as in {path}")
        if isinstance(options["padding"], str):
            raise _unsupported(f"padding={options['padding']!r}, as in {path}")
        node = self.nir.Conv2d(tuple(x.shape[2:]), weight.numpy(), bias=_bias(bias, weight), **options)
        self.add(path, node, x, output)

    def on_linear(self, output: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        node = self.nir.Affine(weight=weight.numpy(), bias=_bias(bias, weight))
        self.add(self.layer_of[id(weight)], node, x, output)

    def on_avg_pool2d(
        self, output: Tensor, x: Tensor, size: Any, stride: Any, padding: Any = 0, ceil_mode: bool = False, *args: Any
    ) -> Tensor:
        sides = zip(x.shape[-2:], _pair(size), _pair(stride), _pair(padding), strict=True)
        if ceil_mode and any((side + 2 * pad - window) % step for side, window, step, pad in sides):
            raise _unsupported(f"pooling that rounds up, as for {x.shape[-2]} x {x.shape[-1]} pixels")
        node = self.nir.AvgPool2d(*(np.array(_pair(value)) for value in (size, stride, padding)))
        return self.add(self._unique("pool"), node, x, output)

    def on_adaptive_avg_pool2d(self, output: Tensor, x: Tensor, size: Any) -> None:
        if output.shape[-2:] != (1, 1):
            raise _unsupported(f"adaptive pooling to {size} pixels")
        self.on_avg_pool2d(output, x, x.shape[-2:], x.shape[-2:])

    def on_mean(self, output: Tensor, x: Tensor, axes: Any) -> None:
        pooled = self.on_avg_pool2d(torch.empty(0), x, x.shape[-2:], x.shape[-2:])
        # Counted from the end, so that the axes are the same with and without a batch axis.
        node = self.nir.Flatten({"input": np.array([x.shape[-3], 1, 1])}, start_dim=-3, end_dim=-1)
        self.add(self._unique("flatten"), node, pooled, output)

    def on_max_pool2d(
        self, output: Tensor, x: Tensor, size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> None:  # fmt: skip
        """Write the maximum of spikes as their mean and a neuron that fires where the mean is not 0."""
        sources = self.sources[x]
        if len(sources) > 1 or not isinstance(self.nodes[sources[0]], self.nir.LIF | self.nir.IF):
            raise _unsupported("max pooling of anything but spikes")
        mean = self.on_avg_pool2d(torch.empty(0), x, size, stride, padding, ceil_mode)
        height, width = _pair(size)
        # One spike fires it, and firing resets it, so it keeps nothing from one step to the next.
        node = _lif_node(self.nir, tuple(output.shape[1:]), decay=0.5, threshold=0.5 / (height * width))
        self.add(self._unique("any"), node, mean, output)


def _bias(bias: Tensor | None, weight: Tensor) -> Any:
    return np.zeros(len(weight), np.float32) if bias is None else bias.numpy()


def _neuron_nodes(nir: Any, neuron: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the nodes of a layer of neurons ``[C, ...]``, whose spikes are summed, by the endings of their names."""
    decay, threshold = float(neuron.decay), float(neuron.threshold)
    if type(neuron) is ILIF:
        # Spike n is fired from (n - 0.5) thresholds on; exactly there, the count is the even neighbour.
        middles = {n: np.float32((n - 0.5) * threshold) for n in range(1, neuron.max_spikes + 1)}
        levels = {n: np.nextafter(v, np.float32(0)) if n % 2 == 0 else v for n, v in middles.items()}
        # In a single step any decay gives the same, and SpikingJelly refuses 0.
        memory = 0.5 if decay else 0.0
        return {f".{n}": _lif_node(nir, shape, memory, float(level)) for n, level in levels.items()}
    if decay < 1.0:
        return {"": _lif_node(nir, shape, decay, threshold)}
    ones = np.ones(shape)
    return {"": nir.IF(r=ones / DT, v_threshold=ones * threshold, v_reset=ones * 0.0)}


def _lif_node(nir: Any, shape: tuple[int, ...], decay: float, threshold: float) -> Any:
    """Return the node of ``v = decay * v + I``, in double precision, so that readers find exact factors."""
    ones, zeros, tau = np.ones(shape), np.zeros(shape), DT / (1.0 - decay)
    return nir.LIF(tau=ones * tau, r=ones * (tau / DT), v_leak=zeros, v_threshold=ones * threshold, v_reset=zeros)


@components.exporter("nir")
@dataclass(frozen=True)
class NIR(Exporter):
    """A NIR graph of one time step, for simulators and neuromorphic hardware."""

    file = "network.nir"

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path) -> Logits:
        """Write the file and return a function that runs it; see :meth:`.Exporter.export`."""
        graph = nir_graph(network, spec)
        # HDF5 crashes the process on a full disk.
        content = BytesIO()
        require("nir", "NIR export").write(content, graph)
        path.write_bytes(content.getbuffer())
        return nir_logits(path, spec)


def nir_logits(path: Path, spec: NetworkSpec) -> Logits:
    """Return a function that runs a NIR file. Trust the file: nirtorch makes Python code of the names in it."""
    nir, nirtorch = require("nir", "NIR export"), require("nirtorch", "NIR export")
    prepare = Prepare(spec)
    modules = {nir.LIF: EulerNeuron, nir.IF: EulerNeuron, nir.Affine: _linear}
    module = nirtorch.nir_to_torch(nir.read(path), modules).eval()

    @torch.inference_mode()
    def step(frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        # nirtorch changes the state in place.
        logits, state = module(prepare(frame), copy.copy(state))
        return logits, state

    return mean_over_steps(step, spec)


class EulerNeuron(nn.Module):
    """``v[t] = decay * v[t - 1] + gain * I[t]``, a spike where ``v > threshold``, then ``v = reset``."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        # Only LIF nodes have a time constant.
        decay, gain = (1.0 - DT / node.tau, node.r * DT / node.tau) if hasattr(node, "tau") else (1.0, node.r * DT)
        self.decay, self.gain, self.threshold, self.reset = (
            torch.from_numpy(np.asarray(value, np.float32)) for value in (decay, gain, node.v_threshold, node.v_reset)
        )

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return spikes and the membrane potential."""
        v = self.gain * x if state is None else self.decay * state + self.gain * x
        fired = v > self.threshold
        return fired.to(x.dtype), torch.where(fired, self.reset, v)


def _linear(node: Any) -> nn.Linear:
    # nirtorch's own function loses the bias.
    layer = nn.Linear(node.weight.shape[1], node.weight.shape[0])
    layer.weight.data, layer.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
    return layer
