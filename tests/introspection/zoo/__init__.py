"""Networks as people write them, none of them made for ``attach``."""

from . import beside, labelled, libraries, plain, spiking  # noqa: F401
from .entry import CLASSES, ZOO, Entry

__all__ = ["CLASSES", "ZOO", "Entry"]
