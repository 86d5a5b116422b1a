"""With lambda 0 training is vanilla training, bit for bit."""

import pytest
import torch
from torch.nn import functional as F

from shortcut_snn import LogitSum, LossSum

from .toys import small
from .wrapped import wrapped


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [
        (torch.rand(8, 3, 8, 8, generator=generator), torch.randint(3, (8,), generator=generator)) for _ in range(5)
    ]


def vanilla() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    network = small("resnet18")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.02)
    for images, labels in batches():
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.state_dict()


def shortcut(objective, placement: str, branch_weight: float) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    model = wrapped(small("resnet18"), placement, num_classes=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.02)
    for images, labels in batches():
        optimizer.zero_grad()
        objective(model(images), labels, branch_weight).backward()
        optimizer.step()
    return model.strip().state_dict()


@pytest.mark.parametrize(
    ("objective", "placement"),
    [(LogitSum(), "stages"), (LossSum(), "blocks"), (LossSum(average=True), "stages")],
    ids=str,
)
def test_five_steps_with_lambda_0_equal_training_without_branches(objective, placement: str) -> None:
    expected, got = vanilla(), shortcut(objective, placement, 0.0)
    assert list(got) == list(expected)
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
