"""Training steps of one process, or of one of several, on the same images; test_devices runs it in processes."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from shortcut_snn import Constant, LinearDecay, LogitSum, LossSum

from ..method.wrapped import wrapped
from .tiny import network

STEPS, IMAGES = 4, 12
CASES = {
    "evolutionary": (["spike1"], LogitSum(), LinearDecay(0.25)),
    "lambda 0": (["spike1"], LogitSum(), Constant(0.0)),
    "loss sum": (["spike1", "spike2"], LossSum(), LinearDecay(0.25)),
    "vanilla": ([], LogitSum(), Constant(0.0)),
}
Steps = tuple[list[float], dict[str, torch.Tensor]]


def steps(case: str, rank: int, world: int) -> Steps:
    """Train in double precision, where rounding flips no spike; return losses and the network's final state."""
    taps, objective, branch_weight = CASES[case]
    torch.manual_seed(0)
    # Without batch norms, whose statistics would be those of each process.
    net = network(norm=False).double()
    model: torch.nn.Module = wrapped(net, taps, num_classes=2, example=torch.rand(2, 1, 4, 4).double())
    if world > 1:
        model = DistributedDataParallel(model)
    images, labels = torch.rand(STEPS, IMAGES, 1, 4, 4, dtype=torch.float64), torch.randint(2, (STEPS, IMAGES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(STEPS):
        output = model(images[step, rank::world])
        loss = objective(output, labels[step, rank::world], branch_weight(step, STEPS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach()
        if world > 1:
            dist.all_reduce(mean)
        losses.append(mean.item() / world)
    return losses, net.state_dict()


def main(out: Path, rank: int, world: int) -> None:
    """Run all cases with the other processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}.meet", rank=rank, world_size=world)
    results = {case: steps(case, rank, world) for case in CASES}
    torch.save(results, f"{out}.{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
