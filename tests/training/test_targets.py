"""Custom tasks whose targets are several tensors."""

import json

import pytest
import torch
from torch.utils.data import Dataset

from shortcut_snn.data import as_data
from shortcut_snn.training import Task, Training

from .tiny import network, run


class Scenes(Dataset):
    """Images with a class and a position."""

    def __init__(self, count, form):
        generator = torch.Generator().manual_seed(count)
        self.images, self.places = (torch.rand(count, *size, generator=generator) for size in ((1, 4, 4), (2,)))
        self.form = form

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        label, place = index % 2, self.places[index]
        return self.images[index], {"label": label, "place": place} if self.form is dict else (label, place)


class Places(Task):
    """Predicts the position; its metric is a number, not a tensor."""

    metric, readout = "error", None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seen = []

    def criterion(self, prediction, target):
        place = target["place"] if isinstance(target, dict) else target[1]
        return (prediction - place).abs().mean()

    def metrics(self, prediction, target):
        if not self.training:
            place = target["place"] if isinstance(target, dict) else target[1]
            self.seen += (prediction - place).abs().mean(1).tolist()
        return {"error": self.criterion(prediction, target).item()}


@pytest.mark.parametrize("form", [dict, tuple])
def test_figures_are_means_over_samples_and_not_over_batches(tmp_path, form):
    task = Places(network(), training=Training(epochs=1, accelerator="cpu", threads=1))
    data = as_data((Scenes(20, form), Scenes(9, form)), batch_size=8)
    result = run(tmp_path / "run", task, data)
    assert len(task.seen) == 9
    assert result["test_last"]["error"] == pytest.approx(sum(task.seen) / 9)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_last"] == result["test_last"]


def test_samples_of_a_target_are_counted():
    task = Places(network())
    one, other = torch.rand(7, 2), torch.rand(7)
    for target in (
        one,
        {"a": other, "b": one},
        (one, other),
        [one, {"a": 1}, 3, 4, 5, 6, 7],
        [one[:3], one[:2]] + [one] * 5,
    ):
        assert task.count_samples(target) == 7
