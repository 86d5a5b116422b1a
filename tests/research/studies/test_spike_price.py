"""The table of research/studies/spike_price.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import shortcut_snn
from research.studies import spike_price
from shortcut_snn.recipes import recipe_of, train


@pytest.mark.filterwarnings("ignore:::lightning")
def test_test_images_are_timed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Random pixels give other spikes, and so other times."""
    entries: dict[str, Any] = {"data": {"kind": "npz", "root": str(data), "batch_size": 50}}
    entries |= {"network": {"kind": "resnet8", "width": 2, "time_steps": 1}, "training": {"epochs": 1, "threads": 1}}
    train(recipe_of(entries), tmp_path / "run")
    timed: list[Tensor] = []

    class Watched:
        def predict(self, images: Tensor) -> None:
            timed.append(images)

    monkeypatch.setattr(shortcut_snn, "load", lambda folder: Watched())
    spike_price.milliseconds([tmp_path / "run"], batch=30, rounds=1)
    with np.load(data) as arrays:
        known = {image.transpose(2, 0, 1).tobytes() for image in arrays["x_test"]}
    assert len(timed) == 2
    assert len(timed[0]) == 30
    assert {image.numpy().tobytes() for image in timed[0]} <= known


def test_a_row_for_each_weight_with_the_means_over_its_seeds():
    result = {"test_last": {"accuracy": 0.5}, "firing_rate": 0.2, "energy_pj": 2000.0, "total_energy_pj": 3e6}
    runs = [
        {"weight": weight, "seed": seed, "result": result | {"firing_rate": rate, "seconds_per_step": 0.5}}
        for weight, seed, rate in ((0.0, 0, 0.2), (0.0, 1, 0.3), (4.0, 0, 0.1))
    ]
    rows = [spike_price.row_of(run, milliseconds=0.25) for run in runs]
    *_, first, second = spike_price.table(rows).strip().splitlines()
    assert [cell.strip() for cell in first.strip("|").split("|")] == [
        "0", "2", "50.00 ± 0.00", "0.250", "2 nJ", "3 µJ", "0.25", "0.5"
    ]  # fmt: skip
    assert [cell.strip() for cell in second.strip("|").split("|")][:4] == ["4", "1", "50.00", "0.100"]
