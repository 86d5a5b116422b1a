"""What the entries of ``training`` do: warm-up, clipping, accumulation, averages; and that runs resume with them."""

import csv
import time
import types
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from shortcut_snn import Constant, LossSum, components, initialise, nets, wrap
from shortcut_snn.method import Branches, Method
from shortcut_snn.training.run_state import WeightAverage

from .same import assert_same_run
from .tiny import Sides, network, run, sides, task

pytestmark = pytest.mark.usefixtures("bare")
SGD = components.optimizer.make("sgd", lr=0.1)


class Recorder(pl.Callback):
    """Records learning rate, norm of the gradients and weights of every step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.norms: list[float] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_before_zero_grad(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        # Those of the previous step, clipped.
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        if grads:
            self.norms.append(float(torch.nn.utils.get_total_norm(grads)))

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch:
            self.weights.append({key: value.clone() for key, value in module.model.network.state_dict().items()})


def recorded(folder: Path, what: Any, data: Any = None) -> Recorder:
    recorder = Recorder()
    run(folder, what, data, callbacks=[recorder])
    return recorder


def test_the_learning_rate_rises_and_falls_step_by_step(tmp_path: Path) -> None:
    linear = components.lr_schedule.make("linear")
    # 10 steps: 4 up, 6 down.
    recorder = recorded(tmp_path / "run", task(optimizer=SGD, lr_schedule=linear, warmup=0.4))
    assert recorder.rates == pytest.approx([0.02, 0.04, 0.06, 0.08, *(0.1 * (1 - step / 6) for step in range(6))])
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    # The rate after an epoch is that of the next step.
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.1 * (1 - 1 / 6), 0.0], abs=1e-9)


def test_schedules_know_the_steps_if_accumulation_changes(tmp_path: Path) -> None:
    recorder, linear = Recorder(), components.lr_schedule.make("linear")
    what, accumulation = task(optimizer=SGD, lr_schedule=linear), GradientAccumulationScheduler({0: 2, 1: 1})
    run(tmp_path, what, sides(8, train=32), callbacks=[recorder, accumulation])
    assert recorder.rates == pytest.approx([0.1 * (1 - step / 6) for step in range(6)])


def test_the_norm_of_the_gradients_is_limited(tmp_path: Path) -> None:
    free, clipped = (
        recorded(tmp_path / str(clip), task(optimizer=SGD, clip=clip, epochs=1)).norms for clip in (None, 0.05)
    )
    assert min(free) > 0.06
    assert clipped == pytest.approx([0.05] * 4, rel=1e-3)


def test_two_batches_a_step_equal_one_twice_as_large(tmp_path: Path) -> None:
    """For a network without batch norms. The last step of an epoch has one batch."""
    ends = []
    for name, size, accumulate in (("large", 16, 1), ("small", 8, 2)):
        recorder = recorded(
            tmp_path / name, task(net=network(norm=False), optimizer=SGD, accumulate=accumulate), sides(size, train=40)
        )
        assert len(recorder.weights) == 6
        ends.append(recorder.weights)
    for one, other in zip(*ends, strict=True):
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=1e-5, atol=1e-6)


def test_the_average_of_the_weights_is_deployed(tmp_path: Path) -> None:
    recorder = recorded(tmp_path / "run", task(ema_decay=0.9, epochs=3))
    mean: dict[str, Tensor] = {}
    by_epoch = []
    for step, weights in enumerate(recorder.weights, 1):
        for key, value in weights.items():
            if value.is_floating_point():
                mean[key] = value.clone() if key not in mean else 0.9 * mean[key] + 0.1 * value
        if step % 5 == 0:
            by_epoch.append(dict(mean))
    deployed = load_file(tmp_path / "run" / "network.safetensors")
    for key, value in mean.items():
        torch.testing.assert_close(deployed[key], value, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(deployed["conv2.weight"], recorder.weights[-1]["conv2.weight"], atol=1e-3)
    # The best epoch is chosen by the average's accuracy, which is validated.
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    values = [float(row["validation_accuracy"]) for row in rows]
    best = load_file(tmp_path / "run" / "best.safetensors")
    for key, value in by_epoch[values.index(max(values))].items():
        torch.testing.assert_close(best[key], value, rtol=1e-5, atol=1e-6)
    net = network()
    net.load_state_dict(deployed)
    images, labels = next(iter(sides(12).loaders(0).validation))
    assert float((net.eval()(images).argmax(1) == labels).float().mean()) == pytest.approx(values[-1])


def test_kept_branches_are_averaged_with_their_network(tmp_path: Path) -> None:
    averages: list[list[Tensor]] = []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
            average = next(callback for callback in trainer.callbacks if isinstance(callback, WeightAverage))
            averages.append([weight.detach().clone() for weight in average.model(module).branches.parameters()])

    net = nets.spiking_resnet8(2, 2, width=4, in_channels=1)
    method = Method(Branches("stages", branch_weight=Constant(1.0), keep=True), LossSum())
    what = task(net=wrap(net, net.layout("stages"), method), optimizer=SGD, ema_decay=0.9)
    result = run(tmp_path / "run", what, callbacks=[Watch()])
    for file, epoch in (("best", result["best_epoch"]), ("network", 2)):
        weights = load_file(tmp_path / "run" / f"{file}.safetensors")
        kept = [weight for name, weight in weights.items() if name.startswith("branch:")]
        assert len(kept) == len(averages[epoch - 1]) >= 4
        assert all(any(torch.equal(weight, mean) for mean in averages[epoch - 1]) for weight in kept)


def trained_alone(what: Any, epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
    """Train a task in a Trainer of the caller's."""
    trainer = pl.Trainer(
        max_epochs=epochs, limit_train_batches=1, callbacks=[*callbacks], accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(what, DataLoader(Sides(8), 8))
    return trainer


def test_a_task_in_ones_own_trainer_must_be_initialised_if_its_method_says_so() -> None:
    what = task(method="initialised", net=network().float())
    with pytest.raises(ValueError, match=r"train with fit, or call initialise\(task.model"):
        trained_alone(what, 1)
    images, labels = zip(*(Sides(16)[k] for k in range(16)), strict=True)
    initialise(what.model, torch.stack(images), torch.tensor(labels))
    assert trained_alone(what, 1).global_step == 1


def test_a_task_in_ones_own_trainer_takes_epochs_and_steps_from_it() -> None:
    lambdas: list[float] = []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
            lambdas.append(float(trainer.callback_metrics["lambda"]))

    net = nets.spiking_resnet8(2, 2, width=4, in_channels=1)
    what = task(net=wrap(net, net.layout("stages"), Method(Branches(by="epoch"), LossSum())))
    trained_alone(what, 4, Watch())
    assert lambdas == pytest.approx([0.25 * (1 - epoch / 4) for epoch in range(4)])
    # The same task once more, for another number of steps.
    assert trained_alone(what, 5).global_step == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_epochs": 2}, "no length: give the Trainer max_steps"), ({"max_epochs": -1}, "give the Trainer max_epochs")],
)
def test_a_task_in_ones_own_trainer_needs_an_end(options: Any, message: str) -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([Sides(8)[index] for index in range(8)])

    data = DataLoader(Stream() if options["max_epochs"] > 0 else Sides(8), 4)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    with pytest.raises(ValueError, match=message):
        pl.Trainer(**quiet, **options).fit(task(), data)


