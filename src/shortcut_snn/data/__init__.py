"""Data sets as uint8 images or frames of events, and loaders whose every sample can be drawn again.

Importing this package loads neither torch nor torchvision: only ``DataConfig`` is there at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import Augmentation, DataConfig, DataName
from .events.config import EventConfig

if TYPE_CHECKING:
    from .images import ArrayImages, Images
    from .loading import Loaders, loaders
    from .registry import ImageData, load
    from .sampler import SeededSampler
    from .statistics import normalise

__all__ = [
    "ArrayImages",
    "Augmentation",
    "DataConfig",
    "DataName",
    "EventConfig",
    "ImageData",
    "Images",
    "Loaders",
    "SeededSampler",
    "load",
    "loaders",
    "normalise",
]

_HOME = {
    "ArrayImages": "images",
    "ImageData": "registry",
    "Images": "images",
    "Loaders": "loading",
    "SeededSampler": "sampler",
    "load": "registry",
    "loaders": "loading",
    "normalise": "statistics",
}


def __getattr__(name: str) -> Any:
    # The command reads DataConfig to answer --help, and must not pay for torch there.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
