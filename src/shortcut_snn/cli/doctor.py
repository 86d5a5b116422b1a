"""``shortcut-snn doctor``: describe this machine, and check and time the kernels on it."""

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from timeit import repeat

import torch
from torch import Tensor, nn

from ..nets import spiking_resnet18
from ..neurons import CLIF, LIF, PLIF, NormNeuron, use_backend
from ..neurons.backend import implementation, kernels_run, proofs
from ..training.provenance import environment
from ..training.run import why_bf16_is_slow
from ..training.steps import wait_for
from ._run_pool import usable_cores
from ._terminal import print_line

_SHAPE = (4, 16, 32, 16, 16)
"""Time steps, batch, channels and pixels of the layer that is timed."""
_ROUNDS = 5


def run(options: argparse.Namespace) -> int:
    """Print warnings with their remedies, and a block to paste into an issue; return 1 if a kernel fails."""
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no GPU; check its build and the driver")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        print("running each kernel on examples ...", file=sys.stderr, flush=True)
        _run_kernels(device)
        proven = list(_proof_lines())
        print("timing a neuron layer and a training step ...", file=sys.stderr, flush=True)
        times = list(_times(device))
    messages = dict.fromkeys(str(warning.message) for warning in caught)
    # Of other libraries' warnings none helps.
    remedies = [*_remedies(device), *(message for message in messages if "plain pytorch" in message.lower())]
    for remedy in remedies or ["no warnings: kernels run and agree with plain PyTorch"]:
        print_line(f"- {remedy}")
    print_line("\nPaste this into an issue:\n\n```text")
    for line in [*_machine_lines(device), *proven, *times]:
        print_line(line)
    print_line("```")
    return int(any(verdict.reason for verdict in proofs()))


def _machine_lines(device: torch.device) -> Iterator[str]:
    about = environment([])
    yield f"shortcut-snn {about['shortcut_snn']}, Python {about['python']}, {about['platform']}"
    yield ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    # Older versions of torch do not tell them.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    instructions = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "neon", "sve")
    flags = " ".join(name for name in instructions if capabilities.get(name))
    yield f"processor: {usable_cores()} cores, {about['cpu_threads']} threads, {flags}"
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        memory = gpu.total_memory / 2**30
        yield f"GPU: {gpu.name}, sm_{gpu.major}{gpu.minor}, {memory:.0f} GiB, CUDA {torch.version.cuda}"


def _run_kernels(device: torch.device) -> None:
    """Call neurons so that every kernel is checked, in both layouts and all precisions."""
    # On a CPU each form compiles for a second, and few users train in float16.
    is_gpu = device.type == "cuda"
    for dtype in (torch.float32, torch.bfloat16, torch.float16)[: 3 if is_gpu else 2]:
        for neuron in (LIF(), PLIF(), CLIF())[: 3 if is_gpu else 1]:
            for channels_last in (False, True):
                layer = NormNeuron(nn.BatchNorm2d(8), neuron).to(device)
                x = torch.randn(3, 2, 8, 5, 5, device=device).to(dtype)
                if channels_last:
                    x = x.movedim(2, -1).contiguous().movedim(-1, 2)
                spikes = layer(x.requires_grad_(), time_steps=3)
                layer(x, spikes).float().sum().backward()
                with torch.no_grad():
                    neuron(x[..., 0, 0])
                if kernels_run(x):
                    kernels = implementation(x)
                    kernels.unpack(kernels.pack(spikes.detach()), torch.empty_like(x))


def _proof_lines() -> Iterator[str]:
    """Yield a line for each kernel and precision: in how many forms it agrees, and why it fails in others."""
    verdicts = proofs()
    for kernel in dict.fromkeys(verdict.kernel for verdict in verdicts):
        of_kernel = [verdict for verdict in verdicts if verdict.kernel == kernel]
        right = Counter(str(verdict.dtype)[6:] for verdict in of_kernel if not verdict.reason)
        counts = ", ".join(f"{dtype} {count}" for dtype, count in right.items())
        yield f"kernel {kernel}: agrees with plain PyTorch in {counts or 'no'} forms"
        yield from (f"kernel {kernel}: {str(v.dtype)[6:]} FAILS: {v.reason}" for v in of_kernel if v.reason)


def _times(device: torch.device) -> Iterator[str]:
    """Yield the times of a neuron layer and of a training step of a small ResNet-18, in kernels and plain PyTorch."""
    network = spiking_resnet18(num_classes=10, time_steps=4, width=16).to(device)
    timed: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
        f"neuron layer {list(_SHAPE)}": (LIF(), torch.randn(_SHAPE, device=device)),
        "training step, ResNet-18 of width 16, batch 8, T = 4": (network, torch.rand(8, 3, 32, 32, device=device)),
    }
    for name, (module, x) in timed.items():
        kernels = _milliseconds(module, x)
        with use_backend("eager"):
            plain = _milliseconds(module, x)
        yield f"{name}: kernels {kernels:.2f} ms, plain PyTorch {plain:.2f} ms ({plain / kernels:.1f} times)"


def _milliseconds(network: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Return the least time of a forward and backward pass."""
    x = x.detach().requires_grad_()

    def step() -> None:
        network(x).sum().backward()  # type: ignore[no-untyped-call]
        wait_for(x.device)

    return 1000 * min(repeat(step, repeat=_ROUNDS + 2, number=1)[2:])


def _remedies(device: torch.device) -> Iterator[str]:
    """Yield what makes training slow or fail on this machine, each with what helps."""
    if device.type == "cpu" and importlib.util.find_spec("numba") is None:
        yield "numba is missing, so neurons run in plain PyTorch: pip install 'shortcut-snn[fast]'"
    if device.type == "cpu" and Path("/proc/driver/nvidia/version").exists() and not torch.version.cuda:
        yield "there is an NVIDIA driver, but this build of PyTorch has no CUDA: install the one of pytorch.org"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        yield "Triton is missing, so neurons run in plain PyTorch: pip install triton"
    compilers = filter(None, (os.environ.get("CC"), "cc", "gcc", "clang"))
    if device.type == "cuda" and not any(map(shutil.which, compilers)):
        yield "Triton needs a C compiler and finds none: install gcc, or set CC to a compiler"
    threads, cores = torch.get_num_threads(), usable_cores()
    if threads > cores:
        yield f"PyTorch has {threads} threads on {cores} cores: set OMP_NUM_THREADS={cores}"
    if device.type == "cpu" and (slow := why_bf16_is_slow()):
        yield f"{slow}: set training.precision to fp32"
    for variable, folder in (("NUMBA_CACHE_DIR", None), ("TRITON_CACHE_DIR", Path.home() / ".triton")):
        path = os.environ.get(variable) or folder
        if path is not None and not _is_writable(Path(path)):
            yield f"kernels cannot be cached in {path}: set {variable} to a folder that you may write to"


def _is_writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
