"""What goes wrong in a run's numbers is named with its layer and step, and costs no checkpoint."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shortcut_snn import components
from shortcut_snn.data import as_data
from shortcut_snn.training import Task

from .small import train
from .tiny import Sides, run, sides, task

# 108 training images: 6 steps an epoch.
SETTINGS = {
    "training__epochs": 3,
    "data__train_limit": 120,
    "data__test_limit": 40,
    "data__batch_size": 20,
    "network__width": 2,
}


def poison(patch: pytest.MonkeyPatch, at: int, layer: str = "") -> None:
    """Put a NaN into the loss of a step, or into what reaches one layer's weights."""
    step = Task.training_step

    def training_step(self: Task, batch: object, batch_index: int) -> torch.Tensor:
        loss = step(self, batch, batch_index)
        if self.global_step != at:
            return loss
        if not layer:
            return loss * float("nan")
        weight = self.model.network.get_submodule(layer).weight
        handle = weight.register_hook(lambda grad: (handle.remove(), grad * float("inf"))[1])
        return loss

    patch.setattr(Task, "training_step", training_step)


def kept(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / "checkpoint.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("", "the loss is nan at step 8 (epoch 2)"),
        ("layer2.0.conv1", "the gradient of layer2.0.conv1.weight is not finite at step 8 (epoch 2)"),
    ],
)
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, capsys, layer, said):
    with monkeypatch.context() as patch:
        poison(patch, 8, layer)
        assert train(tmp_path / "run", **SETTINGS) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert all(value.isfinite().all() for value in kept(tmp_path / "run").values())
    assert train(tmp_path / "run", "--resume", **SETTINGS) == 0


def test_a_step_that_is_not_finite_is_skipped(tmp_path, monkeypatch, capsys):
    before: dict[int, list[torch.Tensor]] = {}
    with monkeypatch.context() as patch:
        poison(patch, 8)
        poisoned = Task.training_step

        def training_step(self: Task, batch: object, batch_index: int) -> torch.Tensor:
            if self.global_step in (8, 9):
                before[self.global_step] = [weight.detach().clone() for weight in self.model.parameters()]
            return poisoned(self, batch, batch_index)

        patch.setattr(Task, "training_step", training_step)
        assert train(tmp_path / "run", **SETTINGS | {"training__non_finite": "skip"}) == 0
    assert "the loss is nan at step 8 (epoch 2): step skipped" in capsys.readouterr().out
    assert all(torch.equal(one, other) for one, other in zip(before[8], before[9], strict=True))


class Broken(Sides):
    """Has two images that are not numbers."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = super().__getitem__(index)
        return (image * float("nan") if index in (3, 21) else image), label


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("changes", [{}, {"accumulate": 2}, {"ema_decay": 0.5}], ids=str)
def test_a_skipped_step_leaves_no_trace_in_the_network(tmp_path, changes):
    """The forward pass has put its NaN into the running statistics by the time that the loss is seen."""
    said: list[str] = []
    what = task(epochs=4, non_finite="skip", **changes)
    data = as_data((Broken(80), Sides(12), Sides(12)), batch_size=8)
    result = run(tmp_path / "run", what, data, log=said.append)
    assert len([line for line in said if "step skipped" in line]) >= 4
    for name in ("network", "best"):
        assert all(value.isfinite().all() for value in load_file(tmp_path / "run" / f"{name}.safetensors").values())
    assert result["test_last"]["accuracy"] > 0.9
    assert result["validation_last"]["loss"] < 0.5


@pytest.mark.parametrize("action", ["stop", "skip"])
def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, action: str) -> None:
    """Loss and gradients were finite before it, and it may have been the last."""
    wild = components.optimizer.make("sgd", lr=1e5, weight_decay=1e38)
    with pytest.raises(ValueError, match=r"the weights \S+ are not finite after step 1; .* Try a lower optimizer\.lr"):
        run(tmp_path / "run", task(optimizer=wild, epochs=1, non_finite=action), sides(batch_size=40))
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert not (tmp_path / "run" / "checkpoint.ckpt").exists()
