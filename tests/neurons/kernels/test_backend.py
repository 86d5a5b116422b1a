"""Choosing an implementation, and what happens where there is none."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from shortcut_snn.neurons import LIF, backend, get_backend, set_backend, use_backend
from shortcut_snn.neurons.backend import kernels_run
from shortcut_snn.neurons.proof import ProvenKernels

pytestmark = pytest.mark.usefixtures("nothing_imported")


def python(code: str, **environment: str) -> str:
    """Run code in a process of its own, return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_auto_runs_kernels_for_supported_dtypes() -> None:
    assert get_backend() == "auto"
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert kernels_run(torch.ones(2, 3, dtype=dtype))
    assert not kernels_run(torch.ones(2, 3, dtype=torch.float64))
    assert not kernels_run(torch.ones(2, 0))
    assert not kernels_run(torch.ones(2, 3, device="meta"))


def test_a_choice_holds_within_its_block() -> None:
    with use_backend("eager"):
        assert get_backend() == "eager"
        assert not kernels_run(torch.ones(2, 3))
        with use_backend("numba"):
            assert kernels_run(torch.ones(2, 3))
        assert get_backend() == "eager"
    assert get_backend() == "auto"


def test_an_unknown_backend_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="cuda"):
        set_backend("cuda")
    assert get_backend() == "auto"


def test_without_numba_neurons_run_and_warn_once() -> None:
    output = python(
        """
        import sys, warnings
        sys.modules["numba"] = sys.modules["triton"] = None
        import torch
        from shortcut_snn.neurons import LIF, set_backend
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                spikes = LIF()(torch.full((3, 2), 2.0))
        print(len(caught), spikes.sum().item(), str(caught[0].message))
        try:
            set_backend("numba")
        except ImportError as error:
            print(error)
        """
    )
    first, second = output.strip().splitlines()
    assert first.startswith("1 6.0 Neurons run in plain PyTorch")
    assert "pip install 'shortcut-snn[fast]'" in first
    assert second == "the numba backend needs numba: pip install 'shortcut-snn[fast]'"


@pytest.mark.parametrize("bits", [RuntimeError("no C compiler\nin the path"), [1, 1, 0, 0, 0, 0, 0, 0]], ids=str)
def test_a_failing_test_kernel_falls_back_to_plain_pytorch(bits: object, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        @staticmethod
        def pack(spikes: torch.Tensor) -> torch.Tensor:
            if isinstance(bits, Exception):
                raise bits
            return torch.tensor([bits], dtype=torch.uint8)

    monkeypatch.setattr(backend, "_load", lambda kernels: ProvenKernels(Broken, kernels, lambda: False))
    monkeypatch.setattr(backend, "_working", {})
    # A device that tensors can be made on everywhere stands for the GPU.
    with pytest.warns(UserWarning, match="plain PyTorch.* triton") as caught:
        works = [backend._works("triton", "meta") for _ in range(3)]
    assert works == [False, False, False]
    assert len(caught) == 1
    assert "(no C compiler)" in str(caught[0].message) or "[1, 1," in str(caught[0].message)


def test_a_backward_pass_may_run_under_another_backend() -> None:
    current = torch.full((3, 2), 1.2).requires_grad_()
    spikes = LIF()(current)
    with use_backend("eager"):
        spikes.sum().backward()
    assert current.grad.any()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_backend_without_its_device_is_refused() -> None:
    pytest.importorskip("triton", reason="Triton is not installed: there is none for this platform")
    with pytest.raises(RuntimeError, match="the triton backend needs a GPU, and PyTorch sees none"):
        set_backend("triton")
    assert get_backend() == "auto"
    code = "import torch; from shortcut_snn.neurons import LIF; LIF()(torch.ones(2, 3))"
    chosen = os.environ | {"SHORTCUT_SNN_BACKEND": "triton", "TRITON_INTERPRET": "0"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=chosen, check=False)
    assert result.returncode == 1
    assert "RuntimeError: the triton backend needs a GPU" in result.stderr
