"""From the bytes of images, or counts of events, to what the network was trained on."""

import torch
from torch import Tensor, nn

from .describe import Description


def in_words(about: Description) -> str:
    """Say how a file becomes what the network takes.

    Example:
        >>> data = {"classes": ["cat", "dog"], "channels": 1, "image_size": [8, 8], "kind": "static"}
        >>> in_words(Description.from_about({
        ...     "network": {"kind": "resnet8", "width": 4, "time_steps": 2}, "neuron": "lif",
        ...     "data": data | {"mean": [0.5], "std": [0.25]},
        ... }))
        'grey images, resized until they just cover 8 x 8 pixels, the centre of which is taken; levels are divided by \
255, then mean [0.5] and standard deviation [0.25] taken out.'
    """
    images = about.images
    height, width = images.image_size
    if images.kind == "static":
        kind = {1: "grey images", 3: "RGB images"}.get(images.channels, f"images of {images.channels} channels")
        first = f"{kind}, resized until they just cover {height} x {width} pixels, the centre of which is taken; "
        scale = "levels are divided by 255, then"
    else:
        of = f" of a camera of {images.sensor[0]} x {images.sensor[1]} pixels" if images.sensor else ""
        equal = {"time": ", each as long", "count": ", each of as many events"}.get(images.slicing or "", "")
        first = (
            f"recordings of events{of}, counted into {about.time_steps} frames of {height} x {width} pixels{equal}; "
        )
        scale = "from counts"
    mean, std = ([round(value, 4) for value in values] for values in (images.mean, images.std))
    return f"{first}{scale} mean {mean} and standard deviation {std} taken out."


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
