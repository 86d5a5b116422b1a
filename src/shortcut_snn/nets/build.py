"""A network component built for a data set."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn


def build_network(network: Any, neuron: Any, description: Mapping[str, Any]) -> nn.Module:
    """Build a network for what a data set says of itself.

    Args:
        network: options of a component of the kind ``components.network``.
        neuron: those of one of the kind ``components.neuron``.
        description: of the data: ``classes``, ``channels``, ``image_size``, and whatever else a network may take by its
            name.

    Raises:
        ValueError: options that make no sense, or a network that takes what the description does not tell.
    """
    names = {"classes": "num_classes", "channels": "in_channels"}
    given = {names.get(key, key): value for key, value in description.items()}
    given = {"make_neuron": neuron.build, **given}
    if "num_classes" in given:
        given["num_classes"] = len(given["num_classes"])
    if "image_size" in given:
        given["image_size"] = tuple(given["image_size"])
    own = {field.name for field in dataclasses.fields(network)}
    built: nn.Module = network.build(**{key: value for key, value in given.items() if key not in own})
    return built
