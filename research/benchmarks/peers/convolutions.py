"""The dense convolutions and the classifier of a network alone: what a library takes that multiplies every zero."""

from typing import Any

import torch
from torch import Tensor, nn

from shortcut_snn.nets import SpikingResNet

RATE = 0.15  # of the spikes it is fed; a dense convolution takes as long whatever they are


class ConvolutionsOnly:
    """Forward and backward of the convolutions and the classifier, at the shapes they have in the network.

    The convolutions of the stages form a chain without normalisation or neuron; a projection is added to it in
    place. Stem, chain and classifier are fed constants and given constant gradients, so nothing else runs.

    Args:
        network: whose layers are taken.
        images: ``[N, 3, H, W]``, in the memory layout wanted.
        dtype: of the spikes, which a network under autocast has in half precision.
        time_steps: T.
    """

    def __init__(self, network: SpikingResNet, images: Tensor, dtype: torch.dtype, time_steps: int) -> None:
        self.images = images
        self.stem, self.classifier = network.stem.conv, network.classifier
        stages: list[Any] = [network.get_submodule(name) for name in network.stage_names]
        self.blocks = [block for stage in stages for block in stage]
        with torch.no_grad():
            stem = self.stem(images)
        shape = (time_steps * images.shape[0], *stem.shape[1:])
        spikes = (torch.rand(shape, device=images.device) < RATE).to(dtype)
        channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.spikes = spikes.contiguous(memory_format=layout).requires_grad_()
        self.features = torch.rand(images.shape[0], self.classifier.in_features, device=images.device, dtype=dtype)
        self.features.requires_grad_()
        self.gradients: list[Tensor] = []

    def leaves(self) -> list[Tensor]:
        """Return all that gathers a gradient."""
        layers: list[nn.Module] = [self.stem, self.classifier, *self.blocks]
        return [self.spikes, self.features, *(p for layer in layers for p in layer.parameters())]

    def forward(self) -> list[Tensor]:
        """Return the outputs of the stem, the chain and the classifier."""
        x = self.spikes
        for block in self.blocks:
            y = block.conv2(block.conv1(x))
            if not isinstance(block.project, nn.Identity):
                y += block.project.conv(x)
            x = y
        return [self.stem(self.images), x, self.classifier(self.features)]

    def backward(self, outputs: list[Tensor]) -> None:
        """Run the backward pass with constant gradients."""
        if not self.gradients:
            self.gradients = [torch.rand_like(output) for output in outputs]
        torch.autograd.backward(outputs, self.gradients)
