"""What a network file says of its network, checked entry by entry: the file may come from a stranger."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval, Len
from torch import Tensor, nn

from .. import components
from ..nets import build_network

MOST_STEPS, MOST_CHANNELS, MOST_CLASSES, MOST_PIXELS, MOST = 10_000, 1_024, 1_000_000, 8_192, 1_000_000
"""No network comes near these; a file that says more would only exhaust the memory."""

_Side = Annotated[int, Interval(ge=1, le=MOST_PIXELS)]


@dataclass(frozen=True)
class Images:
    """What a network must know of its data to be fed.

    Args:
        classes: their names.
        channels: of an image or a frame.
        image_size: height and width in pixels.
        mean: of each channel; of images on the scale 0 to 1, of frames in events.
        std: likewise.
        kind: ``"static"`` images or frames of ``"events"``.
        time_steps: frames of a recording, where the network does not say it.
        sensor: height and width of the camera, where recordings of events become frames.
        slicing: what the frames of a recording have in common: ``"time"`` they last, or ``"count"`` of events.
        turned: whether recordings in ``.aedat`` files are turned, as those of CIFAR10-DVS.
    """

    classes: Annotated[tuple[str, ...], Len(2, MOST_CLASSES)]
    channels: Annotated[int, Interval(ge=1, le=MOST_CHANNELS)]
    image_size: tuple[_Side, _Side]
    mean: tuple[Annotated[float, Interval(ge=-1e6, le=1e6)], ...]
    std: tuple[Annotated[float, Interval(ge=1e-9, le=1e6)], ...]
    kind: Literal["static", "events"]
    time_steps: Annotated[int, Interval(ge=1, le=MOST_STEPS)] | None = None
    sensor: tuple[_Side, _Side] | None = None
    slicing: Literal["time", "count"] | None = None
    turned: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(f"{name} must be {self.channels} numbers, one for each channel, got {len(values)}")


@dataclass(frozen=True)
class Description:
    """Everything that is needed to build a network again and to feed it.

    Args:
        network: options of a component of the kind ``components.network``.
        neuron: those of one of the kind ``components.neuron``.
        data: what the data set says of itself: the entries of :class:`Images`, and whatever else the network takes.

    Raises:
        ValueError: an entry that is missing or makes no sense; the message names it.

    Example:
        >>> from shortcut_snn.deploy import Description
        >>> data = {"classes": ["cat", "dog"], "channels": 3, "image_size": [32, 32], "kind": "static"}
        >>> about = Description.from_about({
        ...     "network": {"kind": "resnet8", "width": 4, "time_steps": 2}, "neuron": "lif",
        ...     "data": data | {"mean": [0.5] * 3, "std": [0.25] * 3},
        ... })
        >>> about.build().classifier.out_features, about.time_steps
        (2, 2)
    """

    network: Any
    neuron: Any
    data: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check it."""
        # As JSON has it, so that what was written and read again is the same.
        object.__setattr__(self, "data", components.write(self.data))
        self.images  # noqa: B018 (checks the data)
        _bounded(components.write(self.network), "network")

    @classmethod
    def from_about(cls, about: Mapping[str, Any]) -> "Description":
        """Check what a file says of its network.

        Args:
            about: ``{"network": {"kind": ..., ...}, "neuron": {"kind": ..., ...}, "data": {...}}``, and more.

        Raises:
            ValueError: an entry is missing or makes no sense; the message names it.
        """
        for part in ("network", "neuron", "data"):
            if part not in about:
                raise ValueError(f"{part} is missing")
        if not isinstance(about["data"], Mapping):
            raise ValueError("data is a group of entries, {...}")
        return cls(
            components.read(components.network, about["network"], "network"),
            components.read(components.neuron, about["neuron"], "neuron"),
            about["data"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the entries, for JSON."""
        return {field.name: components.write(getattr(self, field.name)) for field in fields(self)}

    @cached_property
    def images(self) -> Images:
        """What the network takes."""
        known = {field.name for field in fields(Images)}
        checked: Images = components.read(Images, {k: v for k, v in self.data.items() if k in known}, "data")
        return checked

    @property
    def time_steps(self) -> int:
        """T: the network's own, or that of the data."""
        return int(getattr(self.network, "time_steps", None) or self.images.time_steps or 1)

    def build(self) -> nn.Module:
        """Build the network, its weights as drawn.

        Raises:
            ValueError: entries that do not go together.
        """
        return build_network(self.network, self.neuron, self.data)

    def blank(self, samples: int = 2) -> Tensor:
        """Return a blank batch as the network itself takes it: ``[N, C, H, W]``, or frames ``[T, N, C, H, W]``."""
        steps = () if self.images.kind == "static" else (self.time_steps,)
        return torch.zeros(*steps, samples, self.images.channels, *self.images.image_size)


def _bounded(entries: Any, path: str) -> None:
    """Refuse numbers that would only exhaust the memory."""
    if isinstance(entries, Mapping):
        for name, value in entries.items():
            _bounded(value, f"{path}.{name}")
    elif isinstance(entries, list):
        for i, value in enumerate(entries):
            _bounded(value, f"{path}[{i}]")
    elif isinstance(entries, int):
        most = MOST_STEPS if path.endswith(".time_steps") else MOST
        if abs(entries) > most:
            raise ValueError(f"{path} is at most {most:,}, got {entries:,}")
