"""Spiking networks of our own."""

from .resnet import SpikingResNet
from .variants import (
    VARIANTS,
    build,
    spiking_resnet18,
    spiking_resnet19,
    spiking_resnet20,
    spiking_resnet34,
)

__all__ = [
    "VARIANTS",
    "SpikingResNet",
    "build",
    "spiking_resnet18",
    "spiking_resnet19",
    "spiking_resnet20",
    "spiking_resnet34",
]
