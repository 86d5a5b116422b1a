"""The normalisation of inputs: one place for training and for exported files, which agree bit for bit."""

from torch import Tensor


def normalise(x: Tensor, mean: Tensor, std: Tensor, kind: str | None) -> Tensor:
    """Return images or frames ``[..., C, H, W]`` as floats of the given mean and deviation ``[C, 1, 1]``.

    Args:
        x: bytes of images, or counts of events.
        mean: of the channels, on the scale 0 to 1 for images.
        std: likewise.
        kind: of the data, ``"static"`` or ``"events"``.
    """
    x = x.to(mean.dtype)
    return ((x if kind == "events" else x / 255) - mean) / std
