"""The specification in a network file: how to rebuild the network and how to prepare its inputs.

A file may come from an untrusted source, so every number in it is checked against an upper bound before any memory is
allocated.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval, Len
from torch import Tensor, nn

from .. import components
from .._utils.normalisation import normalise
from ..components.entries import read, write
from ..nets import build_network

# Larger values than those of any real network: they would only exhaust the memory.
MAX_STEPS, MAX_CHANNELS, MAX_CLASSES, MAX_PIXELS, MAX_NUMBER = 10_000, 1_024, 1_000_000, 8_192, 1_000_000

_Side = Annotated[int, Interval(ge=1, le=MAX_PIXELS)]


@dataclass(frozen=True)
class InputSpec:
    """The inputs of a network: their shape, their normalisation and their classes.

    Args:
        classes: names of the classes.
        channels: number of channels of an image or a frame.
        image_size: height and width in pixels.
        mean: mean of each channel, of images on the scale 0 to 1 or of frames in events per pixel.
        std: standard deviation of each channel, on the same scale.
        kind: ``"static"`` images, or frames of ``"events"``.
        time_steps: number of frames of a recording, if the network has no ``time_steps`` of its own.
        sensor: height and width of the event camera in pixels.
        slicing: frames of a recording last equally long (``"time"``) or hold equally many events (``"count"``).
        turned: whether ``.aedat`` files of version 2 have rows and columns exchanged, as those of CIFAR10-DVS.
        cut_events: number of events of each sample into which a recording is cut.
        cut_duration: duration of each sample.

    Example:
        >>> InputSpec(("cat", "dog"), channels=1, image_size=(8, 8), mean=(0.5,), std=(0.2,), kind="static").classes
        ('cat', 'dog')
    """

    classes: Annotated[tuple[str, ...], Len(2, MAX_CLASSES)]
    channels: Annotated[int, Interval(ge=1, le=MAX_CHANNELS)]
    image_size: tuple[_Side, _Side]
    mean: tuple[Annotated[float, Interval(ge=-1e6, le=1e6)], ...]
    std: tuple[Annotated[float, Interval(ge=1e-9, le=1e6)], ...]
    kind: Literal["static", "events"]
    time_steps: Annotated[int, Interval(ge=1, le=MAX_STEPS)] | None = None
    sensor: tuple[_Side, _Side] | None = None
    slicing: Literal["time", "count"] | None = None
    turned: bool | None = None
    cut_events: Annotated[int, Interval(ge=1)] | None = None
    cut_duration: Annotated[int, Interval(ge=1)] | None = None

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(f"{name} must be {self.channels} numbers, one per channel, got {len(values)}")


@dataclass(frozen=True)
class NetworkSpec:
    """Everything needed to rebuild a network and to prepare its inputs.

    Args:
        network: options of a registered network (``components.network``).
        neuron: options of a registered neuron (``components.neuron``).
        data: description of the data set: the entries of :class:`InputSpec` and any others that the network takes.

    Raises:
        ValueError: an entry is missing or out of bounds; the message names it.

    Example:
        >>> from shortcut_snn.deploy import NetworkSpec
        >>> spec = NetworkSpec.from_dict({
        ...     "network": {"kind": "resnet8", "width": 4, "time_steps": 2}, "neuron": "lif",
        ...     "data": {"classes": ["cat", "dog"], "channels": 3, "image_size": [32, 32], "kind": "static",
        ...              "mean": [0.5] * 3, "std": [0.25] * 3},
        ... })
        >>> spec.build().classifier.out_features, spec.time_steps
        (2, 2)
    """

    network: Annotated[Any, components.network]
    neuron: Annotated[Any, components.neuron]
    data: Mapping[str, Any]

    def __post_init__(self) -> None:
        required = [field.name for field in fields(InputSpec) if field.default is MISSING]
        if missing := [name for name in required if name not in self.data]:
            raise ValueError(f"the data's description has no {', '.join(missing)}: add it in as_data(description=...)")
        # Convert to what JSON can represent, so that a spec equals the one that is read back from its file.
        object.__setattr__(self, "data", write(self.data))
        self.inputs  # noqa: B018 (parses and checks ``data``)
        _check_bounds(write(self.network), "network")

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> "NetworkSpec":
        """Parse and check the entries ``network``, ``neuron`` and ``data`` of a network file; others are ignored.

        Raises:
            ValueError: an entry is missing or out of bounds; the message names it.
        """
        spec: NetworkSpec = read(cls, {f.name: entries[f.name] for f in fields(cls) if f.name in entries}, "")
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Return the entries as JSON can represent them."""
        entries: dict[str, Any] = write(self)
        return entries

    @cached_property
    def inputs(self) -> InputSpec:
        """The checked description of the inputs."""
        names = {field.name for field in fields(InputSpec)}
        inputs: InputSpec = read(InputSpec, {k: v for k, v in self.data.items() if k in names}, "data")
        return inputs

    @property
    def time_steps(self) -> int:
        """The number of time steps of the network, or else of the data."""
        return int(getattr(self.network, "time_steps", None) or self.inputs.time_steps or 1)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of an input: an image ``(C, H, W)``, or the frames ``(T, C, H, W)`` of a recording."""
        steps = () if self.inputs.kind == "static" else (self.time_steps,)
        return (*steps, self.inputs.channels, *self.inputs.image_size)

    def build(self) -> nn.Module:
        """Return the network with freshly initialised weights.

        Raises:
            ValueError: two entries contradict each other.
        """
        return build_network(self.network, self.neuron, self.data)

    def example(self) -> Tensor:
        """Return two blank inputs, normalised: images ``[N, C, H, W]`` or frames ``[T, N, C, H, W]``."""
        return torch.zeros(*self.input_shape[:-3], 2, *self.input_shape[-3:])


def _check_bounds(entries: Any, path: str) -> None:
    """Raise a ValueError if any integer in nested entries is larger than a real network has."""
    if isinstance(entries, Mapping):
        for name, value in entries.items():
            _check_bounds(value, f"{path}.{name}")
    elif isinstance(entries, list):
        for i, value in enumerate(entries):
            _check_bounds(value, f"{path}[{i}]")
    elif isinstance(entries, int):
        bound = MAX_STEPS if path.endswith(".time_steps") else MAX_NUMBER
        if abs(entries) > bound:
            raise ValueError(f"{path} is at most {bound:,}, got {entries:,}")


def describe_inputs(spec: NetworkSpec) -> str:
    """Return one sentence on how a file becomes an input of the network, for the model card."""
    inputs = spec.inputs
    pixels = "{} x {} pixels".format(*inputs.image_size)
    mean, std = ([round(value, 4) for value in values] for values in (inputs.mean, inputs.std))
    normalised = f"normalised with mean {mean} and standard deviation {std}"
    if inputs.kind == "static":
        colours = {1: "grey", 3: "RGB"}.get(inputs.channels, f"{inputs.channels}-channel")
        return f"{colours} images, resized to cover {pixels}, cropped at the centre, divided by 255 and {normalised}."
    camera = f" of a {inputs.sensor[0]} x {inputs.sensor[1]} pixel camera" if inputs.sensor else ""
    equal = {"time": " of equal duration", "count": " of equally many events"}.get(inputs.slicing or "", "")
    cut = {inputs.cut_events: "events", inputs.cut_duration: "microseconds"}
    camera += "".join(f", cut into samples of {length:,} {unit}" for length, unit in cut.items() if length)
    return f"event recordings{camera}, counted into {spec.time_steps} frames of {pixels}{equal} and {normalised}."


class Prepare(nn.Module):
    """Normalise a batch and move the time axis before the batch axis."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.kind = spec.inputs.kind
        for name, values in (("mean", spec.inputs.mean), ("std", spec.inputs.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map bytes ``[N, C, H, W]`` to floats, or frames ``[N, T, C, H, W]`` to floats ``[T, N, C, H, W]``."""
        x = x.transpose(0, 1) if x.dim() == 5 else x
        return normalise(x, self.mean, self.std, self.kind)
