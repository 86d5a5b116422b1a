"""Objectives: ``(output, target, branch_weight, criterion) -> scalar``, the loss of a batch with its branches.

The task's criterion is the loss of one prediction: cross-entropy, squared error, a loss of every pixel.
The objective decides how the branches enter the loss. ``branch_weight`` is the paper's lambda at this training step.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import components
from .targets import Criterion, are_classes


class ShortcutOutput(NamedTuple):
    """The predictions of the network and of every branch.

    Args:
        main: the network's prediction: ``[N, classes]``, or ``[N, D]``, ``[N, K, H, W]``, ... for other tasks;
            ``[T, N, ...]`` for an objective that takes every time step.
        branches: the prediction of every branch, shallowest first, each in the shape of ``main``. Empty in evaluation
            mode and for a network without branches.

    Example:
        >>> import torch
        >>> ShortcutOutput(torch.zeros(2, 3)).branches
        ()
    """

    main: Tensor
    branches: tuple[Tensor, ...] = ()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse to be an argument of a torch function, such as a loss."""
        raise TypeError(
            f"{getattr(func, '__name__', func)} takes a tensor, and the model returns main prediction and branches: "
            "pass output.main, or call model.loss(output, target, step, steps)"
        )


class Objective(Protocol):
    """The loss of a batch from the main prediction and the branches' predictions.

    Any callable of this signature is an objective. It may declare its needs as attributes. ``every_step``: it takes
    predictions of every time step, ``[T, N, ...]``, default False. ``branches``: it uses branches, default True.

    Example:
        >>> def last_branch(output, target, branch_weight, criterion=F.cross_entropy):
        ...     return criterion(output.main, target) + branch_weight * criterion(output.branches[-1], target)
        >>> objective: Objective = last_branch
        >>> takes_every_step(objective), takes_branches(objective)
        (False, True)
    """

    def __call__(
        self, output: ShortcutOutput, target: Any, branch_weight: float, /, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            output: the predictions of the network and its branches.
            target: as the criterion takes it.
            branch_weight: lambda.
            criterion: ``(prediction, target) -> scalar``.
        """


def takes_every_step(objective: Objective) -> bool:
    """Return whether an objective takes the predictions of every time step, ``[T, N, ...]``."""
    return bool(getattr(definition(objective), "every_step", False))


def takes_branches(objective: Objective) -> bool:
    """Return whether an objective uses branches."""
    return bool(getattr(definition(objective), "branches", True))


def definition(part: Any) -> Any:
    """Return the object that declares the needs of a part of a method: the part, or a recipe's function."""
    component = getattr(part, "component", None)
    return part if component is None else component.factory


def part_name(part: Any) -> str:
    """Return the name under which a part of a method is registered, or that of its class or function."""
    try:
        return components.component_of(part).name
    except ValueError:
        return str(getattr(part, "__qualname__", type(part).__qualname__))


@components.objective("logit_sum")
@dataclass(frozen=True)
class LogitSum:
    """``criterion(main + branch_weight * sum of branches, target)``: the paper's training output.

    ``branch_weight = 1`` is the paper's plain shortcut; a decaying one is its evolutionary training.

    Example:
        >>> output = ShortcutOutput(torch.tensor([[2.0]]), (torch.tensor([[4.0]]),))
        >>> LogitSum()(output, torch.tensor([[5.0]]), 0.5, F.mse_loss)  # (2 + 0.5 * 4 - 5)^2
        tensor(1.)
    """

    def __call__(
        self, output: ShortcutOutput, target: Any, branch_weight: float, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch; see :class:`Objective`."""
        prediction = output.main
        for branch in output.branches:
            if branch.shape != prediction.shape:
                raise ValueError(
                    f"a branch gives {tuple(branch.shape)} and the network {tuple(prediction.shape)}, which cannot be "
                    "summed: use LossSum, or readout=... that returns logits [N, classes]"
                )
            prediction = prediction + branch_weight * branch
        return criterion(prediction, target)


@components.objective("loss_sum")
@dataclass(frozen=True)
class LossSum:
    """``criterion(main) + branch_weight * sum of criterion(branch)``: deep supervision.

    The main output has to be right by itself, whatever the branches predict. The paper's introduction mentions this
    form; it is that of Lee et al., "Deeply-Supervised Nets", 2015.

    Args:
        average: take the mean over branches instead of their sum.

    Example:
        >>> output = ShortcutOutput(torch.tensor([[2.0]]), (torch.tensor([[4.0]]),))
        >>> LossSum()(output, torch.tensor([[5.0]]), 0.5, F.mse_loss)  # 3^2 + 0.5 * 1^2
        tensor(9.5000)
    """

    average: bool = False

    def __call__(
        self, output: ShortcutOutput, target: Any, branch_weight: float, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch; see :class:`Objective`."""
        loss = criterion(output.main, target)
        if self.average and output.branches:
            branch_weight = branch_weight / len(output.branches)
        for branch in output.branches:
            loss = loss + branch_weight * criterion(branch, target)
        return loss


@components.objective("step_loss_sum")
@dataclass(frozen=True)
class StepLossSum:
    """Deep supervision of every time step: ``loss_sum`` of each step's predictions, averaged over the steps.

    DeepTAGE (ICLR 2025) supervises stages and time steps in this way.

    Example:
        >>> main, branch = torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[[2.0]], [[4.0]]])  # [T, N, 1]
        >>> StepLossSum()(ShortcutOutput(main, (branch,)), torch.tensor([[2.0]]), 0.5, F.mse_loss)  # 1 + 0.5 * 2
        tensor(2.)
    """

    every_step: ClassVar[bool] = True

    def __call__(
        self, output: ShortcutOutput, target: Any, branch_weight: float, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch; see :class:`Objective`."""
        _check_steps(output.main, target, "step_loss_sum")
        loss_sum, steps = LossSum(), zip(output.main, *output.branches, strict=True)
        losses = [
            loss_sum(ShortcutOutput(main, tuple(branches)), target, branch_weight, criterion)
            for main, *branches in steps
        ]
        return torch.stack(losses).mean()


@components.objective("distillation")
@dataclass(frozen=True)
class SelfDistillation:
    """``criterion(main) + branch_weight * sum of [(1 - share) * criterion(branch) + share * KL]`` over branches.

    Zhang et al., "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self
    Distillation", ICCV 2019, arXiv 1905.08094, its first two losses, with Hinton et al.'s factor (arXiv 1503.02531)::

        KL = temperature^2 * KL(softmax(main / temperature) || softmax(branch / temperature))

    ``share`` is Zhang et al.'s alpha. The main output is the teacher: it learns from labels alone, since no gradient of
    KL reaches its logits. Their third loss, a distance between features, needs bottleneck layers and is left out.
    Predictions are logits of classes, ``[N, classes, ...]``.

    Args:
        share: the share of the teacher's soft labels in a branch's loss, from 0 to 1.
        temperature: of the soft labels; > 0.

    Raises:
        ValueError: an option out of range.

    Example:
        >>> main = torch.tensor([[2.0, 0.0]])
        >>> output = ShortcutOutput(main, (main,))  # the branch agrees with its teacher
        >>> SelfDistillation(share=1.0)(output, torch.tensor([0]), 1.0) == F.cross_entropy(main, torch.tensor([0]))
        tensor(True)
    """

    share: float = 0.1
    temperature: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share (of the soft labels) must be from 0 to 1, got {self.share}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature (of the soft labels) must be finite and > 0, got {self.temperature}")

    def __call__(
        self, output: ShortcutOutput, target: Any, branch_weight: float, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch; see :class:`Objective`."""
        if not _are_classes(output.main, target):
            raise ValueError(
                "distillation compares probabilities of classes, and this task's targets are not classes: use loss_sum"
            )
        loss = criterion(output.main, target)
        teacher = self._log_probabilities(output.main.detach())
        for branch in output.branches:
            student = self._log_probabilities(branch)
            divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1).mean()
            soft = divergence * self.temperature**2
            loss = loss + branch_weight * ((1.0 - self.share) * criterion(branch, target) + self.share * soft)
        return loss

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        # The divergence of two close predictions is smaller than the rounding of bfloat16, in which autocast on a CPU
        # would compute them.
        return (logits.to(torch.promote_types(logits.dtype, torch.float32)) / self.temperature).log_softmax(1)


@components.objective("tet")
@dataclass(frozen=True)
class TET:
    """Temporal efficient training: ``(1 - weight) * L_TET + weight * L_MSE`` (Deng et al., ICLR 2022).

    The two losses (arXiv 2202.11946)::

        L_TET = (1 / T) * sum over t of criterion(O[t], target of the batch)
        L_MSE = (1 / T) * sum over t of MSE(O[t], target)

    The defaults are those of its authors' code. At inference the logits are averaged over time. TET has no branches, so
    ``branch_weight`` has no effect.

    Args:
        weight: of the regulariser, Deng et al.'s lambda, from 0 to 1.
        target: the number that the regulariser draws every logit to, Deng et al.'s phi.

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
            raise ValueError(f"weight (of TET's regulariser) must be from 0 to 1, got {self.weight}")
        if not math.isfinite(self.target):
            raise ValueError(f"target (of TET's regulariser) must be finite, got {self.target}")

    def __call__(
        self, output: ShortcutOutput, target: Any, branch_weight: float, criterion: Criterion = F.cross_entropy
    ) -> Tensor:
        """Return the loss of a batch; see :class:`Objective`."""
        main = output.main
        _check_steps(main, target, "TET")
        if self.weight and not _are_classes(main[0], target):
            raise ValueError(
                "TET's regulariser is for logits of classes, and this task's targets are not classes: set its weight "
                "to 0"
            )
        loss = torch.stack([criterion(step, target) for step in main]).mean()
        if self.weight == 0:
            return loss
        return (1.0 - self.weight) * loss + self.weight * F.mse_loss(main, torch.full_like(main, self.target))


def _check_steps(main: Tensor, target: Any, name: str) -> None:
    if main.dim() < 3 or (isinstance(target, Tensor) and target.dim() and main.shape[1] != len(target)):
        raise ValueError(
            f"{name} needs the logits of every time step, [T, N, classes], got shape {tuple(main.shape)}; "
            "built-in networks return them with readout='sequence'"
        )


def _are_classes(prediction: Tensor, target: Any) -> bool:
    """Return whether targets are those of the classes on axis 1; targets that are not tensors pass."""
    if not isinstance(target, Tensor):
        return True
    has_classes = prediction.dim() > 1 and prediction.shape[1] > 1
    return has_classes and are_classes(target) and (not target.is_floating_point() or target.shape == prediction.shape)
