"""Packed spikes under DistributedDataParallel and activation checkpointing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shortcut_snn.nets import SpikingResNet

from .helpers import batch, gradients, two_stages

PROCESS = """
import sys
from pathlib import Path
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from tests.nets.helpers import batch, gradients, two_stages

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2)
torch.save(gradients(DistributedDataParallel(two_stages()), batch(rank)), folder / f"{rank}.pt")
distributed.destroy_process_group()
"""


def test_distributed_data_parallel(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path), str(rank)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert not any(process.returncode for process in processes), errors
    saved = {path.stem: torch.load(path, weights_only=True) for path in tmp_path.glob("*.pt")}
    alone = [gradients(two_stages(), batch(rank)) for rank in range(2)]
    mean = [(first + second) / 2 for first, second in zip(*alone, strict=True)]
    for rank in range(2):
        torch.testing.assert_close(saved[str(rank)], mean)


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
