"""From the bytes of images, or counts of events, to what the network was trained on."""

import torch
from torch import Tensor, nn

from .describe import Description


class Prepare(nn.Module):
    """Normalise a batch, and put time before the batch."""

    def __init__(self, about: Description) -> None:
        super().__init__()
        self.scale = 255.0 if about.images.kind == "static" else 1.0
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", about.images.mean), ("std", about.images.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map bytes ``[N, C, H, W]`` to floats, or frames ``[N, T, C, H, W]`` to floats ``[T, N, C, H, W]``."""
        x = x.transpose(0, 1) if x.dim() == 5 else x
        # The same operations in the same order as in training, so that the numbers are the same.
        scaled = x.to(torch.float32) / self.scale if self.scale != 1.0 else x.to(torch.float32)
        normalised: Tensor = (scaled - self.mean) / self.std
        return normalised
