"""From a trained network to files that run elsewhere, and back: nothing here trains."""

# Imported for the formats that they register.
from . import nir_export, onnx_export, torch_export  # noqa: F401
from .card import Card
from .check import Agreement
from .describe import Description
from .export import export_network, file_name
from .folding import fold
from .inference import Inference, load, load_file
from .registry import card, names
from .runtime import Exporter, Runtime

__all__ = [
    "Agreement",
    "Card",
    "Description",
    "Exporter",
    "Inference",
    "Runtime",
    "card",
    "export_network",
    "file_name",
    "fold",
    "load",
    "load_file",
    "names",
]
