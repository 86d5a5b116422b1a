"""Networks out of safetensors files: those of a run, and folded ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..nets import SpikingNetwork
from .describe import Description, describe, from_run
from .fold import fold
from .weights import check_fits, read_network, save_network


def write_folded(network: SpikingNetwork, about: Description, path: Path) -> None:
    """Write a folded network and what is needed to build it again."""
    save_network(network, path, {"folded": about.to_dict()})


def read_folded(path: Path) -> tuple[SpikingNetwork, Description]:
    """Return a network, ready for inference, from a file of either kind, and what it is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or not one of a network of ours.
    """
    state, about = read_network(path)
    folded = "folded" in about
    try:
        described = (
            describe(_part(about, "folded")) if folded else from_run(_part(about, "recipe"), _part(about, "data"))
        )
        # Without memory: the file decides how much of it there is, once names and shapes are found to be right.
        with torch.device("meta"):
            network = described.network().eval()
            network = fold(network) if folded else network
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not say what network it holds: {' '.join(str(error).split())}") from None
    check_fits(network, state, path)
    wrong = [name for name, own in network.state_dict().items() if own.dtype != state[name].dtype]
    if wrong:
        raise ValueError(f"{path} does not fit the network ({wrong[0]} is of the type {state[wrong[0]].dtype})")
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ValueError(f"{path} holds what is no number, in {bad[0]}")
    network.load_state_dict(state, assign=True)
    return (network.requires_grad_(False) if folded else fold(network)), described


def _part(about: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = about.get(name)
    if not isinstance(part, Mapping):
        raise ValueError(f"{name} is missing")
    return part
