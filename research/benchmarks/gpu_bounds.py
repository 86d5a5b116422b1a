"""Bound the time of a training step on a GPU from the compiled kernels, without a GPU.

    python -m research.benchmarks.gpu_bounds

It compiles every launch of a training step of SEW ResNet-18 (T = 4, 224 pixels, bfloat16) for sm_80, sm_90 and sm_120,
and reads registers, spills and shared memory from the machine code. A kernel reads and writes each of its tensors at
least once, so bytes over memory bandwidth bound its time. Multiplications of the convolutions over the peak of the
tensor cores bound theirs. The step runs with one image; bytes and operations grow with the batch.
"""

import argparse
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from shortcut_snn import nets
from shortcut_snn.neurons import backend
from shortcut_snn.neurons.gpu import implementation as gpu

CAPABILITIES = (80, 90, 120)
# Bytes per second of the memory, and dense bfloat16 operations per second, by the makers' data sheets.
GPUS = {"A100 80 GB": (2.04e12, 312e12), "H100 SXM": (3.35e12, 989e12), "RTX 4090": (1.01e12, 165e12)}
TIME_STEPS, PIXELS = 4, 224
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"


class NoGpu:
    """The part of a driver that Triton needs to compile."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        """Return what to compile for."""
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        """Return a number by which Triton caches compiled kernels."""
        return self.capability

    def get_current_stream(self, device: int | None = None) -> int:
        """Return the default stream."""
        return 0


class Recorder:
    """Compiles each launch instead of running it, and counts the bytes of its tensors."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = defaultdict(int)
        self.launches: dict[str, int] = defaultdict(int)
        self.compiled: dict[str, Any] = {}
        self._launch = gpu.launch

    def launch(self, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], **constants: Any) -> None:
        """Take the place of ``gpu.launch``."""
        name = kernel.__name__.removesuffix("_kernel")
        self.launches[name] += 1
        # The scratch of the backward pass is as large as the tiles in progress, and stays in the cache.
        tensors = {key: value for key, value in arguments.items() if isinstance(value, Tensor) and key != "scratch"}
        self.bytes[name] += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        recorder = self

        class Compile:
            def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
                def compile_only(*values: Any, **options: Any) -> None:
                    recorder.compiled[name] = kernel.warmup(*values, grid=grid, **options)

                return compile_only

        self._launch(Compile(), grid, arguments, **constants)


def record(capability: int) -> tuple[Recorder, int]:
    """Return the launches of a training step with one image, and the operations of its convolutions."""
    torch.manual_seed(0)
    network = nets.spiking_resnet18(num_classes=1000, time_steps=TIME_STEPS, width=64, stem="large", block="sew")
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(1, 3, PIXELS, PIXELS).to(memory_format=torch.channels_last)
    recorder = Recorder()
    with (
        mock.patch.object(gpu, "launch", recorder.launch),
        mock.patch.object(driver, "_active", NoGpu(capability)),
        mock.patch.object(backend, "_load", return_value=gpu),
        mock.patch.object(backend, "_works", return_value=True),
        FlopCounterMode(display=False) as operations,
        torch.autocast("cpu", torch.bfloat16),
    ):
        network(images).sum().backward()
    return recorder, operations.get_total_flops()


def resources(compiled: Any) -> tuple[int, int, int]:
    """Return registers of a thread, spilled bytes, and bytes of shared memory."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(TOOLS / "cuobjdump"), "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found is not None, text
    return int(found[1]), int(found[2]), compiled.metadata.shared


def main() -> None:
    """Print two tables: what the kernels use, and what bounds a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=112)
    batch = parser.parse_args().batch
    records = {capability: record(capability) for capability in CAPABILITIES}
    recorder, operations = records[CAPABILITIES[0]]
    columns = " | ".join(f"sm_{capability}" for capability in CAPABILITIES)
    print(f"registers / spilled bytes / shared bytes, and memory of a step of {batch} images\n")
    print(f"| kernel | launches | {columns} | GB |\n|---|---|{'---|' * len(CAPABILITIES)}---|")
    for name, launches in recorder.launches.items():
        used = ["{} / {} / {}".format(*resources(records[c][0].compiled[name])) for c in CAPABILITIES]
        print(f"| {name} | {launches} | {' | '.join(used)} | {batch * recorder.bytes[name] / 1e9:.2f} |")
    moved = batch * sum(recorder.bytes.values())
    print(
        f"\n{sum(recorder.launches.values())} launches, {moved / 1e9:.2f} GB, {batch * operations / 1e12:.2f} TFLOP\n"
    )
    print("| GPU | neurons and norms | convolutions | both |\n|---|---|---|---|")
    for name, (bandwidth, peak) in GPUS.items():
        memory, arithmetic = 1e3 * moved / bandwidth, 1e3 * batch * operations / peak
        print(f"| {name} | {memory:.1f} ms | {arithmetic:.1f} ms | {memory + arithmetic:.1f} ms |")


if __name__ == "__main__":
    main()
