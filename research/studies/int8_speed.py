"""Time a batch in onnxruntime, in float32 and int8, with ReLUs in place of neurons, and in SpikingJelly.

    python research/studies/int8_speed.py FOLDER

Graphs are written to the folder once and reused. With one thread (OMP_NUM_THREADS=1) the seconds are processor time,
which other processes disturb little; with more threads they are wall-clock time. All take the same batch of 32 x 32
pixels, T = 4.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from research.benchmarks.cell import Cell
from research.benchmarks.peers import spikingjelly
from research.benchmarks.tasks.build import _loaded
from shortcut_snn.deploy import NetworkSpec, fold
from shortcut_snn.deploy.onnx_export import onnx_logits, to_int8, write_onnx
from shortcut_snn.deploy.spec import Prepare
from shortcut_snn.deploy.torch_export import make_graph
from shortcut_snn.introspection.neurons import spiking_layers

STEPS, SIDE, CLASSES, ROUNDS, RUNS = 4, 32, 100, 2, 5
WORKLOADS = {"resnet18, 64 wide": (64, 16), "resnet18, 16 wide": (16, 64)}


class Rectifier(nn.Module):
    """A ReLU in place of a layer of neurons."""

    def forward(self, x: Tensor, residual: Tensor | None = None, time_steps: int | None = None) -> Tensor:
        """Map a current ``[T, N, ...]`` to one."""
        x = x if time_steps is None else x.expand(time_steps, *x.shape[1:])
        return (x if residual is None else x + residual).relu()


def rectified(network: nn.Module) -> nn.Module:
    """Return a folded network with ReLUs in place of its neurons, which runs each layer as often."""
    for path in list(spiking_layers(network)):
        owner, _, name = path.rpartition(".")
        setattr(network.get_submodule(owner), name, Rectifier())
    return network


def contenders(width: int, batch: int, folder: Path) -> dict[str, Callable[[], object]]:
    """Return the functions to time."""
    torch.manual_seed(0)
    data = {"classes": [str(i) for i in range(CLASSES)], "channels": 3, "image_size": [SIDE, SIDE], "kind": "static"}
    spec = NetworkSpec.from_dict(
        {
            "network": {"kind": "resnet18", "width": width, "time_steps": STEPS},
            "neuron": "lif",
            "data": {**data, "mean": [0.5] * 3, "std": [0.25] * 3},
        }
    )
    network, images = spec.build(), torch.randint(0, 256, (batch, 3, SIDE, SIDE), dtype=torch.uint8)
    floats = Prepare(spec)(images)
    with torch.no_grad():
        for _ in range(5):
            network(floats)
    folded, made = fold(network), {}
    graphs = {"onnxruntime": lambda: folded, "onnxruntime, int8": lambda: to_int8(folded, floats)}
    for name, build in {**graphs, "onnxruntime, ReLUs": lambda: rectified(fold(network))}.items():
        path = folder / f"{width}-{name.replace(', ', '-')}.onnx"
        if not path.is_file():
            write_onnx(make_graph(build(), spec, False), spec, path)
        made[name] = onnx_logits(path, spec)
    runs: dict[str, Callable[[], object]] = {name: partial(logits, images) for name, logits in made.items()}
    for name, layout in {"": torch.contiguous_format, ", channels-last": torch.channels_last}.items():
        peer = spikingjelly.network(Cell("inference", "resnet18", width, batch, STEPS, classes=CLASSES))
        peer = _loaded(peer, network.state_dict()).eval().to(memory_format=layout)  # type: ignore[call-overload]
        runs[f"SpikingJelly{name}"] = partial(peer, floats.to(memory_format=layout))
    return runs


@torch.no_grad()
def main() -> None:
    """Time all contenders and print the medians."""
    folder, clock = Path(sys.argv[1]), time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    folder.mkdir(parents=True, exist_ok=True)
    for workload, (width, batch) in WORKLOADS.items():
        runs = contenders(width, batch, folder)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                time.sleep(0.2)  # threads of the previous contender may still spin
                run()
                for _ in range(RUNS):
                    start = clock()
                    run()
                    seconds[name].append(clock() - start)
        median = {name: statistics.median(each) for name, each in seconds.items()}
        peer = min(value for name, value in median.items() if name.startswith("SpikingJelly"))
        print(f"{workload}, batch {batch}, {torch.get_num_threads()} threads")
        for name, value in median.items():
            spread = f"{min(seconds[name]):.3f} to {max(seconds[name]):.3f}"
            print(f"  {name:30} {value:.3f} s ({spread}), {peer / value:.2f} times SpikingJelly's speed", flush=True)


if __name__ == "__main__":
    main()
