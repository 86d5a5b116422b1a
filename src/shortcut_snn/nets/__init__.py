"""Built-in spiking networks: ResNets, VGGs and a transformer."""

from .blocks import BasicBlock, MSBlock, PlainBlock, SEWBlock
from .layers import SpikeConv2d, SpikeLinear
from .network import SpikingNetwork, build_network
from .resnet import (
    SpikingResNet,
    SpikingResNet19,
    spiking_resnet8,
    spiking_resnet18,
    spiking_resnet19,
    spiking_resnet20,
    spiking_resnet34,
    spiking_resnet110,
)
from .stems import Stem
from .transformer import SelfAttention, SpikingTransformer, TokenAttention, TransformerBlock
from .vgg import SpikingVGG, spiking_vgg6, spiking_vgg11, spiking_vgg16, spiking_vggsnn

__all__ = [
    "BasicBlock", "MSBlock", "PlainBlock", "SEWBlock", "SelfAttention", "SpikeConv2d", "SpikeLinear",
    "SpikingNetwork", "SpikingResNet", "SpikingResNet19", "SpikingTransformer", "SpikingVGG", "Stem", "TokenAttention",
    "TransformerBlock", "build_network", "spiking_resnet8", "spiking_resnet18", "spiking_resnet19", "spiking_resnet20",
    "spiking_resnet34", "spiking_resnet110", "spiking_vgg6", "spiking_vgg11", "spiking_vgg16", "spiking_vggsnn",
]  # fmt: skip
