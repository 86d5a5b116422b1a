"""Contenders of the part ``"neuron"``: ``Linear(n, n)`` and a LIF neuron over ``[T, N, n]`` spikes.

In the form of Open Neuromorphic's benchmark, with dynamics, surrogate and firing rates that match.
"""

import torch
from torch import Tensor, nn

from ..cell import Cell
from .task import Observation, State, autocast

RATE = 0.1  # of the input


def linear(cell: Cell, state: State | None) -> nn.Linear:
    """Build the linear layer: weights that give currents of variance 1, or those of ``state``."""
    built = nn.Linear(cell.width, cell.width)
    if state is not None:
        built.load_state_dict(state)
        return built
    generator = torch.Generator().manual_seed(cell.width)
    with torch.no_grad():
        built.weight.normal_(0.0, (cell.width * RATE) ** -0.5, generator=generator)
        built.bias.zero_()
    return built


class NeuronTask:
    """Spikes of a module, and a constant gradient of them.

    Args:
        module: maps ``[T, N, n]`` to spikes of the same shape.
        cell: the workload.
        device: ``"cpu"`` or ``"cuda"``.
        weight_factor: the module's weights divided by the common ones.
    """

    def __init__(self, module: nn.Module, cell: Cell, device: str, weight_factor: float = 1.0) -> None:
        self.module = module.to(device)
        self.cell, self.device, self.weight_factor = cell, device, weight_factor
        generator = torch.Generator().manual_seed(cell.batch)
        shape = (cell.time_steps, cell.batch, cell.width)
        self.spikes = (torch.rand(shape, generator=generator) < RATE).float().to(device)
        self.gradient = torch.randn(shape, generator=generator).to(device)

    def step(self) -> None:
        self._step(self.spikes, self.gradient)

    def infer(self) -> None:
        self._infer(self.spikes)

    def warm(self) -> None:
        self._step(self.spikes[:, :2], self.gradient[:, :2])
        self._infer(self.spikes[:, :2])

    def release(self) -> None:
        self.module.zero_grad(set_to_none=True)

    def observe(self, training: bool) -> Observation | None:
        if training:
            return None
        output = self._step(self.spikes, self.gradient)
        weight = next(p for p in self.module.parameters() if p.dim() == 2)
        assert weight.grad is not None
        return Observation(
            logits=output.float().mean(0),
            loss=(output.float() * self.gradient).mean().item(),
            rates=[output.float().mean().item()],
            gradient=weight.grad.norm().item() * self.weight_factor,
        )

    def _step(self, spikes: Tensor, gradient: Tensor) -> Tensor:
        self.module.train()
        self.release()
        with autocast(self.device, self.cell.precision):
            output: Tensor = self.module(spikes)
        output.backward(gradient.to(output.dtype))
        return output.detach()

    def _infer(self, spikes: Tensor) -> None:
        self.module.eval()
        with torch.no_grad(), autocast(self.device, self.cell.precision):
            self.module(spikes)
