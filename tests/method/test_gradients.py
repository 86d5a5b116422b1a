"""Gradients of shallow layers: numerically, and as the sum over branches that the method is about."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import LogitSum, LossSum, Shortcut

from .toys import Staged
from .wrapped import wrapped

LABELS = torch.tensor([0, 2, 1, 1, 0])


def wrapped_toy(activation: type[nn.Module]) -> tuple[Shortcut, Tensor]:
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    return wrapped(Staged(activation).double(), num_classes=3, example=x), x


def numerical(loss, weight: Tensor, eps: float = 1e-6) -> Tensor:
    gradient = torch.zeros_like(weight)
    with torch.no_grad():
        for index in range(weight.numel()):
            value = weight.view(-1)[index].item()
            ends = []
            for end in (value + eps, value - eps):
                weight.view(-1)[index] = end
                ends.append(loss())
            weight.view(-1)[index] = value
            gradient.view(-1)[index] = (ends[0] - ends[1]) / (2 * eps)
    return gradient


@pytest.mark.parametrize("branch_weight", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("objective", [LogitSum(), LossSum(), LossSum(average=True)], ids=str)
def test_gradients_of_first_layer_and_branches_equal_numerical_ones(objective, branch_weight: float) -> None:
    model, x = wrapped_toy(nn.Tanh)

    def loss() -> Tensor:
        return objective(model(x), LABELS, branch_weight)

    loss().backward()
    for weight in (model.network.layer1[0].weight, model.branches[1].classifier.weight):
        torch.testing.assert_close(weight.grad, numerical(loss, weight), rtol=1e-6, atol=1e-9)


def paths(model: Shortcut, x: Tensor, through: list[Tensor]) -> list[Tensor]:
    """The first layer's gradient along each path of a linear network, written out.

    With h1 = W1 x, h2 = W2 h1, h3 = W3 h2 and mean activity, the main output is V h3 and the branches B1 h1 and
    B2 h2, so a gradient g at the logits of a path reaches W1 as (product of that path's matrices)^T g^T x.
    """
    w2, w3 = model.network.layer2[0].weight, model.network.layer3[0].weight
    v, (b1, b2) = model.network.head.weight, (branch.classifier.weight for branch in model.branches)
    return [product.T @ g.T @ x.mean(0) for product, g in zip([v @ w3 @ w2, b1, b2 @ w2], through, strict=True)]


@pytest.mark.parametrize("branch_weight", [0.0, 0.25, 1.0])
def test_logit_sum_gradient_of_the_first_layer_sums_over_paths(branch_weight: float) -> None:
    model, x = wrapped_toy(nn.Identity)
    output = model(x)
    LogitSum()(output, LABELS, branch_weight).backward()
    logits = output.main + branch_weight * sum(output.branches)
    # One loss, so every path carries the same gradient of the logits.
    g = (logits.softmax(1) - F.one_hot(LABELS, 3)) / 5
    main, first, second = paths(model, x, [g, g, g])
    torch.testing.assert_close(
        model.network.layer1[0].weight.grad, main + branch_weight * (first + second), rtol=1e-9, atol=1e-12
    )
    assert min(path.abs().max() for path in (main, first, second)) > 1e-3


def test_a_branch_sends_no_gradient_to_later_layers() -> None:
    model, x = wrapped_toy(nn.Tanh)
    model(x).branches[0].square().sum().backward()
    assert model.network.layer1[0].weight.grad.abs().max() > 0
    assert model.network.layer2[0].weight.grad is None
    assert model.network.head.weight.grad is None