def test_the_average_is_on_the_device_of_training() -> None:
    """Callbacks are set up before the weights are moved there."""
    what, average = task(), WeightAverage(decay=0.9)
    trainer = types.SimpleNamespace(strategy=types.SimpleNamespace(root_device=torch.device("meta")))
    average.setup(trainer, what, "fit")  # type: ignore[arg-type]
    assert {parameter.device.type for parameter in average.model(what).parameters()} == {"meta"}


class Fail(pl.Callback):
    """Fails when the next batch begins after a number of steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.after:
            raise RuntimeError("killed")


KINDS: dict[str, dict[str, Any]] = {
    "average, accumulation": {"ema_decay": 0.8, "accumulate": 2, "clip": 0.5},
    "muon, warm-up": {"optimizer": components.optimizer.make("muon", lr=0.02), "warmup": 0.3},
    "one cycle": {"lr_schedule": components.lr_schedule.make("onecycle")},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_killed_run_ends_as_one_left_alone(tmp_path: Path, name: str) -> None:
    def make() -> Any:
        return task(**{"checkpoint_every": 2} | KINDS[name])

    run(tmp_path / "whole", make(), sides(train=48))
    # 6 batches an epoch: killed in the middle of an epoch, or of a step, and after the last checkpoint.
    for after in (2, 5) if "accumulate" in KINDS[name] else (3, 8):
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path / "run", make(), sides(train=48), resume=True, callbacks=[Fail(after)])
    run(tmp_path / "run", make(), sides(train=48), resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(("slow", "is_logged"), [(torch.bfloat16, True), (torch.float32, False)], ids=str)
def test_a_processor_on_which_bfloat16_is_slower_is_reported(
    slow: torch.dtype, is_logged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convolve(x: Tensor, weight: Tensor, **options: Any) -> Tensor:
        # No convolution: a processor without instructions for bfloat16 would need longer than the pause.
        time.sleep(0.03 * (x.dtype == slow))
        return x[0, 0] * weight.sum()

    monkeypatch.setattr("shortcut_snn.training.run.conv2d", convolve)
    lines: list[str] = []
    run(tmp_path / "run", task(epochs=1, precision="bf16"), log=lines.append)
    assert any("training.precision=fp32 is faster" in line for line in lines) == is_logged
