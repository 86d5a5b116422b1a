"""Recordings of event cameras as frames: the number of events on each pixel in each slice of time.

Frames are uint8 ``[T, 2, H, W]``, T the network's time steps. Channel 0 counts events of falling brightness (off),
channel 1 events of rising brightness (on).
"""

from .cifar10dvs import CIFAR10DVS
from .dvsgesture import GESTURES, DVSGesture, read_gesture
from .event_images import EventImages, FrameMaker
from .event_set import EventSet, file_recording
from .folder import EventFolder
from .formats import EXTENSIONS, check_libraries
from .nmnist import NMNIST
from .npz import RecordingArchive
from .recording import FileState, Recording

__all__ = [
    "CIFAR10DVS",
    "EXTENSIONS",
    "GESTURES",
    "NMNIST",
    "DVSGesture",
    "EventFolder",
    "EventImages",
    "EventSet",
    "FileState",
    "FrameMaker",
    "Recording",
    "RecordingArchive",
    "check_libraries",
    "file_recording",
    "read_gesture",
]
