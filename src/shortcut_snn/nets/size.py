"""How much memory a network takes at the least, found out without taking any."""

import dataclasses
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..inspection import hooked
from ..machine import check_memory, memory
from .network import build_network


def check_size(
    network: Any, neuron: Any, description: Mapping[str, Any], *, batch: int = 1, trains: bool = False, size: int = 4
) -> None:
    """Refuse a network that does not fit into this machine, or not for so many time steps or images at once.

    Counted are its weights and, of our networks, the outputs of its layers over all time steps: all of them where it
    trains, since the backward pass needs them; else the largest. It takes more than that.

    Args:
        network: options of a registered network.
        neuron: options of a registered neuron.
        description: of the data; see :func:`.build_network`.
        batch: images at once.
        trains: whether outputs are kept for a backward pass through time.
        size: bytes of a number.

    Raises:
        TooLarge: the message says how much it would be.

    Example:
        >>> from shortcut_snn import components
        >>> data = {"classes": ["cat", "dog"], "channels": 3, "image_size": [32, 32], "kind": "static"}
        >>> network = components.network.make("resnet20", width=4, time_steps=10**7)
        >>> check_size(network, components.neuron.make("lif"), data, batch=64)
        Traceback (most recent call last):
        ...
        shortcut_snn.machine.TooLarge: network.time_steps: for 10,000,000 steps ...
    """
    if network.component.factory.__module__.partition(".")[0] != __name__.partition(".")[0]:
        # A person's own: it need not bear to be built for nothing.
        return
    steps, there = getattr(network, "time_steps", 1), memory()
    if torch.cuda.is_available():
        there = max(
            there, *(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
        )
    described = json.dumps(description, sort_keys=True, default=str)
    weights, outputs = _sizes(network, neuron, described)
    check_memory(weights, "network.width", "choose a narrower or a shallower network", there)
    check_memory(
        size * batch * steps * (sum(outputs) if trains else max(outputs, default=0)) + weights,
        f"network.time_steps: for {steps:,} steps of {batch:,} image{'s' * (batch > 1)} at once",
        "choose fewer steps, smaller batches (data.batch_size) or a narrower network",
        there,
    )


def _sizes(network: Any, neuron: Any, described: str) -> tuple[int, tuple[int, ...]]:
    """Bytes of a network's weights, and how many numbers each of its layers gives in a step of one image."""
    description = json.loads(described)
    try:
        with torch.device("meta"):
            built: Any = build_network(_one_step(network), _one_step(neuron), description)
        weights = 4 * sum(parameter.numel() for parameter in built.parameters())
    except (RuntimeError, TypeError) as error:
        if "overflow" not in str(error).lower():
            raise
        # So many that torch cannot count them.
        return 2**63, ()
    if "image_size" not in description:
        return weights, ()
    outputs: list[int] = []

    def note(name: str, module: nn.Module, args: Any, out: Tensor) -> None:
        outputs.append(out.numel())

    shape = (1, built.in_channels, *description["image_size"])
    layers = {name: each for name, each in built.named_modules() if isinstance(each, nn.Conv2d | nn.Linear)}
    # What does not run is for whoever runs it to say.
    with suppress(RuntimeError, ValueError), hooked(layers, note), torch.no_grad():
        built.eval()(torch.zeros(shape if description.get("kind") == "static" else (1, *shape), device="meta"))
    return weights, tuple(outputs)


def _one_step(options: Any) -> Any:
    if getattr(options, "time_steps", None):
        return dataclasses.replace(options, options={**options.options, "time_steps": 1})
    return options
