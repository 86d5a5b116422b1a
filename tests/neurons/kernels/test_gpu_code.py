"""All Triton kernels compile to GPU machine code; no GPU is needed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: there is none for this platform")

from triton.runtime import driver

from research.benchmarks.gpu_bounds import NoGpu
from shortcut_snn.neurons import CLIF, ILIF, LIF, PLIF, RLIF, Neuron, NormalisedTanh, Sigmoid, Triangle
from shortcut_snn.neurons.compiler.trace import traced
from shortcut_snn.neurons.gpu import implementation as gpu
from shortcut_snn.neurons.operators.interface import Affine, Dynamics, Source

from .test_norm_neuron import lay_out

Compiled = dict[str, list[Any]]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compiled:
    """Compile each launch, with its very arguments, instead of running it."""
    kernels: Compiled = {}
    launch = gpu.launch

    def warm_up(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], **constants: Any) -> None:
        # The kernels' parameters are passed by position.
        assert list(arguments) == kernel.arg_names[: len(arguments)]

        class WarmUp:
            def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
                return lambda *a, **k: kernels.setdefault(kernel.__name__, []).append(kernel.warmup(*a, grid=grid, **k))

        launch(WarmUp(), grid, arguments, **constants)

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(gpu, "launch", warm_up)
    monkeypatch.setattr(driver, "_active", NoGpu(80))
    return kernels


def dynamics(neuron: Neuron) -> Dynamics:
    step = traced(neuron)
    scalars = torch.zeros(len(step.scalars)) if step.scalars else None
    return Dynamics(step.text, step.constants, scalars, None, True)


def sequence(steps: int, layout: str, dtype: torch.dtype) -> Tensor:
    return lay_out(torch.zeros(steps, 2, 64, 8, 8, dtype=dtype), layout)


def assert_is_lean(compiled: Compiled) -> None:
    for name, kernels in compiled.items():
        for kernel in kernels:
            code = kernel.asm["ptx"]
            # Forward and backward round alike only without these; and registers are not spilled.
            assert not re.search(r"\bfma\.rn\.f32\b", code) or "ex2" in code, name
            assert not re.search(r"\b(ld|st)\.local\b", code), name
            assert kernel.asm["cubin"]


@pytest.mark.parametrize(
    ("dtype", "capability", "layout"),
    [(torch.float32, 80, "channels_last"), (torch.float16, 80, "contiguous"), (torch.bfloat16, 90, "channels_last")],
)
def test_a_layer_of_a_network(
    compiled: Compiled, dtype: torch.dtype, capability: int, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_active", NoGpu(capability))
    x, affine = sequence(4, layout, dtype), Affine(*torch.ones(3, 64))
    bits = torch.zeros(4, 1024, dtype=torch.uint8)
    gpu.batch_statistics(x)
    source, step = Source(x, None, bits, affine), dynamics(LIF())
    gpu.forward(source, 4, step, False, True)
    gpu.backward(x, None, source, step, True)
    gpu.input_grad(x, x, *torch.ones(3, 64), in_place=True)
    gpu.pack(x)
    gpu.unpack(bits, x)
    assert set(compiled) == {
        f"{name}_kernel" for name in ("statistics", "forward", "backward", "input_grad", "pack", "unpack")
    }
    assert_is_lean(compiled)
    assert all(f".target sm_{capability}" in kernel.asm["ptx"] for kernels in compiled.values() for kernel in kernels)


NEURONS = [
    PLIF(surrogate=Triangle(), detach_reset=True),
    CLIF(surrogate=Sigmoid()),
    RLIF(surrogate=NormalisedTanh()),
    ILIF(),
]


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda neuron: type(neuron).__name__ + type(neuron.surrogate).__name__)
def test_a_neuron_with_residual_and_states(compiled: Compiled, neuron: Neuron) -> None:
    states = len(neuron.states)
    x, initial = torch.zeros(1, 3, 7), torch.zeros(states, 3, 7)
    grad, source, step = torch.zeros(5, 3, 7), Source(x, torch.zeros(5, 3, 7), initial=initial), dynamics(neuron)
    gpu.forward(source, 5, step, True, False)
    gpu.backward(grad, initial, source, step, True)
    assert set(compiled) == {"forward_kernel", "backward_kernel"}
    assert_is_lean(compiled)
