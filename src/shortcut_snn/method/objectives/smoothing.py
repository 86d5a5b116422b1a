"""Label smoothing: how much of the target is spread over all classes."""

from numbers import Real


def check_smoothing(value: float) -> None:
    """Refuse what is no fraction.

    Raises:
        ValueError: it is not from 0 to 1.
    """
    if not (isinstance(value, Real) and 0.0 <= value <= 1.0):
        raise ValueError(f"label_smoothing is a fraction from 0 to 1, got {value!r}")
