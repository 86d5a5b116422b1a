"""Deployment: from a trained network to files that run elsewhere, and back."""

# These modules register their export formats.
from . import nir_export, torch_export  # noqa: F401
from .card import CARD, ENERGY, Card, check_no_other_readme, read_card, write_card
from .check import Agreement
from .export import export_network, file_name
from .folding import fold
from .inference import Inference, load
from .onnx_export import ONNX, OnnxRuntime
from .prepare import Prepare, describe_inputs
from .registry import TRAINED, card, names
from .runtime import Exporter, Runtime
from .spec import InputSpec, NetworkSpec
from .torch_runtime import TorchRuntime, for_inference
from .weights import load_into, read_network, save_network

__all__ = [
    "CARD",
    "ENERGY",
    "ONNX",
    "TRAINED",
    "Agreement",
    "Card",
    "Exporter",
    "Inference",
    "InputSpec",
    "NetworkSpec",
    "OnnxRuntime",
    "Prepare",
    "Runtime",
    "TorchRuntime",
    "card",
    "check_no_other_readme",
    "describe_inputs",
    "export_network",
    "file_name",
    "fold",
    "for_inference",
    "load",
    "load_into",
    "names",
    "read_card",
    "read_network",
    "save_network",
    "write_card",
]
