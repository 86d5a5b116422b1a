"""A recording in a file of its own."""

from dataclasses import dataclass
from pathlib import Path

from .formats import read_file
from .recording import Events, FileState, Recording, Sensor


@dataclass(frozen=True)
class FileRecording(Recording):
    """A recording in a file of its own, of any format.

    Args:
        name: the file's path relative to its set.
        state: the file's state when it was listed.
        turned: see :func:`.read_file`.
    """

    name: str
    state: FileState
    turned: bool = False

    @classmethod
    def of(cls, path: str, root: Path, turned: bool = False) -> "FileRecording":
        """Return the recording in a file, named by its path relative to ``root``."""
        return cls(Path(path).relative_to(root).as_posix(), FileState.of(path), turned)

    def identity(self) -> tuple[str | int, ...]:
        """Return the state of the file, and how it is read."""
        return *self.state.identity(), self.turned

    def read(self, sensor: Sensor) -> Events:
        """Read the file."""
        return read_file(Path(self.state.path), sensor, self.turned)
