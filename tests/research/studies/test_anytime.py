"""The figures of research/studies/anytime.py are those of samples that set no threshold."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from research.studies import anytime
from shortcut_snn.data import Digits


def test_energy_is_that_of_the_other_half(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[torch.Tensor] = []

    def measure_exits(network: Any, exits: Any, batch: torch.Tensor) -> SimpleNamespace:
        measured.append(batch)
        return SimpleNamespace(total_energy=1e6 * len(measured))

    monkeypatch.setattr(anytime, "measure_exits", measure_exits)
    monkeypatch.setattr(anytime, "milliseconds", lambda *arguments: 0.0)
    monkeypatch.setattr(anytime, "MEASURES", ("gap",))
    whole, gap = anytime.study("digits-resnet18", None, drop=0.05, halves=2, samples=16)
    test = Digits().load().test
    for seed, batches in enumerate(zip(measured[:2], measured[2:], strict=True)):
        second = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[len(test) // 2 :]
        assert all(torch.equal(batch, test.fetch(second[:16])) for batch in batches)
    assert [row[7] for row in (whole, gap)] == ["1.5 µJ", "3.5 µJ"]
