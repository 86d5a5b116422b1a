"""Packed spikes under activation checkpointing."""

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shortcut_snn.nets import SpikingResNet

from .helpers import batch, gradients, two_stages

pytestmark = pytest.mark.usefixtures("kernels")


class Checkpointed(SpikingResNet):
    """A network that recomputes its stages in the backward pass."""

    reentrant: bool

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x, self.time_steps)
        for name in self.stage_names:
            x = checkpoint(self.get_submodule(name), x, use_reentrant=self.reentrant)
        return x.mean((-2, -1))


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(reentrant: bool) -> None:
    network = two_stages(Checkpointed)
    network.reentrant = reentrant
    for got, want in zip(gradients(network, batch(0)), gradients(two_stages(), batch(0)), strict=True):
        assert torch.equal(got, want)
