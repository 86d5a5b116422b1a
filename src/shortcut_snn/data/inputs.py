"""Single files as inputs of a trained network: images and recordings of events."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .events.event_images import FrameMaker
from .events.event_set import file_recording
from .events.formats import EXTENSIONS as RECORDING_EXTENSIONS
from .events.published import COCHLEAR_CHANNELS, GESTURES, channel_frames, read_gesture
from .events.recording import FileState, Recording
from .images.files import EXTENSIONS as IMAGE_EXTENSIONS
from .images.files import decode, fit
from .reading import DataFileError, listed, visible_files


@dataclass(frozen=True)
class InputFiles:
    """Read files in the same way as the data set that a network was trained on."""

    description: Mapping[str, Any]
    time_steps: int

    def __post_init__(self) -> None:
        channels = self.description.get("channels")
        if not self.is_events and channels not in (1, 3):
            raise ValueError(f"the network takes images of {channels} channels, but image files have 1 or 3")
        if self.is_events and "sensor" not in self.description:
            raise ValueError(
                "the network was trained on frames that no reader of this package made: pass such frames to its "
                "predict in Python"
            )

    @property
    def is_events(self) -> bool:
        """True if inputs are recordings of events, False if they are images."""
        return bool(self.description["kind"] == "events")

    def paths(self, path: Path) -> list[Path]:
        """Return the path of a file itself; for a folder, the sorted paths of all inputs below it."""
        if not path.is_dir():
            if not path.exists():
                raise DataFileError(f"{path}: the file does not exist")
            return [path]
        extensions, noun = (RECORDING_EXTENSIONS, "recordings") if self.is_events else (IMAGE_EXTENSIONS, "images")
        paths = [Path(file) for file in visible_files(path, extensions)]
        if not paths:
            raise DataFileError(f"{path}: the folder has no {noun} ({listed(extensions)})")
        return paths

    def read(self, path: Path) -> Tensor:
        """Return the samples in a file: an image uint8 ``[1, C, H, W]``, or frames ``[n, T, 2, H, W]``.

        An image of another size is resized until it just covers the network's, and its centre is cropped. A recording
        is cut into n samples as in training.
        """
        height, width = self.description["image_size"]
        if not self.is_events:
            return fit(decode(str(path), self.description["channels"]), (height, width)).unsqueeze(0)
        extension = path.suffix.lower()
        if extension not in RECORDING_EXTENSIONS:
            kinds = listed(RECORDING_EXTENSIONS)
            raise DataFileError(f"{path} is not a recording of events; recordings have the extensions {kinds}")
        rows, columns = self.description["sensor"]
        size, slicing = min(height, width), self.description["slicing"]
        cut: Any = {name: self.description.get(name) for name in ("cut_events", "cut_duration")}
        maker = FrameMaker((rows, columns), self.time_steps, size, slicing, cache="off", **cut)
        try:
            if self.description.get("classes") == GESTURES:
                recording = Recording(path.name, FileState.of(path), read_gesture)
            else:
                recording = file_recording(path, path.parent, self.description.get("turned", False))
            frames = torch.from_numpy(maker.samples(recording))
            return channel_frames(frames) if self.description["channels"] == COCHLEAR_CHANNELS else frames
        except DataFileError:
            raise
        except (ValueError, OSError) as error:
            raise DataFileError(f"{path}: {error}") from error
