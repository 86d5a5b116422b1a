"""Recordings of event cameras as frames: the number of events on each pixel in each slice of time.

Frames are uint8 ``[T, 2, H, W]``, T the network's time steps. Channel 0 counts events of falling brightness (off),
channel 1 events of rising brightness (on).
"""

from .cifar10dvs import CIFAR10DVS
from .dvsgesture import DVSGesture
from .event_images import EventImages, FrameMaker
from .event_set import EventSet
from .folder import EventFolder
from .nmnist import NMNIST
from .npz import RecordingArchive

__all__ = [
    "CIFAR10DVS",
    "NMNIST",
    "DVSGesture",
    "EventFolder",
    "EventImages",
    "EventSet",
    "FrameMaker",
    "RecordingArchive",
]
