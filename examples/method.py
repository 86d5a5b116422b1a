"""Train a network of any library with branches, without them, or with its initial values set by measurement."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from batches import Batch, Batches
from shortcut_snn import LinearDecay, LogitSum, LossSum, Shortcut, attach


def train(
    make_network: Callable[[], nn.Module],
    taps: str | list[str],
    batches: Batches,
    seed: int,
    epochs: int,
    lr: float,
    objective: LogitSum | LossSum,
    limit: int | None = None,
    method: str | None = None,
    **options: Any,
) -> dict[str, float]:
    """Train a network, with ``taps=[]`` without branches, and return its accuracies.

    Args:
        make_network: returns the network.
        taps: names of the submodules that get branches.
        batches: the data.
        seed: seed of the weights.
        epochs: number of passes through the training set.
        lr: learning rate at the start; it falls to 0 over half a cosine.
        objective: adds the branches to the logits (the paper's), or gives each branch a loss.
        limit: batches of each part of the data, for a trial.
        method: a preset that ``attach`` applies on a batch of training data, such as ``"initialised"``.
        options: options of ``attach``.
    """
    torch.manual_seed(seed)
    example, example_labels = (batches.example(), None) if method is None else next(batches.train(0))
    model = attach(
        make_network(), taps, example=example, labels=example_labels, method=method, num_classes=10, **options
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    total = epochs * min(batches.steps, limit or batches.steps)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    branch_weight = LinearDecay(initial=0.25)
    step, best = 0, {"validation": -1.0, "test": 0.0}
    for epoch in range(epochs):
        for frames, labels in batches.train(epoch, limit):
            loss = objective(model(frames), labels, branch_weight(step, total))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
        last = {part: accuracy(model, batches.evaluation(part, limit)) for part in ("validation", "test")}
        best = last if last["validation"] > best["validation"] else best
    model.strip(check=batches.example())
    return {"test_last": last["test"], "validation_best": best["validation"], "test_best": best["test"]}


@torch.no_grad()
def accuracy(model: Shortcut, stream: Iterator[Batch]) -> float:
    """Return the percentage of right answers of the main output."""
    model.eval()
    right = [model(frames).main.argmax(1) == labels for frames, labels in stream]
    model.train()
    return 100 * torch.cat(right).float().mean().item()
