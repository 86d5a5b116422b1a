"""One cross-entropy on the weighted sum of logits (paper, training output of the shortcut network)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ..output import ShortcutOutput
from .smoothing import check_smoothing


@dataclass(frozen=True)
class LogitSum:
    """``CE(main + balance * sum of branches, labels)``.

    With ``balance = 1`` this is the paper's plain shortcut; with a decaying one, its evolutionary training.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_smoothing(self.label_smoothing)

    def __call__(self, output: ShortcutOutput, labels: Tensor, balance: float) -> Tensor:
        """Return the mean loss of a batch; labels are class indices ``[N]``."""
        logits = output.main
        for branch in output.branches:
            logits = logits + balance * branch
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
