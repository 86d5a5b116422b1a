"""Which operators a network runs, seen by torch's dispatcher."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from shortcut_snn import LogitSum, Shortcut

from ..cell import Cell
from ..peers import this_package
from ..tasks import State
from ..tasks.network import batch
from ..tasks.task import autocast


class Trace(TorchDispatchMode):
    """Keeps the name and the tensor shapes of every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = [tuple(leaf.shape) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.calls.append(f"{func} {shapes}")
        return func(*args, **(kwargs or {}))


def inference(cell: Cell, network: nn.Module, images: Tensor) -> tuple[list[str], Tensor]:
    """Return the operators of an inference batch, in order, and its output."""
    network.eval()
    with torch.no_grad(), autocast("cpu", cell.precision), Trace() as trace:
        output = network(images)
    return trace.calls, output


def same_operators(cell: Cell, state: State) -> dict[str, Any]:
    """Train a step with branches, strip them, and compare inference with a network that never had any.

    Returns:
        ``operators``: how many an inference batch of the vanilla network runs, by name; ``stripped`` and
        ``wrapped``: whether the network stripped of branches, and the wrapper in eval mode, run exactly these,
        in this order and on these shapes; ``equal``: whether the outputs are equal to the last bit.
    """
    images, labels = batch(cell, "cpu")
    network = this_package.network(cell)
    network.load_state_dict(state)
    model = Shortcut(network, "stages", num_classes=cell.classes).train()
    LogitSum()(model(images), labels, 0.25).backward()
    vanilla = this_package.network(cell)
    vanilla.load_state_dict(network.state_dict())
    expected, output = inference(cell, vanilla, images)
    wrapped, wrapped_output = inference(cell, model, images)
    stripped, stripped_output = inference(cell, model.strip(), images)
    return {
        "operators": dict(Counter(call.split(" ")[0] for call in expected)),
        "stripped": stripped == expected,
        "wrapped": wrapped == expected,
        "equal": torch.equal(output, stripped_output) and torch.equal(output, wrapped_output[0]),
    }
