"""Objectives: ``(output, target, balance, criterion) -> scalar``, the loss of a batch with its branches.

What a prediction costs is the task's: its criterion (cross-entropy, with smoothing or without, a squared error, a loss
of every pixel ...). How the branches count is the objective's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import components

Criterion = Callable[[Tensor, Any], Tensor]
"""``(prediction, target) -> scalar``."""


class ShortcutOutput(NamedTuple):
    """What the main output and every branch predict, shallowest branch first.

    Example:
        >>> import torch
        >>> ShortcutOutput(torch.zeros(2, 3)).branches
        ()
    """

    main: Tensor
    branches: tuple[Tensor, ...] = ()


class Objective(Protocol):
    """How main output and branches make a loss. Any callable will do; those here say, as attributes, what they need.

    ``every_step``: the outputs of every time step, ``[T, N, ...]``, of the branches too (default: no); ``branches``:
    branches at all (default: yes).

    Example:
        >>> def last_branch(output, target, balance, criterion=F.cross_entropy):
        ...     return criterion(output.main, target) + balance * criterion(output.branches[-1], target)
        >>> objective: Objective = last_branch
        >>> takes_every_step(objective), takes_branches(objective)
        (False, True)
    """

    def __call__(
        self, output: ShortcutOutput, target: Any, balance: float, /, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            output: what the main output and the branches predict: ``[N, classes]``, ``[N, D]``, ``[N, K, H, W]`` ...
            target: as the criterion takes it.
            balance: lambda, the weight of the branches.
            criterion: ``(prediction, target) -> scalar``.
        """


def takes_every_step(objective: Objective) -> bool:
    """Say whether an objective takes the outputs of every time step, ``[T, N, ...]``.

    Example:
        >>> takes_every_step(TET()), takes_every_step(LogitSum())
        (True, False)
    """
    return bool(getattr(getattr(objective, "factory", objective), "every_step", False))


def takes_branches(objective: Objective) -> bool:
    """Say whether branches make a difference to an objective.

    Example:
        >>> takes_branches(TET()), takes_branches(LogitSum())
        (False, True)
    """
    return bool(getattr(getattr(objective, "factory", objective), "branches", True))


