"""One of the processes of ``test_ddp``: python -m tests.method.ddp_worker RANK RENDEZVOUS.

Prints, for each case, the largest difference between the gradients of DDP and those of one process with both batches,
and whether the branches' gradients are all 0.
"""

import json
import os
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import LogitSum, LossSum, ShortcutOutput, attach

from .peers import PEERS, frames

WORLD = 2


def main_output_alone(output: ShortcutOutput, labels: Tensor, branch_weight: float) -> Tensor:
    return F.cross_entropy(output.main, labels)


def gradients(model: nn.Module, x: Tensor, labels: Tensor, objective: object, branch_weight: float) -> list[Tensor]:
    model.zero_grad()
    objective(model(x), labels, branch_weight).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def main() -> None:
    rank, rendezvous = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORLD)
    report = {}
    for name in ("spikingjelly m", "snntorch hidden"):
        peer = PEERS[name]
        torch.manual_seed(0)
        x, labels = frames(2 * WORLD), torch.tensor([0, 1, 2, 0])
        # In eval mode batch normalisation does not see which samples share a process.
        network = peer.make().eval()
        model = attach(network, peer.taps, example=x, **peer.said)
        mine = slice(2 * rank, 2 * rank + 2)
        for objective, unused in ((LossSum(), False), (LogitSum(), False), (main_output_alone, True)):
            ddp = nn.parallel.DistributedDataParallel(model, find_unused_parameters=unused)
            network.eval()
            for branch_weight in (0.5, 0.0, 0.0, 0.5):
                got = gradients(ddp, x[:, mine], labels[mine], objective, branch_weight)
                expected = gradients(model, x, labels, objective, branch_weight)
                error = max((a - b).abs().max().item() for a, b in zip(got, expected, strict=True))
                silent = not any(gradient.any() for gradient in got[-2:])
                report.setdefault(f"{name}, {getattr(objective, '__name__', type(objective).__name__)}", []).append(
                    [branch_weight, error, silent]
                )
            # Batches of other sizes, another one for each process: states are not what is kept in step.
            gradients(ddp, x[:, : 1 + rank], labels[: 1 + rank], objective, 0.5)
            gradients(ddp, x[:, mine], labels[mine], objective, 0.5)
    if rank == 0:
        print(json.dumps(report), flush=True)
    # Wait for the other process, then end at once: torch can deadlock when it destroys DDP after its process group.
    torch.distributed.barrier()
    os._exit(0)


if __name__ == "__main__":
    main()
