"""Export: fold, write, load back, compare on real data, and only then keep the file."""

import copy
import tempfile
from pathlib import Path

from torch import Tensor, nn

from .. import components
from .check import PART, Agreement, check, compare, whole
from .describe import Description
from .folding import fold
from .int8 import to_int8
from .prepare import Prepare
from .runtime import Exporter
from .torch_runtime import TrainedNetwork


def file_name(exporter: Exporter, streaming: bool = False) -> str:
    """Return the name of a format's file.

    Raises:
        ValueError: the format has no file of a single time step.
    """
    name = exporter.streamed if streaming else exporter.file
    if name is None:
        kind = components.component_of(exporter).name
        raise ValueError(f"--streaming: there is no {kind} file of a single time step; leave it out")
    return name


def export_network(
    network: nn.Module,
    about: Description,
    images: Tensor,
    to: str | Exporter,
    folder: Path,
    streaming: bool = False,
    labels: Tensor | None = None,
) -> tuple[Path, Agreement]:
    """Write a trained network in a format and prove on a batch that the file does what the network does.

    Args:
        network: as trained, in float32 on the CPU; it is left as it was.
        about: what it is.
        images: real ones, uint8 ``[N, C, H, W]``, or frames of events ``[N, T, C, H, W]``.
        to: the format: a component of the kind ``components.exporter``, or its name.
        folder: where the file goes; created.
        streaming: a graph of one time step, whose membrane potentials are inputs and outputs.
        labels: of the images, ``[N]``, where there are any: accuracy may not fall (see :class:`~.check.Agreement`).

    Returns:
        The file, and how near it is to the network. One with coarser weights, in half precision or in int8, has to do
        what the network with such weights does; how near that is to the network is for the caller to judge.

    Raises:
        OSError: a package that the format needs is not installed.
        ValueError: the format has no words for the network, or what was written does not do the same; the message
            says which layer differs first. No file is left then, and one that was there before stays.

    Example:
        >>> import tempfile, torch
        >>> from shortcut_snn.deploy import Description, export_network, load
        >>> data = {"classes": ["cat", "dog"], "channels": 3, "image_size": [8, 8], "kind": "static"}
        >>> about = Description.from_about({
        ...     "network": {"kind": "resnet8", "width": 4, "time_steps": 2}, "neuron": "lif",
        ...     "data": data | {"mean": [0.5] * 3, "std": [0.25] * 3},
        ... })
        >>> images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path, agreement = export_network(about.build(), about, images, "safetensors", Path(folder))
        ...     path.name, agreement.agree, load(folder).classes
        ('network.safetensors', 4, ('cat', 'dog'))
    """
    exporter: Exporter = components.exporter.make(to) if isinstance(to, str) else to
    name = file_name(exporter, streaming)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as trial:
        folded, trained = fold(network, about.blank()), TrainedNetwork(network, about)
        half, int8 = getattr(exporter, "half", False), getattr(exporter, "int8", False)
        folded = to_int8(folded, Prepare(about)(images[:PART])) if int8 else folded
        runtime = exporter.make(folded, about, Path(trial) / name, streaming)
        if half or int8:
            # Coarser weights flip spikes, so the file has to do what the network with such weights does.
            coarse = copy.deepcopy(folded).half().float() if half else folded
            check(TrainedNetwork(coarse, about), runtime, images, labels)
            agreement = compare(whole(trained, images), whole(runtime, images))
        else:
            agreement = check(trained, runtime, images, labels)
        (Path(trial) / name).replace(folder / name)
    return folder / name, agreement
