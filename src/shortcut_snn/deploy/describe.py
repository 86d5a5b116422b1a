"""What a network file says about its network, checked entry by entry: the file may come from a stranger."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from .. import components
from ..nets import SpikingNetwork
from ..nets.blocks import Block
from ..nets.norms import Norm
from ..nets.stems import StemKind
from ..neurons.functional import Reset

Kind = Literal["lif", "if", "plif"]
DataKind = Literal["static", "events"]

MOST_STEPS, MOST_CHANNELS, MOST_CLASSES, MOST_PIXELS = 10_000, 1_024, 1_000_000, 8_192
"""No network of ours comes near these; a file that says more would only exhaust the memory."""


@dataclass(frozen=True)
class Description:
    """Everything that is needed to build a network again and to feed it.

    Args:
        name: of the network, as registered.
        width: channels of the first stage; None for the network's own.
        time_steps: T.
        stem: of a ResNet.
        block: of a ResNet.
        norm: how batch norms started.
        neuron: kind of neuron.
        tau: its decay in a step (of a PLIF where it started).
        threshold: where it fires.
        reset: hard or soft.
        classes: names of the classes.
        channels: of an image or a frame.
        image_size: height and width in pixels.
        mean: of each channel; of images on the scale 0 to 1, of frames in events.
        std: likewise.
        kind: ``"static"`` images or frames of ``"events"``.
    """

    name: str
    width: int | None
    time_steps: int
    stem: StemKind
    block: Block
    norm: Norm
    neuron: Kind
    tau: float
    threshold: float
    reset: Reset
    classes: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: DataKind

    def to_dict(self) -> dict[str, Any]:
        """Return the entries, for JSON."""
        return asdict(self)

    def network(self) -> SpikingNetwork:
        """Build the network, its weights as drawn.

        Raises:
            ValueError: entries that do not go together.
        """
        entries = {"kind": self.name, "time_steps": self.time_steps, "width": self.width, "norm": self.norm}
        for name, plain in (("stem", "small"), ("block", "basic")):
            if getattr(self, name) != plain:
                entries[name] = getattr(self, name)
        given = {name: value for name, value in entries.items() if value is not None}
        decay = {} if self.neuron == "if" else {"decay": self.tau}
        neuron = components.neuron.make(self.neuron, **decay, threshold=self.threshold, reset=self.reset)
        network: SpikingNetwork = components.read(components.network, given, "network").build(
            num_classes=len(self.classes), in_channels=self.channels, make_neuron=neuron.build
        )
        return network


def describe(entries: Mapping[str, Any]) -> Description:
    """Check what a file says of its network.

    Raises:
        ValueError: an entry is missing or makes no sense; the message names it.
    """
    read = _Reader(entries)
    channels = read.whole("channels", 1, MOST_CHANNELS)
    height, width = read.each("image_size", 2, lambda key: read.whole(key, 1, MOST_PIXELS))
    return Description(
        name=read.one_of("name", tuple(components.network)),
        width=None if entries.get("width") is None else read.whole("width", 1, MOST_CHANNELS),
        time_steps=read.whole("time_steps", 1, MOST_STEPS),
        stem=read.one_of("stem", get_args(StemKind)),
        block=read.one_of("block", get_args(Block)),
        norm=read.one_of("norm", get_args(Norm)),
        neuron=read.one_of("neuron", get_args(Kind)),
        tau=read.number("tau", 0.0, 1.0),
        threshold=read.number("threshold", 1e-6, 1e6),
        reset=read.one_of("reset", get_args(Reset)),
        classes=read.texts("classes", MOST_CLASSES),
        channels=channels,
        image_size=(height, width),
        mean=tuple(read.each("mean", channels, lambda key: read.number(key, -1e6, 1e6))),
        std=tuple(read.each("std", channels, lambda key: read.number(key, 1e-9, 1e6))),
        kind=read.one_of("kind", get_args(DataKind)),
    )


def from_run(recipe: Mapping[str, Any], data: Mapping[str, Any]) -> Description:
    """Check what a run says of its network: its recipe's and its data's entries.

    Raises:
        ValueError: an entry is missing or makes no sense; the message names it.
    """
    parts = {}
    for name in ("network", "neuron"):
        part = recipe.get(name)
        if not isinstance(part, Mapping):
            raise ValueError(f"{name} is missing")
        parts[name] = part
    neuron = {key: parts["neuron"].get(key) for key in ("tau", "threshold", "reset")}
    # Runs did not always say what their data are; only recordings have a split of their own.
    kind = data.get("kind", "events" if "split_sha256" in data else "static")
    return describe({**parts["network"], **neuron, "neuron": parts["neuron"].get("kind"), **data, "kind": kind})


class _Reader:
    """Takes entries out of what JSON held."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self.entries = dict(entries)

    def _get(self, key: str) -> Any:
        if key not in self.entries:
            raise ValueError(f"{key} is missing")
        return self.entries[key]

    def whole(self, key: str, least: int, most: int) -> int:
        value = self._get(key)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{key} must be a whole number from {least} to {most}, got {_shown(value)}")
        return value

    def number(self, key: str, least: float, most: float) -> float:
        value = self._get(key)
        if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
            raise ValueError(f"{key} must be a number from {least:g} to {most:g}, got {_shown(value)}")
        return float(value)

    def one_of(self, key: str, known: tuple[str, ...]) -> Any:
        value = self._get(key)
        if value not in known:
            raise ValueError(f"{key} must be one of {', '.join(known)}, got {_shown(value)}")
        return value

    def texts(self, key: str, most: int) -> tuple[str, ...]:
        value = self._get(key)
        if not isinstance(value, list | tuple) or not 2 <= len(value) <= most:
            raise ValueError(f"{key} must be a list of at least 2 names, got {_shown(value)}")
        if not all(isinstance(each, str) for each in value):
            raise ValueError(f"{key} must be names")
        return tuple(value)

    def each(self, key: str, count: int, read: Any) -> list[Any]:
        value = self._get(key)
        if not isinstance(value, list | tuple) or len(value) != count:
            raise ValueError(f"{key} must be a list of {count}, got {_shown(value)}")
        names = [f"{key}[{i}]" for i in range(count)]
        self.entries |= dict(zip(names, value, strict=True))
        return [read(name) for name in names]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
