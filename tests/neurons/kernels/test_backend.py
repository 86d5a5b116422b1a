"""Choosing an implementation, and what happens where there is none."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from shortcut_snn.neurons import LIF, get_backend, set_backend, use_backend
from shortcut_snn.neurons.kernels import kernels_run


def python(code: str, **environment: str) -> str:
    """Run code in a process of its own, return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_auto_takes_the_kernels_for_the_dtypes_they_know() -> None:
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


def test_a_choice_ends_with_its_block_whatever_happens() -> None:
    def fail() -> None:
        with use_backend("eager"):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert get_backend() == "auto"


def test_an_unknown_backend_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown backend 'cuda': use one of auto, eager, numba"):
        set_backend("cuda")
    assert get_backend() == "auto"


def test_the_environment_chooses() -> None:
    code = "from shortcut_snn.neurons import get_backend; print(get_backend())"
    assert python(code, SHORTCUT_SNN_BACKEND="eager").strip() == "eager"


def test_without_numba_neurons_run_and_say_so_once() -> None:
    output = python(
        """
        import sys, warnings
        sys.modules["numba"] = None
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


def test_importing_the_neurons_does_not_import_numba() -> None:
    assert python("import sys, shortcut_snn.neurons; print('numba' in sys.modules)").strip() == "False"


def test_the_printed_neuron_is_the_same_in_every_backend() -> None:
    with use_backend("eager"):
        eager = repr(LIF())
    assert eager == repr(LIF())
