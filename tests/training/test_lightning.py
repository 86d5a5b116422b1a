"""A LightningModule of a user's own, with its own loss and optimizer, trained with the callback and without."""

import copy
import functools
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from shortcut_snn import Constant, LinearDecay, LogitSum, LossSum, attach
from shortcut_snn.lightning import ShortcutCallback

from ..method.toys import hooks

STEPS = 2


def network(mode: str = "m") -> nn.Module:
    def lif() -> nn.Module:
        return neuron.LIFNode(surrogate_function=surrogate.ATan())

    net = nn.Sequential()
    net.layer1 = nn.Sequential(layer.Conv2d(1, 8, 3, padding=1), layer.BatchNorm2d(8), lif())
    net.layer2 = nn.Sequential(layer.Conv2d(8, 8, 3, stride=2), layer.BatchNorm2d(8), lif())
    net.layer3 = nn.Sequential(layer.Conv2d(8, 16, 3), layer.BatchNorm2d(16), lif())
    net.head = nn.Sequential(layer.Flatten(), layer.Linear(16, 10))
    functional.set_step_mode(net, mode)
    return net


class Mine(pl.LightningModule):
    """Knows nothing of the method, nor that its neurons have to be reset."""

    def __init__(self, mode: str = "m", whole: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = network(mode)
        self.example_input_array = self.sequence(torch.zeros(2, 1, 8, 8))
        if mode == "s":
            self.example_input_array = self.example_input_array[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def sequence(self, images: Tensor) -> Tensor:
        return images.expand(STEPS, *images.shape)

    def logits(self, images: Tensor) -> Tensor:
        x = self.sequence(images)
        outputs = self.net(x) if self.hparams.mode == "m" else torch.stack([self.net(step) for step in x])
        return outputs.mean(0)

    def training_step(self, batch: Any, index: int) -> dict[str, Tensor]:
        images, labels = batch
        loss = F.cross_entropy(self.logits(images), labels, label_smoothing=0.1)
        self.log("my_loss", loss)
        return {"loss": loss}

    def validation_step(self, batch: Any, index: int) -> None:
        images, labels = batch
        self.log("my_accuracy", (self.logits(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> Any:
        parameters = self.parameters() if self.hparams.whole else self.net.parameters()
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]


def digits() -> tuple[DataLoader, DataLoader]:
    """Loaders of training and validation data."""
    data = load_digits()
    images, labels = torch.tensor(data.images / 16, dtype=torch.float32)[:, None], torch.tensor(data.target)
    train = TensorDataset(images[:960], labels[:960])
    return DataLoader(train, 24), DataLoader(TensorDataset(images[1200:1400], labels[1200:1400]), 100)


@pytest.fixture(scope="module")
def loaders() -> tuple[DataLoader, DataLoader]:
    return digits()


def fit(
    module: pl.LightningModule,
    loaders: Any,
    folder: Path,
    *callbacks: pl.Callback,
    epochs: int = 2,
    resume: Path | None = None,
) -> pl.Trainer:
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        callbacks=[*callbacks, ModelCheckpoint(folder, "{epoch}", save_top_k=-1)],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
    )
    torch.manual_seed(1)
    trainer.fit(module, *loaders, ckpt_path=resume, weights_only=True)
    return trainer


def same_start(mode: str = "m", **options: Any) -> Mine:
    torch.manual_seed(0)
    return Mine(mode, **options)


def by_hand(objective: LogitSum | LossSum, balance: Any, loaders: Any) -> dict[str, Tensor]:
    """The same training without Lightning."""
    module = same_start()
    torch.manual_seed(1)
    model = attach(module.net, example=module.example_input_array)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step, total = 0, 2 * len(loaders[0])
    for _ in range(2):
        for images, labels in loaders[0]:
            loss = objective(model(module.sequence(images)), labels, balance(step, total))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return model.state_dict()


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 0.0) -> None:
    assert list(got) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=0, atol=atol, msg=lambda text, key=key: f"{key}: {text}")


SMOOTH = functools.partial(F.cross_entropy, label_smoothing=0.1)


@pytest.mark.parametrize(("name", "objective"), [("logit_sum", LogitSum(0.1)), ("loss_sum", LossSum(False, 0.1))])
def test_three_lines_train_as_the_wrapper_does(name: str, objective: Any, loaders: Any, tmp_path: Path) -> None:
    balance = LinearDecay(0.5)
    callback = ShortcutCallback("net", objective=name, balance=balance, criterion=SMOOTH)
    module = same_start()
    keys = list(module.state_dict())
    trainer = fit(module, loaders, tmp_path, callback)
    expected = by_hand(objective, balance, loaders)
    assert_same(
        {f"network.{key}": value for key, value in module.net.state_dict().items()}
        | {f"branches.{key}": value for key, value in callback.state_dict().items()},
        expected,
        # A sum added before the mean over time is rounded otherwise than one added behind it.
        atol=1e-3 if name == "logit_sum" else 0.0,
    )
    # It learns, it leaves the module as it was, and what was vanilla is something else.
    assert trainer.callback_metrics["my_accuracy"] > 0.3
    assert list(module.state_dict()) == keys
    assert hooks(module) == 0
    assert "training_step" not in vars(module)


def test_without_the_callback_and_with_a_lambda_of_0_the_weights_are_the_same(loaders: Any, tmp_path: Path) -> None:
    class Reset(pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: Mine, *_: Any) -> None:
            functional.reset_net(module.net)

        on_validation_batch_start = on_train_batch_start

    ends = []
    for folder, callback in (
        ("vanilla", Reset()),
        ("silent", ShortcutCallback("net", balance=Constant(0.0))),
        ("speaking", ShortcutCallback("net", balance=Constant(0.5))),
    ):
        module = same_start()
        fit(module, loaders, tmp_path / folder, callback)
        ends.append(module.state_dict())
    assert_same(ends[1], ends[0])
    assert not torch.equal(ends[2]["net.layer1.0.weight"], ends[0]["net.layer1.0.weight"])


@pytest.mark.parametrize("objective", ["logit_sum", "loss_sum"])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(objective: str, loaders: Any, tmp_path: Path) -> None:
    def callback() -> ShortcutCallback:
        return ShortcutCallback("net", objective=objective)

    whole, resumed = same_start(), same_start()
    fit(whole, loaders, tmp_path, callback(), epochs=2)
    # The first epoch's checkpoint, into a module and a callback that have not been trained.
    last = callback()
    fit(resumed, loaders, tmp_path / "resumed", last, epochs=2, resume=tmp_path / "epoch=0.ckpt")
    assert_same(resumed.state_dict(), whole.state_dict())


def test_a_checkpoint_has_the_modules_keys_and_loads_without_the_callback(loaders: Any, tmp_path: Path) -> None:
    module = same_start()
    fit(module, loaders, tmp_path, ShortcutCallback("net"), epochs=1)
    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    assert list(saved["state_dict"]) == list(Mine().state_dict())
    loaded = Mine.load_from_checkpoint(tmp_path / "epoch=0.ckpt", weights_only=True)
    assert_same(loaded.state_dict(), module.state_dict())
    kept = saved["callbacks"]["ShortcutCallback[net]"]
    assert list(kept) == [f"{i}.classifier.{kind}" for i in range(2) for kind in ("weight", "bias")]


def test_branches_are_trained_by_an_optimizer_of_the_network_alone(loaders: Any, tmp_path: Path) -> None:
    one, other = same_start(), same_start(whole=False)
    callbacks = ShortcutCallback("net"), ShortcutCallback("net")
    fit(one, loaders, tmp_path / "one", callbacks[0], epochs=1)
    fit(other, loaders, tmp_path / "other", callbacks[1], epochs=1)
    assert_same(other.state_dict(), one.state_dict())
    assert_same(callbacks[1].state_dict(), callbacks[0].state_dict())


@pytest.mark.parametrize("objective", ["logit_sum", "loss_sum"])
def test_a_loop_over_time_in_the_users_step(objective: str, loaders: Any, tmp_path: Path) -> None:
    module, callback = same_start("s"), ShortcutCallback("net", objective=objective, loop="network")
    before = copy.deepcopy(module.net.state_dict())
    fit(module, loaders, tmp_path, callback, epochs=1)
    assert not torch.equal(module.net.layer1[0].weight, before["layer1.0.weight"])
    assert all(parameter.grad is None or parameter.grad.any() for parameter in module.net.parameters())


def test_two_callbacks_for_two_parts_come_off_again(loaders: Any, tmp_path: Path) -> None:
    module = same_start()
    module.other = copy.deepcopy(module.net)
    example = module.example_input_array
    callbacks = [ShortcutCallback(name, objective="loss_sum", example=example) for name in ("net", "other")]
    step = module.training_step
    logits = module.logits
    module.logits = lambda images: logits(images) + module.other(module.sequence(images)).mean(0)
    fit(module, loaders, tmp_path, *callbacks, epochs=1)
    assert module.training_step == step


class Named(nn.Module):
    """Gives a dictionary."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": x}


def test_what_cannot_be_done_is_said(loaders: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="objective must be 'logit_sum' or 'loss_sum', got 'both'"):
        ShortcutCallback("net", objective="both")
    with pytest.raises(ValueError, match=r"Mine has no submodule 'model' when training starts; there are: net$"):
        fit(same_start(), loaders, tmp_path, ShortcutCallback("model"))
    with pytest.raises(ValueError, match="give the Trainer max_epochs or max_steps"):
        fit(same_start(), loaders, tmp_path, ShortcutCallback("net"), epochs=-1)

    class Silent(Mine):
        def training_step(self, batch: Any, index: int) -> None:
            return None

    with pytest.raises(ValueError, match="training_step must return its loss for the branches' to be added"):
        fit(Silent(), loaders, tmp_path, ShortcutCallback("net", objective="loss_sum"))

    class Elsewhere(Mine):
        def training_step(self, batch: Any, index: int) -> Tensor:
            return self.net.head[1].weight.sum()

    with pytest.raises(ValueError, match="training_step must call 'net' for its branches' losses to be added"):
        fit(Elsewhere(), loaders, tmp_path, ShortcutCallback("net", objective="loss_sum"))

    class Odd(Mine):
        def training_step(self, batch: Any, index: int) -> Tensor:
            return self.net(self.sequence(batch[0]))["logits"]

        def validation_step(self, batch: Any, index: int) -> None:
            return None

    module = Odd()
    module.net.append(Named())
    readout = {"example": module.example_input_array, "readout": lambda output: output["logits"].mean(0)}
    with pytest.raises(ValueError, match=r"cannot be added to what the network gives, dict.*use objective='loss_sum'"):
        fit(module, loaders, tmp_path, ShortcutCallback("net", **readout))


def test_a_run_that_failed_leaves_the_module_as_it_was_and_may_be_started_again(loaders: Any, tmp_path: Path) -> None:
    module, callback = same_start(), ShortcutCallback("net", objective="loss_sum")
    keys = list(module.state_dict())
    images, labels = next(iter(loaders[0]))
    wrong = DataLoader([(images, labels), (images[..., :3], labels)], batch_size=None), loaders[1]
    with pytest.raises(RuntimeError):
        fit(module, wrong, tmp_path / "failed", callback)
    assert list(module.state_dict()) == keys
    assert hooks(module) == 0
    assert "training_step" not in vars(module)
    trainer = fit(module, loaders, tmp_path, callback, epochs=1)
    assert trainer.global_step == len(loaders[0])
    assert hooks(module) == 0


def test_an_average_of_weights_of_lightnings_own(loaders: Any, tmp_path: Path) -> None:
    module = same_start()
    fit(module, loaders, tmp_path, ShortcutCallback("net"), EMAWeightAveraging(decay=0.9), epochs=1)
    assert list(module.state_dict()) == list(Mine().state_dict())
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
