"""The callback sees what a probe sees, leaves training as it is, and speaks once."""

import csv

import lightning.pytorch as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from shortcut_snn import nets
from shortcut_snn.neurons import LIF, Rectangle
from shortcut_snn.runs import Health

from .small import train


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


def test_it_speaks_once_and_writes_every_epoch(tmp_path):
    said: list[str] = []
    watch = Health(tmp_path / "layers.csv", every=2, tell=said.append)
    module = Plain()
    fit(module, watch)
    (line,) = said
    assert line.startswith("epoch 1, step 1: vanishes: from net.layer4.1.spike2 back to net.stem.spike")
    rows = list(csv.DictReader((tmp_path / "layers.csv").open()))
    assert [row["epoch"] for row in rows] == ["0"] * 17 + ["1"] * 17
    assert all(0 < float(row["rate"]) < 1 for row in rows)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_a_dead_layer_is_named():
    said: list[str] = []
    fit(Plain(threshold=50.0), Health(tell=said.append), epochs=1)
    assert "dead from net.stem.spike on: 100 % of its neurons never fire" in said[0]


def test_training_ends_the_same_watched_or_not():
    nets_ = []
    for watches in ([], [Health(every=1, tell=lambda line: None)]):
        torch.manual_seed(0)
        module = Plain()
        fit(module, *watches)
        nets_.append(module.net.state_dict())
    assert all(torch.equal(value, nets_[1][key]) for key, value in nets_[0].items())


def test_a_run_has_them(tmp_path):
    assert train(tmp_path / "run", training__epochs=1) == 0
    rows = list(csv.DictReader((tmp_path / "run" / "layers.csv").open()))
    assert len(rows) == 19
    assert rows[0]["layer"] == "stem.spike"
    assert "stem.conv.weight" in load_file(tmp_path / "run" / "network.safetensors")


def test_every_is_a_number_of_steps():
    with pytest.raises(ValueError, match="every must be at least 1"):
        Health(every=0)


def test_a_network_without_neurons_is_left_alone():
    class Dull(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))

    watch = Health(tell=pytest.fail)
    fit(Dull(), watch, epochs=1)
    assert watch.layers == ()
