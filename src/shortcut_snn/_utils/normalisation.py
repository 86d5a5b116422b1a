"""The normalisation of inputs: one place for training and for exported files, which agree bit for bit."""

from torch import Tensor


def normalise(x: Tensor, mean: Tensor, std: Tensor, kind: str | None) -> Tensor:
    """Return images, on the scale 0 to 1, or counts of events as floats of a mean and a deviation ``[C, 1, 1]``."""
    x = x.to(mean.dtype)
    return ((x if kind == "events" else x / 255) - mean) / std
