"""Units of time in files that do not name one."""

from typing import Any

import numpy as np


def to_microseconds(t: Any) -> Any:
    """Return float times in microseconds: they are seconds if any has a fraction, else microseconds.

    Example:
        >>> to_microseconds(np.array([0.5, 1.0])), to_microseconds(np.array([5.0, 7.0]))
        (array([ 500000., 1000000.]), array([5., 7.]))
    """
    return np.rint(t.astype(np.float64) * 1e6) if (t % 1).any() else t
