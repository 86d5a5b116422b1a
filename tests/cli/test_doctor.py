"""``shortcut-snn doctor`` runs the kernels, and says which fail."""

import re
import subprocess
import sys
import textwrap

import pytest
import torch

from shortcut_snn.cli import doctor, main
from shortcut_snn.neurons import backend
from shortcut_snn.neurons.cpu import implementation as kernels
from shortcut_snn.neurons.proof import ProvenKernels


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of which nothing is proven yet, and times of small layers."""
    proven = ProvenKernels(kernels, "numba", lambda: False)
    monkeypatch.setattr(backend, "_loaded", {"numba": proven})
    monkeypatch.setattr(backend, "_load", lambda name: proven)
    monkeypatch.setattr(doctor, "_SHAPE", (2, 2, 4, 4, 4))
    monkeypatch.setattr(doctor, "_ROUNDS", 1)


def test_kernels_that_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    remedies, block = capsys.readouterr().out.split("Paste this into an issue:\n\n")
    assert "fails" not in remedies
    assert block.startswith("```text\nshortcut-snn ")
    assert block.endswith("```\n")
    for kernel in ("batch_statistics", "forward", "backward", "input_grad", "pack", "unpack"):
        assert re.search(rf"kernel {kernel}: agrees with plain PyTorch in float32 \d+, bfloat16 \d+ forms", block)
    assert re.search(r"training step, ResNet-18 .*: kernels [\d.]+ ms, plain PyTorch [\d.]+ ms", block)


def test_a_kernel_that_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pack = kernels.pack
    monkeypatch.setattr(kernels, "pack", lambda spikes: pack(spikes) ^ 1)
    assert main(["doctor"]) == 1
    remedies, block = capsys.readouterr().out.split("Paste this into an issue:")
    assert "the numba kernel 'pack' (float32, cpu) fails: its result differs from" in remedies
    assert "kernel pack: float32 FAILS: its result differs from" in block


@pytest.mark.usefixtures("nothing_imported")
def test_without_kernels_neurons_run_and_the_remedy_is_named() -> None:
    code = """
        import sys
        sys.modules["numba"] = None
        from shortcut_snn.cli import doctor, main
        doctor._SHAPE, doctor._ROUNDS = (2, 2, 4, 4, 4), 1
        sys.exit(main(["doctor"]))
        """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "- numba is missing, so neurons run in plain PyTorch: pip install 'shortcut-snn[fast]'" in result.stdout
    assert (
        "- Neurons run in plain PyTorch, slower and with more memory, because numba cannot be imported" in result.stdout
    )
    assert "Paste this into an issue" in result.stdout


def test_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1000)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nowhere")
    lines = list(doctor._remedies(torch.device("cpu")))
    assert any(line.startswith("PyTorch has 1000 threads on ") for line in lines)
    assert "kernels cannot be cached in /proc/nowhere: set NUMBA_CACHE_DIR to a folder that you may write to" in lines


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--device", "cuda"]) == 1
    assert "PyTorch finds no GPU" in capsys.readouterr().err
