"""Cells: the workloads on which the contenders are compared."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Part = Literal["networks", "neuron", "method", "inference"]
Precision = Literal["float32", "bfloat16"]
PARTS: tuple[Part, ...] = ("networks", "neuron", "method", "inference")


@dataclass(frozen=True)
class Cell:
    """One workload.

    Args:
        part: one of four. ``"networks"``: a training step and an inference batch of a spiking ResNet. ``"neuron"``:
            ``Linear(width, width)`` and a neuron. ``"method"``: this package's network with and without branches.
            ``"inference"``: this package's network as deployed, SpikingJelly's in eval mode.
        network: ``"resnet18"``, ``"resnet34"``, or in the part ``"neuron"`` ``"linear-lif"`` or another of its neurons.
        width: channels of the first stage; in the part ``"neuron"``, neurons.
        batch: number of samples.
        time_steps: T.
        precision: ``"float32"``, or ``"bfloat16"`` under autocast.
        size: side of an image in pixels.
        classes: number of classes.
        rate: mean firing rate of the layers; None for that of the initial network, about 0.2.
    """

    part: Part
    network: str
    width: int
    batch: int
    time_steps: int
    precision: Precision = "float32"
    size: int = 32
    classes: int = 100
    rate: float | None = None

    @property
    def workload(self) -> str:
        """Name without time steps and precision, such as ``resnet18-64``."""
        return f"{self.network}-{self.width}"

    @property
    def timed(self) -> tuple[str, ...]:
        """The timed quantities: ``"step"`` (forward and backward) and ``"inference"``. Memory is that of the first."""
        return ("inference",) if self.part == "inference" else ("step", "inference")

    @property
    def slug(self) -> str:
        """Name of a file."""
        size = "" if self.part == "neuron" else f"-{self.size}px"
        rate = "" if self.rate is None else f"-rate{self.rate:g}"
        return f"{self.part}-{self.workload}-n{self.batch}-t{self.time_steps}{size}-{self.precision}{rate}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)
