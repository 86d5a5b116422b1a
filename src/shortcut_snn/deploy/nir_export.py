"""Networks as NIR files, and these run by nirtorch: neurons as NIR specifies them, a step of ``DT`` at a time."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .. import components
from ..files import replacing
from .describe import Description
from .extra import need
from .nir_graph import DT, nir_graph
from .prepare import Prepare
from .runtime import Runtime, State, by_steps
from .torch_runtime import spikes_of


@components.exporter("nir")
@dataclass(frozen=True)
class NIR:
    """A NIR graph."""

    file: ClassVar[str] = "network.nir"
    streamed: ClassVar[str | None] = None
    says: ClassVar[str] = "graph of one time step for simulators and neuromorphic hardware"

    def make(self, network: nn.Module, about: Description, path: Path, streaming: bool) -> Runtime:
        """Write it; see :class:`~.runtime.Exporter`."""
        write_nir(nir_graph(network, about), path)
        return NirRuntime(path, about)


def write_nir(graph: Any, path: Path) -> None:
    """Write a graph as a NIR file (HDF5), whole or not at all."""
    with replacing(path) as temporary:
        need("nir", "NIR export").write(temporary, graph)


class EulerNeuron(nn.Module):
    """``v[t] = decay * v[t - 1] + gain * I[t]``, a spike where ``v > threshold``, then ``v = reset``."""

    decay: Tensor
    gain: Tensor
    threshold: Tensor
    after: Tensor

    def __init__(self, decay: Any, gain: Any, threshold: Any, reset: Any) -> None:
        super().__init__()
        for name, value in {"decay": decay, "gain": gain, "threshold": threshold, "after": reset}.items():
            self.register_buffer(name, torch.from_numpy(np.asarray(value, np.float32)))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return spikes and the membrane potential."""
        v = self.gain * x if state is None else self.decay * state + self.gain * x
        fired = v > self.threshold
        return fired.to(x.dtype), torch.where(fired, self.after, v)


def _lif(node: Any) -> EulerNeuron:
    if np.any(node.v_leak != 0):
        raise ValueError("only membrane potentials that leak to 0 are run")
    return EulerNeuron(1.0 - DT / node.tau, node.r * DT / node.tau, node.v_threshold, node.v_reset)


def _if(node: Any) -> EulerNeuron:
    return EulerNeuron(np.ones_like(node.r), node.r * DT, node.v_threshold, node.v_reset)


def _affine(node: Any) -> nn.Linear:
    layer = nn.Linear(node.weight.shape[1], node.weight.shape[0])
    layer.weight.data, layer.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
    return layer


def _conv(node: Any) -> nn.Conv2d:
    sizes: dict[str, Any] = {
        name: tuple(int(side) for side in np.broadcast_to(getattr(node, name), 2))
        for name in ("stride", "padding", "dilation")
    }
    outputs, inputs, *kernel = node.weight.shape
    groups = int(node.groups)
    layer = nn.Conv2d(inputs * groups, outputs, (kernel[0], kernel[1]), groups=groups, bias=False, **sizes)
    layer.weight.data, layer.bias = torch.from_numpy(node.weight), nn.Parameter(torch.from_numpy(node.bias))
    return layer


class NirRuntime:
    """A NIR file in nirtorch.

    Args:
        path: of a file that was just written: nirtorch makes Python code of its nodes' names.
        about: what it is.

    Raises:
        OSError: nir or nirtorch is not installed.
    """

    def __init__(self, path: Path, about: Description) -> None:
        nir, nirtorch = need("nir", "NIR export"), need("nirtorch", "NIR export")
        self.about, self.prepare, graph = about, Prepare(about), nir.read(path)
        self.names = [name for name, node in graph.nodes.items() if type(node) in (nir.LIF, nir.IF)]
        nodes = {nir.LIF: _lif, nir.IF: _if, nir.Conv2d: _conv, nir.Affine: _affine}
        self.module = nirtorch.nir_to_torch(graph, nodes).eval()

    def whole(self, images: Tensor) -> Tensor:
        """Return logits; see :class:`~.runtime.Runtime`."""
        return by_steps(self, images, self.about.time_steps)

    @torch.inference_mode()
    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, State]:
        """Return a step's logits and the membrane potentials; see :class:`~.runtime.Runtime`."""
        # nirtorch changes the state that it is given.
        logits, after = self.module(self.prepare(frame), copy.copy(state))
        return logits, after

    def spikes(self, images: Tensor) -> dict[str, Tensor]:
        """Return every layer's spikes; see :class:`~.runtime.Runtime`."""
        layers = {name: self.module.get_submodule(name.replace(".", "_")) for name in self.names}
        found = spikes_of(layers, lambda: self.whole(images))
        steps = self.about.time_steps
        return {name: spikes.view(steps, -1, *spikes.shape[1:]) for name, spikes in found.items()}
