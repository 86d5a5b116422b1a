"""The callback reports what it measures once, and leaves training as it is."""

import csv
import functools
import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn import functional as F

from shortcut_snn import nets
from shortcut_snn.cli.report.run_page import RunFiles, _verdict
from shortcut_snn.neurons import LIF, Rectangle
from shortcut_snn.training import Health, RunFolder

from .tiny import network, run, task


class Plain(pl.LightningModule):
    """A third-party module around a built-in network."""

    def __init__(self) -> None:
        super().__init__()
        self.net: nn.Module = nets.spiking_resnet18(
            10, 2, width=2, block="plain", make_neuron=lambda: LIF(surrogate=Rectangle(4.0))
        )

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Jelly(Plain):
    """SpikingJelly's neurons, of which the second layer's never fire."""

    def __init__(self) -> None:
        super().__init__()
        lif = functools.partial(neuron.LIFNode, surrogate_function=surrogate.ATan(), detach_reset=True)
        self.net = nn.Sequential(
            layer.Conv2d(3, 4, 3), layer.BatchNorm2d(4), lif(v_threshold=0.5), layer.Conv2d(4, 4, 3),
            lif(v_threshold=1e6), layer.Flatten(), layer.Linear(64, 10),
        )  # fmt: skip
        functional.set_step_mode(self.net, "m")

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        functional.reset_net(self.net)
        return F.cross_entropy(self.net(batch[0].expand(3, *batch[0].shape)).mean(0), batch[1])


def fit(module: pl.LightningModule, *callbacks: pl.Callback, **options: Any) -> None:
    torch.manual_seed(1)
    data = [(torch.randn(3, 8, 8), int(torch.randint(10, ()))) for _ in range(16)]
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, enable_model_summary=False, callbacks=list(callbacks), logger=False,
        enable_checkpointing=False, enable_progress_bar=False, **options,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(data, 8))


def test_a_problem_is_logged_once_and_training_is_unchanged() -> None:
    lines: list[str] = []
    health = Health(every=1, log=lines.append)
    states = []
    for callbacks in ([], [health]):
        torch.manual_seed(0)
        module = Plain()
        fit(module, *callbacks)
        states.append(module.net.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    (line,) = lines
    assert line.startswith("epoch 1, step 1: vanishes: from net.layer4.1.spike2 back to net.stem.spike")
    assert [row["epoch"] for row in health.rows] == [1] * 17 + [2] * 17
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_hooks_are_removed_after_an_exception() -> None:
    class Failing(Plain):
        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            assert any(m._forward_hooks for m in self.modules()), "nothing is measured"
            raise RuntimeError("failed")

    module = Failing()
    with pytest.raises(RuntimeError, match="failed"):
        fit(module, Health(every=1, log=lambda line: None))
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())


def test_neurons_of_spikingjelly_are_measured() -> None:
    lines: list[str] = []
    health = Health(every=1, log=lines.append)
    fit(Jelly(), health)
    assert [(row["epoch"], row["layer"]) for row in health.rows] == [(e, f"net.{i}") for e in (1, 2) for i in (2, 4)]
    assert health.rows[0]["rate"] > 0 == health.rows[1]["rate"]
    (line,) = lines
    assert line.startswith("epoch 1, step 1: net.4 is silent: 100 % of its neurons never fire")


@pytest.mark.parametrize("accumulated", [1, 2])
def test_gradients_are_those_before_clipping(accumulated: int) -> None:
    health = Health(every=1, log=lambda line: None)
    fit(Jelly(), health, gradient_clip_val=1e-6, accumulate_grad_batches=accumulated)
    assert [layer.weight_rms for layer in health.layers] == [health.gradients["net.0"], health.gradients["net.3"]]
    assert len(health.rows) == 4


@pytest.mark.usefixtures("bare")
def test_a_run_warns_of_a_silent_layer_and_has_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = network()
    net.norm1.bias.data.fill_(-50.0)
    lines: list[str] = []
    run(Path("run"), task(net=net), log=lines.append)
    line, summary = (line for line in lines if "spike1 on" in line)
    assert re.search(r"\n  deployed network +run/network.safetensors: no branches", summary), "not as it was typed"
    assert line.startswith("epoch 1, step 1: silent from spike1 on")
    # Of the last epoch the run's page says the same.
    (sentence,) = re.findall(r"gradient in the last epoch +(silent .*?)\n  [a-z]", summary, re.DOTALL)
    (verdict,) = (text for text in _verdict(RunFiles(RunFolder(tmp_path / "run"))) if "last epoch" in text)
    assert verdict == f"The gradient in the last epoch: {' '.join(sentence.split())}."
    rows = list(csv.DictReader((tmp_path / "run" / "layers.csv").open()))
    assert [(row["epoch"], row["layer"]) for row in rows] == [(e, f"spike{i}") for e in "12" for i in "12"]
    metrics = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    for epoch in (0, 1):
        mean = sum(float(row["rate"]) for row in rows if row["epoch"] == str(epoch + 1)) / 2
        assert float(metrics[epoch]["firing_rate"]) == pytest.approx(mean, rel=1e-5)
