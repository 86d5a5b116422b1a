"""An objective that needs the logits of every time step gets them in training only."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from shortcut_snn import TET, nets
from shortcut_snn.data import as_data
from shortcut_snn.training import Classification, Training

from .tiny import Sides, run

pytestmark = pytest.mark.usefixtures("bare")


def small() -> nets.SpikingNetwork:
    return nets.spiking_resnet8(2, 2, width=2, in_channels=1)


def task(net: nn.Module, objective: Any = None) -> Classification:
    return Classification(net, objective=objective or TET(), training=Training(epochs=1, accelerator="cpu"))


def data() -> Any:
    return as_data((Sides(16), Sides(8), Sides(8)), batch_size=8)


def test_the_network_returns_means_again_afterwards(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Seeing(TET):
        def __call__(self, output: Any, *given: Any) -> Any:
            seen.append(output.main.shape)
            return super().__call__(output, *given)

    class Between(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
            assert module.model.network.readout == "mean"

    net = small()
    run(tmp_path / "run", task(net, Seeing()), data(), callbacks=[Between()])
    assert set(seen) == {torch.Size([2, 8, 2])}
    assert net.readout == "mean"
    assert net.eval()(torch.rand(3, 1, 8, 8)).shape == (3, 2)


def test_an_exception_restores_the_readout(tmp_path: Path) -> None:
    class Failing(nn.Module):
        def forward(self, x: Any) -> Any:
            raise RuntimeError("failed")

    net = small()
    net.layer2[0].conv1 = Failing()
    with pytest.raises(RuntimeError, match="failed"):
        run(tmp_path / "run", task(net), data())
    assert net.readout == "mean"
