"""Kernels run on several threads, from several threads, and after a fork."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn.neurons import LIF, ATan, NormNeuron
from shortcut_snn.neurons.cpu import thread_pool


@pytest.fixture(params=["openmp", "pool"])
def two_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "pool":
        monkeypatch.setattr(thread_pool, "_openmp", lambda: None)
    elif thread_pool._openmp() is None:
        pytest.skip("PyTorch is not linked to GNU OpenMP here")
    torch.set_num_threads(2)
    yield request.param
    torch.set_num_threads(1)


def step(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, gradient and running mean of a layer large enough for many pieces of work."""
    generator = torch.Generator().manual_seed(seed)
    module = NormNeuron(nn.BatchNorm2d(32), LIF(surrogate=ATan()))
    x = torch.randn(4, 4, 32, 24, 24, generator=generator).requires_grad_()
    weight = torch.randn(x.shape, generator=generator)
    spikes = module(x)
    (spikes * weight).sum().backward()
    return spikes.detach(), x.grad, module.norm.running_mean


def test_the_number_of_threads_changes_no_bit(two_threads: str) -> None:
    several = step(1)
    torch.set_num_threads(1)
    for got, want in zip(several, step(1), strict=True):
        assert torch.equal(got, want)


def test_several_threads_may_call_at_once(two_threads: str) -> None:
    want = [step(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for got, expected in zip(pool.map(step, range(4)), want, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_computes_the_same(two_threads: str) -> None:
    want = step(2)[0].sum().item()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert thread_pool.thread_count() == 1
            # PyTorch's own operators would wait for threads that the fork left behind.
            torch.set_num_threads(1)
            os.write(writer, str(step(2)[0].sum().item()).encode())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert float(os.read(reader, 100)) == want
