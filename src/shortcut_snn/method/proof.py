"""Whether two outputs are the same, bit for bit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def difference(expected: Tensor, got: Tensor) -> str | None:
    """Say in words how two tensors differ; None if they have the same shape, dtype and bits (NaN included)."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return f"{expected.dtype} {tuple(expected.shape)} became {got.dtype} {tuple(got.shape)}"
    if not expected.numel():
        return None
    one, other = (x.detach().contiguous().view(-1, 1).view(torch.uint8) for x in (expected, got))
    differing = (one != other).any(1)
    if not differing.any():
        return None
    largest = (expected.double() - got.double()).abs().max().item()
    return f"{int(differing.sum())} of {len(differing)} values differ, by up to {largest:g}"


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; modes and random numbers are put back behind it."""
    modes = [(module, module.training) for module in network.modules()]
    devices = {p.device.index for p in network.parameters() if p.device.type == "cuda"}
    try:
        network.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        for module, training in modes:
            module.training = training
