"""Export of a trained network: fold, write, load back, compare on real data, and only then keep the file."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import components
from .._utils.calls import call_on
from .._utils.files import remove_strays, replacing
from ..components import component_of
from ..method import Shortcut
from ..neurons import Neuron
from .check import CHUNK, Agreement, check, compare, in_chunks, network_logits
from .exporter import Exporter, Logits
from .folding import fold
from .onnx_export import ONNX
from .spec import NetworkSpec, Prepare
from .torch_export import TorchExport


class OneCall(nn.Module):
    """Map a batch to logits as the wrapper of a network does."""

    def __init__(self, model: Shortcut) -> None:
        super().__init__()
        self.network, self.layout = model.network, model.layout

    def forward(self, x: Tensor) -> Any:
        """Return the logits, and leave the network in its initial state."""
        self._reset_network()
        output = call_on(self.network, self.layout.run, x)
        self._reset_network()
        return self.layout.read(output)

    def _reset_network(self) -> None:
        if self.layout.reset is not None:
            self.layout.reset(self.network)


def without_wrapper(network: nn.Module) -> nn.Module:
    """Return a wrapper's network if its neurons are built in, and else the network as one call."""
    if not isinstance(network, Shortcut):
        return network
    is_built_in = any(isinstance(module, Neuron) for module in network.network.modules())
    return network.network if is_built_in else OneCall(network)


def export_network(
    network: nn.Module, spec: NetworkSpec, images: Tensor, to: str | Exporter, folder: Path
) -> tuple[Path, Agreement]:
    """Write a trained network to a file and check on a batch that the file computes the network's logits.

    Args:
        network: the trained network, in float32 on the CPU. Wrap one without neurons of this package by
            :func:`shortcut_snn.attach`, which knows its time loop, its reset and its logits.
        spec: the network's specification.
        images: real inputs, uint8 ``[N, C, H, W]``, or frames of events ``[N, T, C, H, W]``.
        to: an export format with its options, such as ``ONNX(int8=True)``, or the name of a format.
        folder: folder of the file; created if it is missing.

    Returns:
        The file, and its agreement with the network. A file of half-precision or int8 weights is checked against the
        network with these weights; its agreement with the network itself is for the caller to judge.

    Raises:
        OSError: a package that the format needs is not installed.
        ValueError: the format cannot represent the network, or the file computes something else. The folder then
            stays as it was.

    Example:
        >>> import tempfile, torch
        >>> from shortcut_snn.deploy import NetworkSpec, export_network, load
        >>> spec = NetworkSpec.from_dict({
        ...     "network": {"kind": "resnet8", "width": 4, "time_steps": 2}, "neuron": "lif",
        ...     "data": {"classes": ["cat", "dog"], "channels": 3, "image_size": [8, 8], "kind": "static",
        ...              "mean": [0.5] * 3, "std": [0.25] * 3},
        ... })
        >>> images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path, agreement = export_network(spec.build(), spec, images, "safetensors", Path(folder))
        ...     path.name, agreement.agree, load(folder).classes
        ('network.safetensors', 4, ('cat', 'dog'))
    """
    exporter: Exporter = components.exporter.make(to) if isinstance(to, str) else to
    exported = export_checked(network, spec, images, exporter, folder)
    return exported.path, exported.agreement


@dataclass(frozen=True)
class Exported:
    """A file that has passed its check.

    Args:
        logits: runs the file.
        is_rounded: whether its weights are rounded, and may predict other classes than the network's.
    """

    path: Path
    agreement: Agreement
    logits: Logits
    is_rounded: bool


def export_checked(network: nn.Module, spec: NetworkSpec, images: Tensor, exporter: Exporter, folder: Path) -> Exported:
    """Write a file, check it and return it; see :func:`export_network`."""
    network = without_wrapper(network)
    if isinstance(network, OneCall):
        if exporter not in (ONNX(), TorchExport()):
            raise ValueError(
                f"{component_of(exporter).name} files with these options hold only networks with neurons of this "
                "package: export to onnx or torch-export"
            )
        folded: nn.Module = copy.deepcopy(network).eval().requires_grad_(False)
    else:
        folded = fold(network, spec.example())
    rounded = exporter.rounded(folded, Prepare(spec)(images[:CHUNK]))
    remove_strays(folder)
    with replacing(folder / exporter.file) as path:
        logits = exporter.export(rounded, spec, path)
        # Rounded weights flip spikes, so the file has to compute what the network with such weights does.
        agreement = check(network if rounded is folded else rounded, spec, logits, images)
        if rounded is not folded:
            agreement = compare(network_logits(network, spec, images), in_chunks(logits, images))
    return Exported(folder / exporter.file, agreement, logits, rounded is not folded)
