"""What a recipe says about events. Plain Python: neither torch nor numpy is imported here."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

Slicing = Literal["time", "count"]
"""What the frames of a recording have in common."""


@dataclass(frozen=True)
class EventConfig:
    """How recordings of events become frames; a recording has network.time_steps of them.

    Args:
        slicing: time (every frame of a recording lasts as long) or count (every frame holds as many events).
        size: shorter side of the frames in pixels; the default is the sensor's. Events are counted straight into the
            smaller grid, where a pixel across two cells deals its events out between them.
        sensor: height and width of the camera in pixels, which most files do not tell: needed for events, 34 and 34
            by default for nmnist_npz; the other sets have their own.
        cache: folder in which frames are kept, so that a recording is read once; off for none. The default is
            ~/.cache/shortcut-snn/frames. It can be deleted at any time.
        folds: deal training and test recordings together out into so many seeded, stratified parts, one of which is
            the test set; 0 keeps the set's own.
        fold: which part is the test set, from 0.

    Raises:
        ValueError: a field is out of its range; the message names the field.
    """

    slicing: Slicing = "time"
    size: int | None = None
    sensor: tuple[int, int] | None = None
    cache: str | None = None
    folds: int = 0
    fold: int = 0

    def __post_init__(self) -> None:
        if self.slicing not in get_args(Slicing):
            raise ValueError(f"data.events.slicing: time or count is needed, got {self.slicing!r}")
        for name in ("size", "folds", "fold"):
            if not isinstance(getattr(self, name), int | None):
                raise ValueError(f"data.events.{name}: a whole number is needed, got {getattr(self, name)!r}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"data.events.size: at least 1 is needed, got {self.size}")
        if self.sensor is not None and not _is_size(self.sensor):
            raise ValueError(f"data.events.sensor: height and width from 1 to 8192 are needed, got {self.sensor}")
        if self.cache == "":
            raise ValueError("data.events.cache: a folder or off is needed, got an empty name")
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"data.events.folds: 0 or at least 2 are needed, got {self.folds}")
        if not 0 <= self.fold < max(self.folds, 1):
            most = f"0 to {self.folds - 1} for {self.folds} folds" if self.folds else "0 without folds"
            raise ValueError(f"data.events.fold: must be {most}, got {self.fold}")


def _is_size(sensor: Any) -> bool:
    if not isinstance(sensor, tuple | list) or len(sensor) != 2:
        return False
    return all(isinstance(side, int) and 1 <= side <= 8192 for side in sensor)
