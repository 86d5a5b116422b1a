"""Single files as a trained network takes them: images, and recordings of events."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import DataFileError
from .events import FrameMaker
from .events.dvsgesture import CLASSES, recording_of
from .events.formats.files import EXTENSIONS as RECORDINGS
from .events.formats.files import FileRecording, check_libraries
from .images import EXTENSIONS as IMAGES
from .images import decode, fit


class InputError(DataFileError):
    """A file that is no input of the network."""


@dataclass(frozen=True)
class InputFiles:
    """Reads files as evaluation reads those of the network's own data.

    Args:
        description: of the data that the network was trained on; see :attr:`.Data.description`.
        time_steps: frames that a recording becomes.

    Raises:
        ValueError: no files can be read for such data; the message says why.

    Example:
        >>> about = {"kind": "static", "channels": 3, "image_size": [32, 32]}
        >>> InputFiles(about, time_steps=4).what
        'images'
    """

    description: Mapping[str, Any]
    time_steps: int

    def __post_init__(self) -> None:
        about = self.description
        if self.is_events and not about.get("sensor"):
            raise ValueError(
                "the network's file does not say what camera its recordings are of, as those of earlier versions did "
                "not: write it anew with shortcut-snn export RUN --to safetensors"
            )
        if not self.is_events and about["channels"] not in (1, 3):
            raise ValueError(f"the network takes images of {about['channels']} channels, which no image file has")

    @property
    def is_events(self) -> bool:
        """Whether inputs are recordings of events."""
        return bool(self.description["kind"] == "events")

    @property
    def what(self) -> str:
        """What the files are called."""
        return "recordings" if self.is_events else "images"

    @property
    def extensions(self) -> frozenset[str]:
        """Of the files that are taken out of a folder."""
        return RECORDINGS if self.is_events else IMAGES

    def found(self, path: Path) -> list[Path]:
        """Return a file itself; of a folder, the files below it that are inputs, by name, but for hidden ones.

        Raises:
            InputError: there is no such file, or nothing of the kind in the folder.
        """
        if not path.is_dir():
            if not path.exists():
                raise InputError(f"{path}: there is no such file")
            return [path]
        paths = sorted(self._below(path))
        if not paths:
            raise InputError(f"{path}: the folder has no {self.what} ({', '.join(sorted(self.extensions))})")
        return paths

    def _below(self, path: Path) -> Iterator[Path]:
        for place, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                if Path(name).suffix.lower() in self.extensions and not name.startswith("."):
                    yield Path(place, name)

    def read(self, path: Path) -> Tensor:
        """Return a file as the network takes it: uint8 ``[C, H, W]``, or frames ``[T, 2, H, W]``.

        An image of another size is resized until it just covers that of the network, and its centre taken.

        Raises:
            DataFileError: it is damaged, or something else, or what reads it is not installed; the message names it.
        """
        height, width = self.description["image_size"]
        if not self.is_events:
            return fit(decode(str(path), self.description["channels"]), (height, width))
        extension = path.suffix.lower()
        if extension not in RECORDINGS:
            raise InputError(f"{path} is no recording of events: those end in {', '.join(sorted(RECORDINGS))}")
        rows, columns = self.description["sensor"]
        slicing: Any = self.description.get("slicing") or "time"
        maker = FrameMaker((rows, columns), (height, width), self.time_steps, slicing, None)
        try:
            check_libraries({extension})
            # No other set has these classes, nor files of its kind.
            gestures = self.description.get("classes") == CLASSES
            # Where a network's file does not say it, all that the network saw was read so.
            turned = self.description.get("turned") is not False
            recording = recording_of(path) if gestures else FileRecording.of(str(path), path.parent, turned)
            return torch.from_numpy(maker(recording))
        except DataFileError:
            raise
        except (ValueError, OSError) as error:
            raise InputError(f"{path}: {error}") from error
