"""What the wrapper gives and objectives take."""

from typing import NamedTuple

from torch import Tensor


class ShortcutOutput(NamedTuple):
    """Logits of the main output and of every branch, shallowest first."""

    main: Tensor
    branches: tuple[Tensor, ...] = ()
