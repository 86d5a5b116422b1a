"""Check that a batch fits into the memory of this machine, before anything is allocated.

Linux kills a process that runs out of memory without an error, so the check gives the error.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..components import Config, component_of
from ..data import Data
from ..nets import build_network
from .recipe import Recipe


def check_memory(recipe: Recipe, data: Data) -> None:
    """Refuse a training batch of a built-in network that cannot fit into memory. One that passes may still not fit.

    The network of one time step runs on the meta device, which allocates nothing. Counted are the weights, and the
    outputs of convolutions and linear layers at all time steps. The backward pass through time needs all outputs;
    otherwise the largest one counts.

    Raises:
        ValueError: the message gives the memory that is needed.
    """
    if not component_of(recipe.network).is_built_in:
        return
    weights, outputs = _count_numbers(recipe, data.description)
    keeps_all = component_of(recipe.method.gradient).name == "bptt"
    per_step = sum(outputs) if keeps_all else max(outputs, default=0)
    samples: Any = getattr(data, "train", None)
    batch_size = getattr(recipe.data, "batch_size", 1)
    if hasattr(samples, "__len__"):
        batch_size = min(batch_size, len(samples))
    bytes_per_output = 4 if recipe.training.precision == "fp32" else 2
    steps = recipe.time_steps or 1
    needed = 4 * weights + bytes_per_output * batch_size * steps * per_step
    if needed > (available := _available_memory()):
        raise ValueError(
            f"network.width, network.time_steps ({steps:,}) or data.batch_size ({batch_size:,}) is too large: at least "
            f"{needed / 2**30:,.1f} GiB of memory are needed, and {available / 2**30:,.1f} GiB are there"
        )


def _count_numbers(recipe: Recipe, description: Mapping[str, Any]) -> tuple[int, list[int]]:
    """Return the number of weights, and of the outputs of each layer in a time step of one image."""
    with torch.device("meta"):
        network: Any = build_network(_single_step(recipe.network), _single_step(recipe.neuron), description)
    outputs: list[int] = []

    def count(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs.append(output.numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    if "image_size" in description:
        shape = (1, network.in_channels, *description["image_size"])
        # An image that is too small for the network raises a clearer error later.
        with suppress(RuntimeError, ValueError), torch.no_grad():
            network.eval()(torch.zeros(shape if description.get("kind") == "static" else (1, *shape), device="meta"))
    return sum(parameter.numel() for parameter in network.parameters()), outputs


def _single_step(config: Any) -> Any:
    if not isinstance(config, Config) or "time_steps" not in config.options:
        return config
    return dataclasses.replace(config, options={**config.options, "time_steps": 1})


def _available_memory() -> float:
    """Return the larger of the memory of this machine, or container, and of its GPUs, in bytes."""
    if not hasattr(os, "sysconf"):
        return math.inf
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            memory = min(memory, int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii")))
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return max([memory, *(torch.cuda.get_device_properties(index).total_memory for index in devices)])
