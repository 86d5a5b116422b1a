"""Class folders of the user's own recordings."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Interval

from ... import components
from ..class_folders import classes_and_parts
from ..images.image_set import Source
from .event_set import EventSet, read_part
from .formats import EXTENSIONS

Side = Annotated[int, Interval(ge=1, le=8192)]


@components.data("events")
@dataclass(frozen=True)
class EventFolder(EventSet):
    """Class folders of recordings: .aedat, .aedat4, .bin, .dat, .npy and .raw.

    Args:
        root: a folder with train/ and test/ (and val/), each of class folders; or one of class folders, as for images.
        sensor: height and width of the camera in pixels, because most files do not contain them.

    Example:
        >>> EventFolder("gestures", sensor=(260, 346), size=65, augment=("flip", "roll"), cache="off").sensor
        (260, 346)
    """

    sensor: tuple[Side, Side] | None = None

    root_is: ClassVar = "folder with train/ and test/ class folders, or with class folders alone"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sensor is None:
            raise ValueError("sensor: the camera's height and width are needed, as in [260, 346]")

    def read(self, time_steps: int) -> Source:
        """List the recordings; see :meth:`.EventSet.read`."""
        assert self.sensor is not None
        root, maker = self.path, self.maker(self.sensor, time_steps)
        classes, parts = classes_and_parts(root)
        train, *evaluation = (read_part(root, root / part, classes, EXTENSIONS, maker) for part in parts)
        test, validation = [*evaluation, None, None][:2]
        return Source(train, test, classes, validation)
