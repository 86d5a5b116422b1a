"""What the entries of `training` do: warm-up, clipping, accumulation, averages; and that runs resume with them."""

import csv
import types
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from shortcut_snn import components
from shortcut_snn.deploy import read_network
from shortcut_snn.training.callbacks import WeightAverage

from .same import assert_same_run
from .tiny import network, run, sides, task

pytestmark = pytest.mark.usefixtures("bare")
SGD = components.optimizer.make("sgd", lr=0.1)


class Look(pl.Callback):
    """Notes learning rate, norm of the gradients and weights of every step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.norms: list[float] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_before_zero_grad(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        # Those of the step before, clipped.
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        if grads:
            self.norms.append(float(torch.nn.utils.get_total_norm(grads)))

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch:
            self.weights.append({key: value.clone() for key, value in module.model.network.state_dict().items()})


def looked(folder: Path, what: Any, data: Any = None) -> Look:
    look = Look()
    run(folder, what, data, callbacks=[look])
    return look


def test_the_learning_rate_rises_and_falls_step_by_step(tmp_path: Path) -> None:
    linear = components.lr_schedule.make("linear")
    # 10 steps: 4 up, 6 down.
    look = looked(tmp_path / "run", task(optimizer=SGD, lr_schedule=linear, warmup=0.4))
    assert look.rates == pytest.approx([0.02, 0.04, 0.06, 0.08, *(0.1 * (1 - step / 6) for step in range(6))])
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    # Behind an epoch's last step: the next one's.
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.1 * (1 - 1 / 6), 0.0], abs=1e-9)


def test_the_norm_of_the_gradients_is_limited(tmp_path: Path) -> None:
    free, clipped = (
        looked(tmp_path / str(clip), task(optimizer=SGD, clip=clip, epochs=1)).norms for clip in (None, 0.05)
    )
    assert min(free) > 0.06
    assert clipped == pytest.approx([0.05] * 4, rel=1e-3)


def test_two_batches_a_step_are_one_twice_as_large(tmp_path: Path) -> None:
    """For a network without batch norms; the epoch's last step has what is left."""
    ends = []
    for name, size, accumulate in (("large", 16, 1), ("small", 8, 2)):
        look = looked(
            tmp_path / name, task(net=network(norm=False), optimizer=SGD, accumulate=accumulate), sides(size, train=48)
        )
        assert len(look.weights) == 6
        ends.append(look.weights)
    for one, other in zip(*ends, strict=True):
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=1e-5, atol=1e-6)


def test_what_ships_is_the_average_of_the_weights(tmp_path: Path) -> None:
    look = looked(tmp_path / "run", task(ema_decay=0.9, epochs=3))
    mean: dict[str, Tensor] = {}
    by_epoch = []
    for step, weights in enumerate(look.weights, 1):
        for key, value in weights.items():
            if value.is_floating_point():
                mean[key] = value.clone() if key not in mean else 0.9 * mean[key] + 0.1 * value
        if step % 5 == 0:
            by_epoch.append(dict(mean))
    shipped = load_file(tmp_path / "run" / "network.safetensors")
    for key, value in mean.items():
        torch.testing.assert_close(shipped[key], value, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(shipped["conv2.weight"], look.weights[-1]["conv2.weight"], atol=1e-3)
    # The best epoch's network is the average at its end, and what was validated.
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    values = [float(row["validation_accuracy"]) for row in rows]
    best = load_file(tmp_path / "run" / "best.safetensors")
    for key, value in by_epoch[values.index(max(values))].items():
        torch.testing.assert_close(best[key], value, rtol=1e-5, atol=1e-6)
    validated = task(net=network())
    validated.model.network.load_state_dict(read_network(tmp_path / "run" / "network.safetensors")[0])
    images, labels = next(iter(sides(12).loaders(0).validation))
    hits = (validated.model.network.eval()(images).argmax(1) == labels).float().mean()
    assert float(hits) == pytest.approx(values[-1])


def test_the_average_is_where_the_weights_train() -> None:
    """When callbacks are set up, the weights are not there yet."""
    what, average = task(), WeightAverage(decay=0.9)
    trainer = types.SimpleNamespace(strategy=types.SimpleNamespace(root_device=torch.device("meta")))
    average.setup(trainer, what, "fit")  # type: ignore[arg-type]
    assert {each.device.type for each in average.network(what).parameters()} == {"meta"}
    assert {each.device.type for each in what.parameters()} == {"cpu"}


class Fail(pl.Callback):
    """Dies when the next batch begins after so many steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.after:
            raise RuntimeError("killed")


KINDS: dict[str, dict[str, Any]] = {
    "average": {"ema_decay": 0.8},
    "accumulate": {"accumulate": 2},
    "both": {"ema_decay": 0.8, "accumulate": 2, "clip": 0.5},
    "nesterov": {"optimizer": components.optimizer.make("sgd", lr=0.1, momentum=0.9, nesterov=True), "warmup": 0.3},
    "muon": {"optimizer": components.optimizer.make("muon", lr=0.02), "warmup": 0.3},
    "one cycle": {"lr_schedule": components.lr_schedule.make("onecycle"), "warmup": 0.2},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_killed_run_ends_as_one_left_alone(tmp_path: Path, name: str) -> None:
    def make() -> Any:
        return task(**{"epochs": 3, "checkpoint_every": 2} | KINDS[name])

    run(tmp_path / "whole", make(), sides(train=48))
    # 6 batches an epoch: at the end of one, in the middle of one, and in the middle of steps.
    steps = 3 if "accumulate" in KINDS[name] else 6
    folder = tmp_path / "run"
    for after in (steps, steps + 2, 2 * steps + 1):
        with pytest.raises(RuntimeError, match="killed"):
            run(folder, make(), sides(train=48), resume=True, callbacks=[Fail(after)])
    run(folder, make(), sides(train=48), resume=True)
    assert_same_run(folder, tmp_path / "whole")


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True}, False),
        ({"architecture": "aarch64"}, False),
        ({}, False),
    ],
)
def test_a_processor_without_bfloat16_is_told_of(
    about: dict[str, Any], said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: about, raising=False)
    for precision in ("bf16", "fp32"):
        lines: list[str] = []
        run(tmp_path / precision, task(epochs=1, precision=precision), log=lines.append)
        assert any("training.precision=fp32 is faster" in line for line in lines) == (said and precision == "bf16")
