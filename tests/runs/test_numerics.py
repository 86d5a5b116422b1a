"""What goes wrong in a run's numbers is named with its layer and step, and costs no checkpoint."""

from pathlib import Path

import pytest
import torch

from shortcut_snn.runs import Task

from .small import train

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
    return checkpoint["state_dict"]


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("", "the loss is nan at step 8 (epoch 2)"),
        ("layer2.0.conv1", "the gradient of layer2.0.conv1.weight is not finite at step 8 (epoch 2)"),
    ],
)
def test_a_number_that_is_none_stops_the_run(tmp_path, monkeypatch, capsys, layer, said):
    with monkeypatch.context() as patch:
        poison(patch, 8, layer)
        assert train(tmp_path / "run", **SETTINGS) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert all(value.isfinite().all() for value in kept(tmp_path / "run").values())
    assert train(tmp_path / "run", "--resume", **SETTINGS) == 0


def test_or_the_step_is_left_out(tmp_path, monkeypatch, capsys):
    before = {}
    step = Task.training_step

    with monkeypatch.context() as patch:
        poison(patch, 8)
        poisoned = Task.training_step

        def training_step(self: Task, batch: object, batch_index: int) -> torch.Tensor:
            if self.global_step in (8, 9):
                before[self.global_step] = [weight.detach().clone() for weight in self.model.parameters()]
            return poisoned(self, batch, batch_index)

        patch.setattr(Task, "training_step", training_step)
        assert train(tmp_path / "run", **SETTINGS | {"training__non_finite": "skip"}) == 0
    assert Task.training_step is step
    assert "the loss is nan at step 8 (epoch 2): step left out" in capsys.readouterr().out
    assert all(torch.equal(one, other) for one, other in zip(before[8], before[9], strict=True))


@pytest.mark.parametrize(
    ("threshold", "state"), [(50.0, "dead: none of its neurons fired"), (-50.0, "saturated: all its neurons fired")]
)
def test_dead_and_saturated_layers_are_named(tmp_path, monkeypatch, capsys, threshold, state):
    """Batch norms put so low, or high, that nothing, or everything, fires."""
    start = Task.on_fit_start

    def on_fit_start(self: Task) -> None:
        start(self)
        self.model.network.get_submodule("layer1.1.spike1.norm").bias.data.fill_(-threshold)

    monkeypatch.setattr(Task, "on_fit_start", on_fit_start)
    given = SETTINGS | {"preset": "vanilla", "optimizer__lr": 1e-5, "training__epochs": 4}
    # A look at the first step of each epoch: the third of them stops the run.
    assert train(tmp_path / "run", **given) == 1
    said = capsys.readouterr()
    assert f"layer layer1.1.spike1 is {state} at step 0 (epoch 1)" in said.out
    assert f"layer layer1.1.spike1 is {state} at step 12 (epoch 3), as 2 looks before" in said.err
    assert said.err.count("\n") == 1
    assert torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)["global_step"] == 12
    assert train(tmp_path / "run", "--resume", **given | {"training__silent_layers": "warn"}) == 0
    capsys.readouterr()
    assert train(tmp_path / "again", **given | {"training__silent_layers": "warn"}) == 0
    assert f"is {state} at step 0 (epoch 1)" in capsys.readouterr().out
    assert train(tmp_path / "quiet", **given | {"training__silent_layers": "ignore", "training__epochs": 1}) == 0
    assert "layer layer" not in capsys.readouterr().out
