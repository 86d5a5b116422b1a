"""Deployment: from a trained network to files that run elsewhere, and back."""

# These modules register their export formats.
from . import integer_c, integer_export, nir_export, onnx_export, safetensors_files, torch_export  # noqa: F401
from .anytime import AnytimePrediction, Exits, calibrate
from .card import Card
from .export import export_network
from .exporter import Exporter
from .folding import fold
from .inference import Inference
from .predict import predict
from .registry import card, load, names
from .rounding import quantised_weights, round_weights
from .spec import InputSpec, NetworkSpec

__all__ = [
    "AnytimePrediction", "Card", "Exits", "Exporter", "Inference", "InputSpec", "NetworkSpec", "calibrate", "card",
    "export_network", "fold", "load", "names", "predict", "quantised_weights", "round_weights",
]  # fmt: skip
