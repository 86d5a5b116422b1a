"""Contenders of the part ``"method"``: the network of this package with branches and without."""

import torch
from torch import Tensor

from shortcut_snn import LogitSum, ShortcutOutput, wrap
from shortcut_snn.nets import SpikingResNet

from ..cell import Cell
from .network import NetworkTask
from .task import Observation

BRANCH_WEIGHT = 0.25


class MethodTask(NetworkTask):
    """A training step with ``Shortcut`` and the logit sum; without taps it is plain training."""

    def __init__(self, network: SpikingResNet, cell: Cell, device: str, taps: str | list[str]) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = wrap(network, network.layout(taps), log=len)
        super().__init__(model, cell, device)
        self.objective, self.branch_weight = LogitSum(), BRANCH_WEIGHT

    def logits(self, output: ShortcutOutput) -> Tensor:
        """Return the logits of the main output."""
        return output.main

    def loss(self, output: ShortcutOutput, labels: Tensor) -> Tensor:
        """Return the method's loss."""
        return self.objective(output, labels, self.branch_weight)

    def observe(self, training: bool) -> Observation | None:
        """Return what a step computes with a branch weight of 0, which equals plain training."""
        self.branch_weight = 0.0
        try:
            return super().observe(training)
        finally:
            self.branch_weight = BRANCH_WEIGHT
