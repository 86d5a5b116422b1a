"""The rule by which weights become integers, of integer files, training for few bits, and int8 ONNX files."""

import torch
from torch import Tensor


def quantise(weight: Tensor, bits: int, smallest_scale: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Return integers of some bits and a scale per output channel, whose product is nearest to the weights.

    The integers are symmetric about 0. Of 13 scales, the one of the least squared error is taken: with few bits it
    clips the largest weights.
    """
    most = 2 ** (bits - 1) - 1
    flat = weight.detach().flatten(1)
    largest = flat.abs().amax(1, keepdim=True) / most
    least = torch.finfo(weight.dtype).tiny
    best, error = largest, torch.full_like(largest, float("inf"))
    for share in torch.linspace(1.0, 0.4, 13).tolist():
        scale = (largest * share).clamp_min(least)
        difference = ((flat / scale).round().clamp(-most, most) * scale - flat).square().sum(1, keepdim=True)
        best, error = torch.where(difference < error, scale, best), torch.minimum(error, difference)
    scale = torch.maximum(best.squeeze(1), torch.as_tensor(smallest_scale).to(weight)).clamp_min(least)
    integers = (flat / scale.unsqueeze(1)).round().clamp(-most, most).view_as(weight)
    return integers, scale
