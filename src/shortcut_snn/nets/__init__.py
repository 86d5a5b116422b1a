"""Spiking networks of our own."""

from .build import build_network
from .network import SpikingNetwork
from .resnet import SpikingResNet
from .variants import (
    VARIANTS,
    build,
    spiking_resnet18,
    spiking_resnet19,
    spiking_resnet20,
    spiking_resnet34,
    spiking_resnet110,
    spiking_vgg11,
    spiking_vgg16,
    spiking_vggsnn,
)
from .vgg import SpikingVGG

__all__ = [
    "VARIANTS",
    "SpikingNetwork",
    "SpikingResNet",
    "SpikingVGG",
    "build",
    "build_network",
    "spiking_resnet18",
    "spiking_resnet19",
    "spiking_resnet20",
    "spiking_resnet34",
    "spiking_resnet110",
    "spiking_vgg11",
    "spiking_vgg16",
    "spiking_vggsnn",
]
