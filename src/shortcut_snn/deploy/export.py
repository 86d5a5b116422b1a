"""Export: fold, write, load back, compare on real data, and only then keep the file."""

import tempfile
from pathlib import Path

from torch import Tensor

from ..nets import SpikingNetwork
from .check import Agreement, check
from .describe import Description
from .fold import fold
from .formats import FORMATS, file_name
from .torch_runtime import TrainedNetwork


def export_network(
    network: SpikingNetwork, about: Description, images: Tensor, to: str, folder: Path, streaming: bool = False
) -> tuple[Path, Agreement]:
    """Write a trained network in a format and prove on a batch that the file does what the network does.

    Args:
        network: as trained, in float32 on the CPU.
        about: what it is.
        images: real ones, uint8 ``[N, C, H, W]``, or frames of events ``[N, T, C, H, W]``.
        to: a key of ``FORMATS``.
        folder: where the file goes; created.
        streaming: a graph of one time step, whose membrane potentials are inputs and outputs.

    Returns:
        The file, and how near it is to the network.

    Raises:
        OSError: a package that the format needs is not installed.
        ValueError: the format has no words for the network, or what was written does not do the same; the message
            says which layer differs first. No file is left then, and one that was there before stays.
    """
    name = file_name(to, streaming)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as trial:
        runtime = FORMATS[to].make(fold(network), about, Path(trial) / name, streaming)
        agreement = check(TrainedNetwork(network, about), runtime, images)
        (Path(trial) / name).replace(folder / name)
    return folder / name, agreement
