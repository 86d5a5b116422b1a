"""Deep supervision: a cross-entropy for the main output and one for every branch."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ..output import ShortcutOutput
from .smoothing import check_smoothing


@dataclass(frozen=True)
class LossSum:
    """``CE(main) + balance * sum of CE(branch)``, or the mean over branches with ``average``.

    The main output has to be right by itself, whatever the branches say (the paper's introduction speaks of
    it; Lee et al., Deeply-Supervised Nets, 2015).
    """

    average: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_smoothing(self.label_smoothing)

    def __call__(self, output: ShortcutOutput, labels: Tensor, balance: float) -> Tensor:
        """Return the mean loss of a batch; labels are class indices ``[N]``."""
        loss = F.cross_entropy(output.main, labels, label_smoothing=self.label_smoothing)
        weight = balance / len(output.branches) if self.average and output.branches else balance
        for branch in output.branches:
            loss = loss + weight * F.cross_entropy(branch, labels, label_smoothing=self.label_smoothing)
        return loss
