"""Contenders of the part ``"inference"``: networks that are used and not trained."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn.deploy import fold
from shortcut_snn.deploy.inference import for_inference
from shortcut_snn.nets import SpikingResNet

from ..cell import Cell
from .network import NetworkTask, recorded_rates
from .task import Observation, autocast


class UsedTask(NetworkTask):
    """A network in eval mode, as its library has it, under autocast in half precision."""

    def warm(self) -> None:
        self._infer(self.images[:2])

    def observe(self, training: bool) -> Observation | None:
        if training:
            return None
        with recorded_rates(self.network) as rates:
            logits = self._logits(self.images).float()
        return Observation(logits, F.cross_entropy(logits, self.labels).item(), rates.means())

    def _logits(self, images: Tensor) -> Tensor:
        self.network.eval()
        with torch.no_grad(), autocast(self.device, self.cell.precision):
            logits: Tensor = self.network(images)
        return logits

    def _infer(self, images: Tensor) -> None:
        self._logits(images)


class DeployedTask(UsedTask):
    """Our network as ``deploy.load`` runs it: norms folded away, channels-last, its weights in the precision."""

    def __init__(self, network: SpikingResNet, cell: Cell, device: str) -> None:
        dtype = torch.bfloat16 if cell.precision == "bfloat16" else torch.float32
        deployed: nn.Module = for_inference(fold(network), dtype)
        super().__init__(deployed, cell, device)
        self.images = self.images.to(dtype)

    def _logits(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.network(images)
        return logits
