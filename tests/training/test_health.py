"""The callback sees what a probe sees, leaves training as it is, and speaks once."""

import csv
import functools
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn import functional as F

from shortcut_snn import components, nets
from shortcut_snn.neurons import LIF, Rectangle
from shortcut_snn.training import Health, NumericsError
from shortcut_snn.training.health import PATIENCE

from .tiny import Net, network, run, task


class Plain(pl.LightningModule):
    """Someone else's module around one of our networks."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.net = nets.spiking_resnet18(
            10, 2, width=4, block="plain", make_neuron=lambda: LIF(0.5, threshold, Rectangle(4.0))
        )

    def training_step(self, batch, index):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(module: pl.LightningModule, *callbacks: pl.Callback, epochs: int = 2) -> None:
    torch.manual_seed(1)
    data = [(torch.randn(3, 8, 8), int(torch.randint(10, ()))) for _ in range(24)]
    loader = torch.utils.data.DataLoader(data, 8)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, enable_model_summary=False, callbacks=list(callbacks), **quiet
    )
    trainer.fit(module, loader)


def test_a_problem_is_logged_once_and_every_epoch_written(tmp_path):
    said: list[str] = []
    watch = Health(tmp_path / "layers.csv", every=2, log=said.append)
    module = Plain()
    fit(module, watch)
    (line,) = said
    assert line.startswith("epoch 1, step 1: vanishes: from net.layer4.1.spike2 back to net.stem.spike")
    rows = list(csv.DictReader((tmp_path / "layers.csv").open()))
    assert [row["epoch"] for row in rows] == ["1"] * 17 + ["2"] * 17
    assert all(0 < float(row["rate"]) < 1 for row in rows)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_a_dead_layer_is_named():
    said: list[str] = []
    fit(Plain(threshold=50.0), Health(log=said.append), epochs=1)
    assert "dead from net.stem.spike on: 100 % of its neurons never fire" in said[0]


def test_training_gives_the_same_result_with_and_without():
    nets_ = []
    for watches in ([], [Health(every=1, log=lambda line: None)]):
        torch.manual_seed(0)
        module = Plain()
        fit(module, *watches)
        nets_.append(module.net.state_dict())
    assert all(torch.equal(value, nets_[1][key]) for key, value in nets_[0].items())


def test_hooks_are_gone_after_an_exception():
    class Failing(Plain):
        def training_step(self, batch, index):
            super().training_step(batch, index)
            assert any(m._forward_hooks for m in self.modules()), "nobody looks"
            raise RuntimeError("failed")

    module = Failing()
    with pytest.raises(RuntimeError, match="failed"):
        fit(module, Health(every=1, log=lambda line: None))
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())


def test_neurons_of_spikingjelly_are_measured(tmp_path):
    class Jelly(Plain):
        def __init__(self) -> None:
            super().__init__()
            lif = functools.partial(neuron.LIFNode, surrogate_function=surrogate.ATan(), detach_reset=True)
            self.net = nn.Sequential(
                layer.Conv2d(3, 4, 3), layer.BatchNorm2d(4), lif(v_threshold=0.5), layer.Conv2d(4, 4, 3),
                lif(v_threshold=1e6), layer.Flatten(), layer.Linear(64, 10),
            )  # fmt: skip
            functional.set_step_mode(self.net, "m")

        def training_step(self, batch, index):
            functional.reset_net(self.net)
            return F.cross_entropy(self.net(batch[0].expand(3, *batch[0].shape)).mean(0), batch[1])

    said: list[str] = []
    fit(Jelly(), Health(tmp_path / "layers.csv", every=1, log=said.append))
    rows = list(csv.DictReader((tmp_path / "layers.csv").open()))
    assert [(row["epoch"], row["layer"]) for row in rows] == [(e, f"net.{i}") for e in "12" for i in "24"]
    assert float(rows[0]["rate"]) > 0 == float(rows[1]["rate"])
    (line,) = said
    assert line.startswith("epoch 1, step 1: dead from net.4 on: 100 % of its neurons never fire")


def test_a_neuron_that_is_never_called_is_left_out():
    class Spare(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.net.spare = LIF()

    watch = Health(log=lambda line: None)
    fit(Spare(), watch, epochs=1)
    assert "net.spare" not in [each.layer for each in watch.layers]


def deaf(bias: float) -> Net:
    """The network, with a batch norm set so low, or high, that nothing, or everything, fires behind it."""
    net = network()
    net.norm1.bias.data.fill_(bias)
    return net


def still(epochs: int, bias: float = -50.0, **training: Any) -> Any:
    return task(
        net=deaf(bias), epochs=epochs, optimizer=components.optimizer.make("sgd", lr=1e-6), lr_schedule=None, **training
    )


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("bias", "what"), [(-50.0, "never fire"), (50.0, "fire at every step")])
def test_a_run_warns_of_a_dead_layer(tmp_path: Path, bias: float, what: str) -> None:
    said: list[str] = []
    assert run(tmp_path / "run", still(PATIENCE + 2, bias), log=said.append)["epochs"] == PATIENCE + 2
    lines = [line for line in said if "dead from" in line]
    assert len(lines) == 1
    assert lines[0].startswith("epoch 1, step 1: dead from spike1 on")
    assert what in lines[0]


@pytest.mark.usefixtures("bare")
def test_a_run_stops_after_three_measurements(tmp_path: Path) -> None:
    """A look at the first step of each epoch, of 5 steps: the third of them stops the run."""
    folder, said = tmp_path / "run", []
    with pytest.raises(
        NumericsError, match=rf"dead from spike1 on.*\(epoch {PATIENCE}, step 11, {PATIENCE} measurements in a row\)"
    ):
        run(folder, still(PATIENCE + 1, silent_layers="stop"), log=said.append)
    assert torch.load(folder / "checkpoint.ckpt", weights_only=True)["global_step"] == 10
    result = run(folder, still(PATIENCE + 1, silent_layers="warn"), resume=True, log=said.append)
    assert result["epochs"] == PATIENCE + 1
    assert len([line for line in said if "dead from" in line]) == 1
    quiet: list[str] = []
    run(tmp_path / "quiet", still(1, silent_layers="ignore"), log=quiet.append)
    assert not [line for line in quiet if "dead" in line]


@pytest.mark.usefixtures("bare")
def test_only_measurements_in_a_row_stop_a_run(tmp_path: Path) -> None:
    what = still(PATIENCE + 3, silent_layers="stop")

    class Revive(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
            module.model.network.norm1.bias.data.fill_(0.0 if trainer.current_epoch % PATIENCE == 2 else -50.0)

    assert run(tmp_path / "run", what, callbacks=[Revive()])["epochs"] == PATIENCE + 3


@pytest.mark.usefixtures("bare")
def test_a_run_has_one_callback_and_its_rows(tmp_path: Path) -> None:
    found: list[Any] = []

    class Count(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
            found.extend(each for each in trainer.callbacks if isinstance(each, Health))

    run(tmp_path / "run", task(), callbacks=[Count()])
    assert len(found) == 1
    rows = list(csv.DictReader((tmp_path / "run" / "layers.csv").open()))
    assert [(row["epoch"], row["layer"]) for row in rows] == [(e, f"spike{i}") for e in "12" for i in "12"]
    metrics = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    for epoch in (0, 1):
        mean = sum(float(row["rate"]) for row in rows if row["epoch"] == str(epoch + 1)) / 2
        assert float(metrics[epoch]["firing_rate"]) == pytest.approx(mean, rel=1e-5)


def test_every_must_be_positive():
    with pytest.raises(ValueError, match="every must be at least 1"):
        Health(every=0)


def test_a_network_without_neurons_has_no_report():
    class Dull(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))

    watch = Health(log=pytest.fail)
    fit(Dull(), watch, epochs=1)
    assert watch.layers == ()
