"""Contenders of the part ``"networks"``: a spiking ResNet, and its dense convolutions alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn._utils.module_state import hooked

from ..cell import Cell
from ..peers.convolutions import ConvolutionsOnly
from .task import Observation, autocast


def batch(cell: Cell, device: str) -> tuple[Tensor, Tensor]:
    """Return the images ``[N, 3, H, W]`` and labels ``[N]`` of a cell, the same in every process."""
    generator = torch.Generator().manual_seed(cell.batch)
    images = torch.randn(cell.batch, 3, cell.size, cell.size, generator=generator)
    labels = torch.randint(cell.classes, (cell.batch,), generator=generator)
    return images.to(device), labels.to(device)


class Rates(dict[str, list[Tensor]]):
    """Mean outputs by layer; a layer that runs once per time step has T of them."""

    def means(self) -> list[float]:
        """Return the firing rate of each layer."""
        return [torch.stack(rates).mean().item() for rates in self.values()]


@contextmanager
def recorded_rates(network: nn.Module) -> Iterator[Rates]:
    """Record the firing rates of the layers of neurons of any contender's network."""
    rates = Rates()
    names = ("spike", "spike1", "spike2")
    layers = {name: module for name, module in network.named_modules() if name.rpartition(".")[2] in names}

    def note(name: str, module: Any, args: Any, output: Tensor) -> None:
        # They are read later: ``item`` would wait for the device.
        rates.setdefault(name, []).append(output.detach().float().mean())

    with hooked(layers, note):
        yield rates


class NetworkTask:
    """Cross-entropy of a network's logits.

    Args:
        network: maps images ``[N, 3, H, W]`` to logits.
        cell: the workload.
        device: ``"cpu"`` or ``"cuda"``.
        channels_last: memory layout of images and convolution weights.
        pooled: whether batch statistics run over time and batch together; a network of which they do not is
            compared with running statistics only.
    """

    def __init__(
        self, network: nn.Module, cell: Cell, device: str, channels_last: bool = True, pooled: bool = True
    ) -> None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network: nn.Module = network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        images, self.labels = batch(cell, device)
        self.images = images.contiguous(memory_format=layout)
        self.cell, self.device, self.pooled = cell, device, pooled

    def step(self) -> None:
        self._step(self.images, self.labels)

    def infer(self) -> None:
        self._infer(self.images)

    def warm(self) -> None:
        self._step(self.images[:2], self.labels[:2])
        self._infer(self.images[:2])

    def release(self) -> None:
        self.network.zero_grad(set_to_none=True)

    def observe(self, training: bool) -> Observation | None:
        if training and not self.pooled:
            return None
        self.network.train(training)
        self.network.zero_grad(set_to_none=True)
        with recorded_rates(self.network) as rates, autocast(self.device, self.cell.precision):
            output = self.network(self.images)
            loss = self.loss(output, self.labels)
        loss.backward()
        first = next(module for module in self.network.modules() if isinstance(module, nn.Conv2d))
        assert first.weight.grad is not None
        return Observation(
            logits=self.logits(output).detach().float(),
            loss=loss.item(),
            rates=rates.means(),
            gradient=first.weight.grad.norm().item(),
        )

    def logits(self, output: Any) -> Tensor:
        """Return the logits among what the network returns."""
        return cast(Tensor, output)

    def loss(self, output: Any, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch, in float32."""
        return F.cross_entropy(self.logits(output).float(), labels)

    def _step(self, images: Tensor, labels: Tensor) -> None:
        self.network.train()
        self.network.zero_grad(set_to_none=True)
        with autocast(self.device, self.cell.precision):
            loss = self.loss(self.network(images), labels)
        loss.backward()

    def _infer(self, images: Tensor) -> None:
        self.network.eval()
        with torch.no_grad(), autocast(self.device, self.cell.precision):
            self.network(images)


class ConvolutionsTask:
    """The dense convolutions of a network alone."""

    def __init__(self, network: nn.Module, cell: Cell, device: str, channels_last: bool) -> None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        network = network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        images = batch(cell, device)[0].contiguous(memory_format=layout)
        dtype = torch.bfloat16 if cell.precision == "bfloat16" else torch.float32
        self.cell, self.device = cell, device
        self.convolutions = ConvolutionsOnly(network, images, dtype, cell.time_steps)  # type: ignore[arg-type]

    def step(self) -> None:
        self.release()
        with autocast(self.device, self.cell.precision):
            outputs = self.convolutions.forward()
        self.convolutions.backward(outputs)

    def infer(self) -> None:
        with torch.no_grad(), autocast(self.device, self.cell.precision):
            self.convolutions.forward()

    def warm(self) -> None:
        # At full size: it makes the constant gradients, which are not the step's own memory.
        self.step()

    def release(self) -> None:
        for leaf in self.convolutions.leaves():
            leaf.grad = None

    def observe(self, training: bool) -> Observation | None:
        return None
