"""Export of a trained network: fold, write, load back, compare on real data, and only then keep the file."""

import copy
import tempfile
from pathlib import Path

from torch import Tensor, nn

from .. import components
from .check import CHUNK, Agreement, check, compare, in_chunks, network_logits
from .folding import fold
from .int8 import to_int8
from .prepare import Prepare
from .runtime import Exporter
from .spec import NetworkSpec


def file_name(exporter: Exporter, streaming: bool = False) -> str:
    """Return the name of a format's file.

    Raises:
        ValueError: the format has no file of a single time step.
    """
    name = exporter.step_file if streaming else exporter.file
    if name is None:
        raise ValueError(f"streaming: {components.component_of(exporter).name} has no file of a single time step")
    return name


def export_network(
    network: nn.Module,
    spec: NetworkSpec,
    images: Tensor,
    to: str | Exporter,
    folder: Path,
    streaming: bool = False,
) -> tuple[Path, Agreement]:
    """Write a trained network to a file and check on a batch that the file computes the network's logits.

    Args:
        network: the trained network, in float32 on the CPU.
        spec: the network's specification.
        images: real inputs, uint8 ``[N, C, H, W]``, or frames of events ``[N, T, C, H, W]``.
        to: an export format (a component of the kind ``components.exporter``), or its name.
        folder: folder of the file; created if it is missing.
        streaming: write a graph of one time step, whose membrane potentials are inputs and outputs.

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
    name = file_name(exporter, streaming)
    half, int8 = getattr(exporter, "half", False), getattr(exporter, "int8", False)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as trial:
        path = Path(trial) / name
        folded = fold(network, spec.example())
        if int8:
            folded = to_int8(folded, Prepare(spec)(images[:CHUNK]))
        exported = exporter.export(folded, spec, path, streaming)
        if half or int8:
            # Rounded weights flip spikes, so the file has to compute what the network with such weights does.
            rounded = folded if int8 else copy.deepcopy(folded).half().float()
            check(rounded, spec, exported, images)
            agreement = compare(network_logits(network, spec, images), in_chunks(exported.logits, images))
        else:
            agreement = check(network, spec, exported, images)
        path.replace(folder / name)
    return folder / name, agreement
