"""A loss, gradient or weight that is not finite stops the run, is named, and costs no checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from shortcut_snn import components
from shortcut_snn.data import as_data
from shortcut_snn.training import NumericsError, Task

from .tiny import Sides, run, sides, task

pytestmark = pytest.mark.usefixtures("bare")


def poison(patch: pytest.MonkeyPatch, at: int, layer: str = "") -> None:
    """Put a NaN into the loss of a step, or infinity into the gradient of a layer's weights."""
    step = Task.training_step

    def training_step(self: Task, batch: object, batch_index: int) -> torch.Tensor:
        loss = step(self, batch, batch_index)
        if self.global_step != at:
            return loss
        if not layer:
            return loss * float("nan")
        weight: Any = self.model.network.get_submodule(layer).weight
        handle = weight.register_hook(lambda grad: (handle.remove(), grad * float("inf"))[1])
        return loss

    patch.setattr(Task, "training_step", training_step)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("", r"the loss is nan at step 6 \(epoch 2\)"),
        ("conv2", r"the gradient of conv2\.weight is not finite at step 6 \(epoch 2\)"),
    ],
)
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, message: str
) -> None:
    with monkeypatch.context() as patch:
        poison(patch, 6, layer)
        with pytest.raises(NumericsError, match=message) as error:
            run(tmp_path / "run", task())
    assert "\n" not in str(error.value)
    checkpoint = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 5
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert run(tmp_path / "run", task(), resume=True)["epochs"] == 2


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """Loss and gradients of the step before are finite, and it may be the last step."""
    wild = components.optimizer.make("sgd", lr=1e5, weight_decay=1e38)
    with pytest.raises(NumericsError, match=r"the weights \S+ are not finite after step 1; .*lower optimizer\.lr"):
        run(tmp_path / "run", task(optimizer=wild, epochs=1), sides(batch_size=40))
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert not (tmp_path / "run" / "checkpoint.ckpt").exists()


class Gap(Sides):
    """One sample is not a number."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return image * float("nan") if index == 7 else image, label


def test_data_that_is_not_finite_is_told_from_a_learning_rate(tmp_path: Path) -> None:
    with pytest.raises(NumericsError, match=r"the data hold NaN or infinity at step \d") as error:
        run(tmp_path / "run", task(), as_data((Gap(40), Sides(12)), batch_size=8))
    assert "optimizer.lr" not in str(error.value)


class Unlabelled(Sides):
    """No sample has a label."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return super().__getitem__(index)[0], -100


def test_a_batch_without_labels_is_told_from_a_learning_rate(tmp_path: Path) -> None:
    with pytest.raises(NumericsError, match=r"no sample of the batch has a label at step 0") as error:
        run(tmp_path / "run", task(), as_data((Unlabelled(40), Sides(12)), batch_size=8))
    assert "optimizer.lr" not in str(error.value)