@components.objective("logit_sum")
@dataclass(frozen=True)
class LogitSum:
    """``criterion(main + balance * sum of branches, target)``: the paper's training output of the shortcut network.

    With ``balance = 1`` this is the paper's plain shortcut; with a decaying one, its evolutionary training.

    Example:
        >>> output = ShortcutOutput(torch.tensor([[2.0]]), (torch.tensor([[4.0]]),))
        >>> LogitSum()(output, torch.tensor([[5.0]]), 0.5, F.mse_loss)  # (2 + 0.5 * 4 - 5)^2
        tensor(1.)
    """

    every_step: ClassVar[bool] = False
    branches: ClassVar[bool] = True

    def __call__(
        self, output: ShortcutOutput, target: Any, balance: float, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch; see :class:`Objective`.

        Raises:
            ValueError: a branch predicts something of another shape.
        """
        prediction = output.main
        for branch in output.branches:
            if branch.shape != prediction.shape:
                raise ValueError(
                    f"a branch gives {tuple(branch.shape)} and the network {tuple(prediction.shape)}, which cannot be "
                    "summed: take an objective that makes a loss of each, such as LossSum, with a criterion that takes "
                    "both, or readout=... that makes logits [N, classes] of what the network gives"
                )
            prediction = prediction + balance * branch
        return criterion(prediction, target)


@components.objective("loss_sum")
@dataclass(frozen=True)
class LossSum:
    """``criterion(main) + balance * sum of criterion(branch)``: deep supervision.

    The main output has to be right by itself, whatever the branches say (the paper's introduction speaks of
    it; Lee et al., Deeply-Supervised Nets, 2015).

    Args:
        average: whether to take the mean over branches in place of their sum.

    Example:
        >>> output = ShortcutOutput(torch.tensor([[2.0]]), (torch.tensor([[4.0]]),))
        >>> LossSum()(output, torch.tensor([[5.0]]), 0.5, F.mse_loss)  # 3^2 + 0.5 * 1^2
        tensor(9.5000)
    """

    every_step: ClassVar[bool] = False
    branches: ClassVar[bool] = True

    average: bool = False

    def __call__(
        self, output: ShortcutOutput, target: Any, balance: float, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch; see :class:`Objective`."""
        loss = criterion(output.main, target)
        weight = balance / len(output.branches) if self.average and output.branches else balance
        for branch in output.branches:
            loss = loss + weight * criterion(branch, target)
        return loss


@components.objective("step_loss_sum")
@dataclass(frozen=True)
class StepLossSum:
    """Deep supervision of every time step: :class:`LossSum` of the outputs of each, averaged over the steps.

    Supervision at stages and time steps, as DeepTAGE has it (ICLR 2025).

    Example:
        >>> main, branch = torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[[2.0]], [[4.0]]])  # [T, N, 1]
        >>> StepLossSum()(ShortcutOutput(main, (branch,)), torch.tensor([[2.0]]), 0.5, F.mse_loss)  # 1 + 0.5 * 2
        tensor(2.)
    """

    every_step: ClassVar[bool] = True
    branches: ClassVar[bool] = True

    def __call__(
        self, output: ShortcutOutput, target: Any, balance: float, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch; see :class:`Objective`.

        Raises:
            ValueError: an output without a time axis.
        """
        _check_steps(output.main, target, "step_loss_sum")
        loss, steps = LossSum(), zip(output.main, *output.branches, strict=True)
        losses = [loss(ShortcutOutput(main, tuple(branches)), target, balance, criterion) for main, *branches in steps]
        return torch.stack(losses).mean()


@components.objective("distillation")
@dataclass(frozen=True)
class SelfDistillation:
    """``criterion(main) + balance * sum of [(1 - share) * criterion(branch) + share * KL]`` over branches.

    Zhang et al., "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self
    Distillation", ICCV 2019, arXiv 1905.08094, its first two losses, with Hinton et al.'s factor (arXiv 1503.02531)::

        KL = temperature^2 * KL(softmax(main / temperature) || softmax(branch / temperature))

    ``share`` is the paper's alpha, 0 for the deepest classifier, which learns from labels alone: no gradient of KL
    reaches the main output through its logits. The paper's third loss, the distance between features, is left out:
    its bottleneck layers are not branches as here. Outputs are logits of classes, ``[N, classes, ...]``.

    Args:
        share: of the main output's soft labels in a branch's loss, from 0 to 1.
        temperature: of the soft labels; > 0.

    Raises:
        ValueError: an option out of range.

    Example:
        >>> main = torch.tensor([[2.0, 0.0]])
        >>> twin = ShortcutOutput(main, (main,))  # a branch that says what the main output says
        >>> SelfDistillation(share=1.0)(twin, torch.tensor([0]), 1.0) == F.cross_entropy(main, torch.tensor([0]))
        tensor(True)
    """

    every_step: ClassVar[bool] = False
    branches: ClassVar[bool] = True

    share: float = 0.1
    temperature: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share, of the soft labels, is from 0 to 1, got {self.share}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature, of the soft labels, must be finite and > 0, got {self.temperature}")

    def __call__(
        self, output: ShortcutOutput, target: Any, balance: float, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch; see :class:`Objective`.

        Raises:
            ValueError: a target that is not of classes.
        """
        if not _of_classes(output.main, target):
            raise ValueError(
                "distillation compares probabilities of classes, which this task's targets are not: use loss_sum"
            )
        loss = criterion(output.main, target)
        teacher = (output.main.detach() / self.temperature).log_softmax(1)
        for branch in output.branches:
            student = (branch / self.temperature).log_softmax(1)
            divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1).mean()
            soft = divergence * self.temperature**2
            loss = loss + balance * ((1.0 - self.share) * criterion(branch, target) + self.share * soft)
        return loss


@components.objective("tet")
@dataclass(frozen=True)
class TET:
    """``(1 - weight) * L_TET + weight * L_MSE`` (Deng et al., ICLR 2022, arXiv 2202.11946)::

        L_TET = (1 / T) * sum over t of criterion(O[t], target of the batch)
        L_MSE = (1 / T) * sum over t of MSE(O[t], target)

    The defaults are those of its authors' code. At inference the logits are averaged over time. It has no branches:
    lambda, the weight of branches, plays no part.

    Args:
        weight: of the regulariser, the paper's lambda, from 0 to 1.
        target: what the regulariser draws every logit to, the paper's phi.

    Raises:
        ValueError: an option out of range.

    Example:
        >>> steps = torch.tensor([[[1.0]], [[3.0]]])  # [T, N, 1]
        >>> TET(weight=0.0)(ShortcutOutput(steps), torch.tensor([[2.0]]), 0.0, F.mse_loss)
        tensor(1.)
    """

    every_step: ClassVar[bool] = True
    branches: ClassVar[bool] = False

    weight: float = 0.001
    target: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError(f"weight, of TET's regulariser, is from 0 to 1, got {self.weight}")
        if not math.isfinite(self.target):
            raise ValueError(f"target, of TET's regulariser, must be finite, got {self.target}")

    def __call__(
        self, output: ShortcutOutput, target: Any, balance: float, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch; see :class:`Objective`.

        Args:
            output: its ``main`` is that of every time step, ``[T, N, ...]``.
            target: of the batch, the same at every step.
            balance: not used.
            criterion: the loss of one step.

        Raises:
            ValueError: an output without a time axis, or a regulariser for targets that are not of classes.
        """
        main = output.main
        _check_steps(main, target, "TET")
        if self.weight and not _of_classes(main[0], target):
            raise ValueError(
                "TET's regulariser draws the logits of all classes to one number, and this task's targets are not "
                "classes: set its weight to 0"
            )
        loss = torch.stack([criterion(step, target) for step in main]).mean()
        if self.weight == 0:
            return loss
        return (1.0 - self.weight) * loss + self.weight * F.mse_loss(main, torch.full_like(main, self.target))


def _check_steps(main: Tensor, target: Any, name: str) -> None:
    if main.dim() < 3 or (isinstance(target, Tensor) and target.dim() and main.shape[1] != len(target)):
        raise ValueError(
            f"{name} needs the logits of every time step, [T, N, classes], got shape {tuple(main.shape)}; "
            "networks of ours give them with readout='sequence'"
        )


def _of_classes(prediction: Tensor, target: Any) -> bool:
    """Whether targets are indices of classes or probabilities over axis 1; what is no tensor the criterion knows."""
    if not isinstance(target, Tensor):
        return True
    if not target.is_floating_point():
        return prediction.dim() > 1 and prediction.shape[1] > 1
    one = torch.ones((), dtype=target.dtype, device=target.device)
    return target.shape == prediction.shape and bool(torch.isclose(target.sum(1), one, atol=1e-2).all())


components.objective.type = Objective
