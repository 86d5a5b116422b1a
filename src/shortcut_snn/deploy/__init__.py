"""Deployment: from a trained network to files that run elsewhere, and back."""

# These modules register their export formats.
from . import nir_export, torch_export  # noqa: F401
from .card import CARD, ENERGY, README, Card
from .check import Agreement
from .export import export_network
from .export_with_card import export_with_card
from .exporter import Exporter, Logits
from .folding import fold
from .inference import Inference, for_inference
from .onnx_export import ONNX, onnx_logits
from .predict import Prediction, predict
from .registry import TRAINED, card, load, names, push_to_hub
from .safetensors_files import load_into, read_network, save_network
from .spec import InputSpec, NetworkSpec, Prepare, describe_inputs

__all__ = [
    "CARD", "ENERGY", "ONNX", "README", "TRAINED", "Agreement", "Card", "Exporter", "Inference", "InputSpec",
    "Logits", "NetworkSpec", "Prediction", "Prepare", "card", "describe_inputs", "export_network", "export_with_card",
    "fold", "for_inference", "load", "load_into", "names", "onnx_logits", "predict", "push_to_hub", "read_network",
    "save_network",
]  # fmt: skip
