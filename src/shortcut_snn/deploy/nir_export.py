"""NIR files: written by nir, run by nirtorch with neurons as NIR specifies them."""

import copy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import components
from .exporter import Exporter, Logits, frames_of, require
from .nir_graph import DT, nir_graph
from .spec import NetworkSpec, Prepare


@components.exporter("nir")
@dataclass(frozen=True)
class NIR(Exporter):
    """A NIR graph."""

    file = "network.nir"
    summary = "graph of one time step for simulators and neuromorphic hardware"

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
    modules = {nir.LIF: _lif, nir.IF: _if, nir.Conv2d: _conv, nir.Affine: _linear}
    module = nirtorch.nir_to_torch(nir.read(path), modules).eval()

    @torch.inference_mode()
    def logits(images: Tensor) -> Tensor:
        state, outputs = None, []
        for frame in frames_of(images, spec):
            # nirtorch changes the state in place.
            output, state = module(prepare(frame), copy.copy(state))
            outputs.append(output)
        return torch.stack(outputs).mean(0)

    return logits


class EulerNeuron(nn.Module):
    """``v[t] = decay * v[t - 1] + gain * I[t]``, a spike where ``v > threshold``, then ``v = reset``."""

    def __init__(self, decay: Any, gain: Any, threshold: Any, reset: Any) -> None:
        super().__init__()
        self.decay, self.gain, self.threshold, self.reset = (
            torch.from_numpy(np.asarray(value, np.float32)) for value in (decay, gain, threshold, reset)
        )

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return spikes and the membrane potential."""
        v = self.gain * x if state is None else self.decay * state + self.gain * x
        fired = v > self.threshold
        return fired.to(x.dtype), torch.where(fired, self.reset, v)


def _lif(node: Any) -> EulerNeuron:
    return EulerNeuron(1.0 - DT / node.tau, node.r * DT / node.tau, node.v_threshold, node.v_reset)


def _if(node: Any) -> EulerNeuron:
    return EulerNeuron(np.ones_like(node.r), node.r * DT, node.v_threshold, node.v_reset)


# nirtorch's own functions for these layers lose the bias, or exchange inputs and outputs.


def _linear(node: Any) -> nn.Linear:
    layer = nn.Linear(node.weight.shape[1], node.weight.shape[0])
    layer.weight.data, layer.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
    return layer


def _conv(node: Any) -> nn.Conv2d:
    options: dict[str, Any] = {
        name: tuple(int(value) for value in np.broadcast_to(getattr(node, name), 2))
        for name in ("stride", "padding", "dilation")
    }
    outputs, inputs, *kernel = node.weight.shape
    layer = nn.Conv2d(inputs, outputs, (kernel[0], kernel[1]), **options)
    layer.weight.data, layer.bias = torch.from_numpy(node.weight), nn.Parameter(torch.from_numpy(node.bias))
    return layer
