"""Steps of one process, or of one of several, on the same images: run by test_devices in processes of its own."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from shortcut_snn import Constant, LinearDecay, LogitSum, LossSum, Shortcut, nets
from shortcut_snn.neurons import LIF, Triangle
from shortcut_snn.training.sync_norm import synchronise

STEPS, IMAGES = 4, 12
CASES = {
    "evolutionary": ("stages", LogitSum(), LinearDecay(0.25)),
    "lambda 0": ("blocks", LogitSum(), Constant(0.0)),
    "deep supervision": ("blocks", LossSum(), LinearDecay(0.25)),
    "vanilla": ([], LogitSum(), Constant(0.0)),
}
Steps = tuple[list[float], dict[str, torch.Tensor]]


def steps(case: str, rank: int, world: int) -> Steps:
    """Train in double precision, where rounding flips no spike; return the losses and what the network became."""
    taps, objective, balance = CASES[case]
    torch.manual_seed(0)
    net = nets.spiking_resnet8(5, 2, width=4, make_neuron=lambda: LIF(surrogate=Triangle())).double()
    model: torch.nn.Module = Shortcut(net, taps, num_classes=5)
    if world > 1:
        synchronise(net)
        model = DistributedDataParallel(model)
    images, labels = torch.rand(STEPS, IMAGES, 3, 8, 8, dtype=torch.float64), torch.randint(5, (STEPS, IMAGES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(STEPS):
        loss = objective(model(images[step, rank::world]), labels[step, rank::world], balance(step, STEPS))
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
