"""Normalisation of inputs: from image bytes or event counts to what the network was trained on."""

import torch
from torch import Tensor, nn

from .spec import NetworkSpec


def describe_inputs(spec: NetworkSpec) -> str:
    """Return one sentence on how a file becomes an input of the network, for the model card."""
    inputs = spec.inputs
    height, width = inputs.image_size
    mean, std = ([round(value, 4) for value in values] for values in (inputs.mean, inputs.std))
    normalised = f"normalised with mean {mean} and standard deviation {std}"
    if inputs.kind == "static":
        colours = {1: "grey", 3: "RGB"}.get(inputs.channels, f"{inputs.channels}-channel")
        return (
            f"{colours} images, resized to cover {height} x {width} pixels, cropped at the centre, divided by 255 and "
            f"{normalised}."
        )
    camera = f" of a {inputs.sensor[0]} x {inputs.sensor[1]} pixel camera" if inputs.sensor else ""
    equal = {"time": " of equal duration", "count": " of equally many events"}.get(inputs.slicing or "", "")
    return (
        f"event recordings{camera}, counted into {spec.time_steps} frames of {height} x {width} pixels{equal} and "
        f"{normalised}."
    )


class Prepare(nn.Module):
    """Normalise a batch and move the time axis before the batch axis."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.scale = 255.0 if spec.inputs.kind == "static" else 1.0
        for name, values in (("mean", spec.inputs.mean), ("std", spec.inputs.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map bytes ``[N, C, H, W]`` to floats, or frames ``[N, T, C, H, W]`` to floats ``[T, N, C, H, W]``."""
        x = x.transpose(0, 1) if x.dim() == 5 else x
        # Training applies the same operations in the same order, so the results are equal bit for bit.
        scaled = x.to(torch.float32) / self.scale if self.scale != 1.0 else x.to(torch.float32)
        normalised: Tensor = (scaled - self.mean) / self.std
        return normalised
