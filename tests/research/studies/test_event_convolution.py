"""The times of research/studies/event_convolution.py are those of equal work."""

import pytest
from torch import Tensor

from research.benchmarks.peers.convolutions import ConvolutionsOnly
from research.studies import event_convolution


def test_a_timed_run_adds_to_no_earlier_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dense convolutions' largest gradient is that of their input, which a network does not keep."""
    left = []

    class Watched(ConvolutionsOnly):
        def forward(self) -> list[Tensor]:
            left.append(any(leaf.grad is not None for leaf in self.leaves()))
            return super().forward()

    monkeypatch.setattr(event_convolution, "ConvolutionsOnly", Watched)
    monkeypatch.setattr(event_convolution, "SURROGATES", event_convolution.SURROGATES[:1])
    assert min(event_convolution.step_seconds(width=16, batch=1, rounds=1)) > 0
    assert left == [False, False]


def test_one_round_is_measured() -> None:
    ratios = event_convolution.ratios((16, 16, 4, 1, 1), rate=0.1, rounds=1)
    assert len(ratios) == 3
    assert min(ratios) > 0
