"""Self-distillation: the branches learn from the labels and from the main output's soft labels."""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ..output import ShortcutOutput


@dataclass(frozen=True)
class SelfDistillation:
    """``CE(main) + balance * sum of [(1 - share) * CE(branch) + share * KL]`` over branches.

    Zhang et al., "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self
    Distillation", ICCV 2019, arXiv 1905.08094, its first two losses, with Hinton et al.'s factor (arXiv 1503.02531)::

        KL = temperature^2 * KL(softmax(main / temperature) || softmax(branch / temperature))

    ``share`` is the paper's alpha, 0 for the deepest classifier, which learns from labels alone: no gradient of KL
    reaches the main output through its logits. The paper's third loss, the distance between features, is left out:
    its bottleneck layers are not branches as here.

    Raises:
        ValueError: a share outside 0 to 1, a temperature that is not positive.
    """

    share: float = 0.1
    temperature: float = 3.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"the share of the soft labels is from 0 to 1, got {self.share}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"the temperature of soft labels must be finite and > 0, got {self.temperature}")

    def __call__(self, output: ShortcutOutput, labels: Tensor, balance: float) -> Tensor:
        """Return the mean loss of a batch; labels are class indices ``[N]``."""
        loss = F.cross_entropy(output.main, labels, label_smoothing=self.label_smoothing)
        teacher = (output.main.detach() / self.temperature).log_softmax(1)
        for branch in output.branches:
            hard = F.cross_entropy(branch, labels, label_smoothing=self.label_smoothing)
            student = (branch / self.temperature).log_softmax(1)
            soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True) * self.temperature**2
            loss = loss + balance * ((1.0 - self.share) * hard + self.share * soft)
        return loss
