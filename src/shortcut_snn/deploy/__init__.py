"""From a trained network to files that run elsewhere, and back: nothing here trains."""

from .card import Card
from .inference import Inference, load_file
from .registry import card, load, names

__all__ = ["Card", "Inference", "card", "load", "load_file", "names"]
