"""A LightningModule of a user's own, with its own loss and optimizer, trained with the callback and without."""

import copy
import dataclasses
import functools
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
)
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from shortcut_snn import (
    TET,
    Constant,
    LinearDecay,
    LogitSum,
    LossSum,
    SelfDistillation,
    ShortcutCallback,
    attach,
    components,
    nets,
)
from shortcut_snn.method import Branches, Method, Objective
from shortcut_snn.neurons import Neuron

from ..method.toys import hooks

STEPS = 2
SMOOTH = functools.partial(F.cross_entropy, label_smoothing=0.1)


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

    def __init__(self, mode: str = "m", whole: bool = True, adam: bool = False) -> None:
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
        parameters = list(self.parameters() if self.hparams.whole else self.net.parameters())
        if self.hparams.adam:
            groups = [[p for p in parameters if (p.dim() > 1) == decayed] for decayed in (True, False)]
            named = [{"params": group, "weight_decay": 0.01 * (i == 0)} for i, group in enumerate(groups)]
            return torch.optim.AdamW(named, lr=0.01)
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]


def digits() -> tuple[DataLoader, DataLoader]:
    """Loaders of training and validation data."""
    data = load_digits()
    images, labels = torch.tensor(data.images / 16, dtype=torch.float32)[:, None], torch.tensor(data.target)
    train = TensorDataset(images[:96], labels[:96])
    return DataLoader(train, 24), DataLoader(TensorDataset(images[1200:1250], labels[1200:1250]), 50)


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


def by_hand(objective: Objective, branch_weight: Any, loaders: Any) -> dict[str, Tensor]:
    """The same training without Lightning."""
    module = same_start()
    torch.manual_seed(1)
    model = attach(module.net, example=module.example_input_array)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step, total = 0, 2 * len(loaders[0])
    for _ in range(2):
        for images, labels in loaders[0]:
            loss = objective(model(module.sequence(images)), labels, branch_weight(step, total), SMOOTH)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return model.state_dict()


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 0.0) -> None:
    assert list(got) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=0, atol=atol, msg=lambda text, key=key: f"{key}: {text}")


def mutual_learning(output: Any, target: Tensor, branch_weight: float, criterion: Any) -> Tensor:
    """Main output and branches also draw each other."""
    losses = [criterion(branch, target) + F.mse_loss(output.main, branch) for branch in output.branches]
    loss: Tensor = criterion(output.main, target) + branch_weight * sum(losses)
    return loss


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("logit_sum", LogitSum()),
        ("loss_sum", LossSum()),
        (SelfDistillation(0.3), SelfDistillation(0.3)),
        (mutual_learning, mutual_learning),
    ],
    ids=["logit_sum", "loss_sum", "distillation", "mutual_learning"],
)
def test_the_callback_trains_like_the_wrapper(name: Any, objective: Any, loaders: Any, tmp_path: Path) -> None:
    branch_weight = LinearDecay(0.5)
    callback = ShortcutCallback("net", objective=name, branch_weight=branch_weight, criterion=SMOOTH)
    module = same_start()
    keys = list(module.state_dict())
    fit(module, loaders, tmp_path, callback)
    expected = by_hand(objective, branch_weight, loaders)
    assert_same(
        {f"network.{key}": value for key, value in module.net.state_dict().items()}
        | {f"branches.{key}": value for key, value in callback._shortcut.branches.state_dict().items()},
        expected,
        # Sums in another order are rounded otherwise.
        atol=1e-3 if name in ("logit_sum", mutual_learning) else 0.0,
    )
    assert list(module.state_dict()) == keys
    assert hooks(module) == 0
    assert "training_step" not in vars(module)


def test_lambda_0_equals_training_without_the_callback(loaders: Any, tmp_path: Path) -> None:
    class Reset(pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: Mine, *_: Any) -> None:
            functional.reset_net(module.net)

        on_validation_batch_start = on_train_batch_start

    ends = []
    for folder, callback in (
        ("vanilla", Reset()),
        ("silent", ShortcutCallback("net", branch_weight=Constant(0.0))),
        ("speaking", ShortcutCallback("net", branch_weight=Constant(0.5))),
    ):
        module = same_start()
        fit(module, loaders, tmp_path / folder, callback)
        ends.append(module.state_dict())
    assert_same(ends[1], ends[0])
    assert not torch.equal(ends[2]["net.layer1.0.weight"], ends[0]["net.layer1.0.weight"])


@pytest.mark.parametrize(
    ("objective", "options"), [("logit_sum", {}), ("loss_sum", {"whole": False}), ("logit_sum", {"adam": True})]
)
def test_a_run_resumes_bit_for_bit(objective: str, options: Any, loaders: Any, tmp_path: Path) -> None:
    def callback() -> ShortcutCallback:
        return ShortcutCallback("net", objective=objective)

    whole, resumed = same_start(**options), same_start(**options)
    fit(whole, loaders, tmp_path, callback(), epochs=2)
    # The first epoch's checkpoint, into a module and a callback that have not been trained.
    last = callback()
    fit(resumed, loaders, tmp_path / "resumed", last, epochs=2, resume=tmp_path / "epoch=0.ckpt")
    assert_same(resumed.state_dict(), whole.state_dict())


def test_a_checkpoint_contains_the_branches_and_tests_without_them(loaders: Any, tmp_path: Path) -> None:
    module = same_start()
    trainer = fit(module, loaders, tmp_path, ShortcutCallback("net"), epochs=1)
    path = tmp_path / "epoch=0.ckpt"
    keys = torch.load(path, weights_only=True)["state_dict"].keys()
    assert {key for key in keys if not key.startswith("shortcut_branches_net.")} == Mine().state_dict().keys()
    assert len(keys) == len(Mine().state_dict()) + 4
    loaded = Mine.load_from_checkpoint(path, weights_only=True, strict=False)
    assert_same(loaded.state_dict(), module.state_dict())
    other = Mine()
    trainer.validate(other, loaders[1], ckpt_path=path, verbose=False, weights_only=True)
    assert_same(other.state_dict(), module.state_dict())


@pytest.mark.parametrize("objective", ["logit_sum", "loss_sum"])
def test_a_loop_over_time_in_the_users_step(objective: str, loaders: Any) -> None:
    module, callback = same_start("s"), ShortcutCallback("net", objective=objective, loop="network")
    before = copy.deepcopy(module.net.state_dict())
    quick(module, few(loaders), callback)
    assert not torch.equal(module.net.layer1[0].weight, before["layer1.0.weight"])
    assert all(parameter.grad is None or parameter.grad.any() for parameter in module.net.parameters())


def test_a_layout_of_attach_is_taken(loaders: Any, tmp_path: Path) -> None:
    module, twin, evaluated = same_start(), same_start(), same_start()
    example = module.example_input_array
    layout = attach(twin.net, "blocks", example=example, num_classes=10, log=lambda _: None).layout
    fit(module, loaders, tmp_path / "layout", ShortcutCallback("net", layout=layout), epochs=1)
    fit(twin, loaders, tmp_path / "blocks", ShortcutCallback("net", "blocks", num_classes=10), epochs=1)
    assert_same(module.state_dict(), twin.state_dict())
    # In evaluation its reset is called, too.
    were_reset = []
    layout = dataclasses.replace(layout, reset=were_reset.append)
    callbacks: list[pl.Callback] = [ShortcutCallback("net", layout=layout)]
    pl.Trainer(callbacks=callbacks, accelerator="cpu", logger=False).validate(evaluated, loaders[1], verbose=False)
    assert were_reset
    assert all(network is evaluated.net for network in were_reset)


def test_two_callbacks_are_removed_again(loaders: Any) -> None:
    module = same_start()
    module.other = copy.deepcopy(module.net)
    example = module.example_input_array
    callbacks = [ShortcutCallback(name, objective="loss_sum", example=example) for name in ("net", "other")]
    step = module.training_step
    logits = module.logits
    module.logits = lambda images: logits(images) + module.other(module.sequence(images)).mean(0)
    quick(module, few(loaders), *callbacks)
    assert module.training_step == step


def factors(module: Mine) -> list[float]:
    functions = [neuron.surrogate_function for neuron in module.net.modules() if hasattr(neuron, "surrogate_function")]
    return [getattr(function, "factor", 1.0) for function in functions]


def batch_of(module: Mine, loaders: Any) -> dict[str, Tensor]:
    images, labels = next(iter(loaders[0]))
    return {"example": module.sequence(images), "example_labels": labels}


def test_a_method_by_name_trains_as_the_wrapper_does(loaders: Any, tmp_path: Path) -> None:
    module, twin = same_start(), same_start()
    batch = batch_of(module, loaders)
    callback = ShortcutCallback("net", method="initialised_loss_sum", criterion=SMOOTH, **batch)
    fit(module, loaders, tmp_path, callback, epochs=1)
    torch.manual_seed(1)
    model = attach(twin.net, method="initialised_loss_sum", example=batch["example"], labels=batch["example_labels"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step, (images, labels) in enumerate(loaders[0]):
        loss = model.loss(model(twin.sequence(images)), labels, step, len(loaders[0]), SMOOTH)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert factors(module) == factors(twin) != factors(same_start())
    assert_same(module.state_dict(), twin.state_dict())


def test_surrogates_that_were_set_are_resumed(loaders: Any, tmp_path: Path) -> None:
    whole = same_start()
    batch = batch_of(whole, loaders)
    fit(whole, loaders, tmp_path, ShortcutCallback("net", method="initialised_loss_sum", **batch))
    # Its weights at the start are others, and so would be what is set on them.
    resumed = Mine()
    last = ShortcutCallback("net", method="initialised_loss_sum", **batch)
    fit(resumed, loaders, tmp_path / "resumed", last, resume=tmp_path / "epoch=0.ckpt")
    assert factors(resumed) == factors(whole)
    assert_same(resumed.state_dict(), whole.state_dict())
    # A run that is resumed twice has them too.
    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)["callbacks"][last.state_key]
    assert last.state_dict() == saved
    # The resumed run need not initialise.
    plain = ShortcutCallback("net", method="loss_sum", **batch)
    continued = Mine()
    fit(continued, loaders, tmp_path / "plain", plain, epochs=3, resume=tmp_path / "epoch=0.ckpt")
    assert factors(continued) == factors(whole)
    assert plain.state_dict() == saved


def test_a_branch_weight_by_epoch_stays_within_an_epoch(loaders: Any, tmp_path: Path) -> None:
    seen = []

    class Recorder(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            seen.append(callback._lambda)

    callback = ShortcutCallback("net", method=Method(Branches(by="epoch")))
    fit(same_start(), loaders, tmp_path, callback, Recorder())
    assert seen == [0.25] * 4 + [0.125] * 4
    # Training may end with a number of steps.
    seen.clear()
    quick(same_start(), loaders[0], callback, Recorder(), max_epochs=100, max_steps=8)
    assert seen == [0.25] * 4 + [0.125] * 4


def test_lambda_follows_the_steps_if_accumulation_changes(loaders: Any) -> None:
    seen = []

    class Recorder(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            seen.append((trainer.global_step, callback._lambda))

    callback = ShortcutCallback("net")
    quick(same_start(), loaders[0], callback, GradientAccumulationScheduler({0: 2, 1: 1}), Recorder(), max_epochs=2)
    assert [step for step, _ in seen] == [0, 0, 1, 1, 2, 3, 4, 5]
    assert [weight for _, weight in seen] == pytest.approx([0.25 * (1 - step / 6) for step, _ in seen])


def test_membranes_are_detached_in_training_alone(loaders: Any) -> None:
    module, seen = same_start(), []
    module.net = nets.spiking_resnet8(10, 2, width=4, in_channels=1)
    module.example_input_array, module.logits = torch.zeros(2, 1, 8, 8), lambda images: module.net(images)

    class Recorder(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            seen.append(sum(each.detach_membrane for each in module.net.modules() if isinstance(each, Neuron)))

    callback = ShortcutCallback("net", method=Method(Branches(), gradient=components.gradient.make("sltt")))
    for _ in range(2):
        quick(module, few(loaders), callback, Recorder())
        assert seen.pop() > 5
        assert not any(each.detach_membrane for each in module.net.modules() if isinstance(each, Neuron))


def test_numbers_without_a_criterion_are_refused(loaders: Any, tmp_path: Path) -> None:
    images, _ = loaders[0].dataset.tensors
    data = DataLoader(TensorDataset(images, 5 * torch.rand(len(images), 10)), 24)
    with pytest.raises(ValueError, match="pass criterion="):
        fit(Numbers(), [data], tmp_path, ShortcutCallback("net", method="loss_sum"))


def test_branches_without_an_optimizer_are_refused(loaders: Any, tmp_path: Path) -> None:
    module = same_start()
    module.configure_optimizers = lambda: None
    with pytest.raises(ValueError, match=r"branches need an optimizer .*configure_optimizers\(\)"):
        fit(module, loaders, tmp_path, ShortcutCallback("net"))


class Numbers(Mine):
    """Predicts numbers."""

    def training_step(self, batch: Any, index: int) -> Tensor:
        return F.mse_loss(self.logits(batch[0]), batch[1])


def test_methods_without_branches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no branches.*tet"):
        ShortcutCallback("net", method="tet")
    with pytest.raises(ValueError, match=r"no branches.*call initialise\("):
        ShortcutCallback("net", method="initialised")
    with pytest.raises(ValueError, match=r"objective LossSum.*LogitSum"):
        ShortcutCallback("net", method="loss_sum", objective="logit_sum")
    with pytest.raises(ValueError, match=r"no method 'los_sum' \(did you mean loss_sum\?\)"):
        ShortcutCallback("net", method="los_sum")


def test_the_network_is_named_not_passed() -> None:
    with pytest.raises(TypeError, match=r"name of an attribute.*got a Linear"):
        ShortcutCallback(nn.Linear(2, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chanel_axis": 1}, r"attach has no argument 'chanel_axis' \(did you mean channel_axis\?\)"),
        ({"labels": 1}, "labels must be a function, got int 1"),
        ({"layout": "blocks"}, r"layout=... is a Layout, as attach\(...\).layout, got 'blocks'"),
        ({"criterion": "cross_entropy"}, "criterion must be a function, got str 'cross_entropy'"),
    ],
)
def test_wrong_arguments_are_refused_before_training(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ShortcutCallback("net", **options)


class Named(nn.Module):
    """Gives a dictionary."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": x}


def test_unsupported_modules_are_refused(loaders: Any, tmp_path: Path) -> None:
    known = "logit_sum, loss_sum, step_loss_sum, distillation, tet"
    with pytest.raises(ValueError, match=f"unknown objective 'both'; available: {known}"):
        ShortcutCallback("net", objective="both")
    with pytest.raises(ValueError, match=r"no branches.*tet"):
        ShortcutCallback("net", objective=TET())
    with pytest.raises(ValueError, match=r"Mine has no submodule 'model' when training starts; there are: net$"):
        fit(same_start(), loaders, tmp_path, ShortcutCallback("model"))
    compiled = same_start()
    compiled.net = torch.compile(compiled.net, backend="eager")
    with pytest.raises(ValueError, match=r'self.net is a compiled copy: name "net._orig_mod" instead'):
        fit(compiled, loaders, tmp_path, ShortcutCallback("net"))
    # Without branches there is nothing to name.
    quick_trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[ShortcutCallback("net")]
    )
    quick_trainer.validate(compiled, loaders[1], verbose=False)
    with pytest.raises(ValueError, match="give the Trainer max_epochs or max_steps"):
        fit(same_start(), loaders, tmp_path, ShortcutCallback("net"), epochs=-1)

    class Elsewhere(Mine):
        def training_step(self, batch: Any, index: int) -> Tensor:
            return self.net.head[1].weight.sum()

    with pytest.raises(ValueError, match=r"training_step must call self.net\(x\)"):
        fit(Elsewhere(), loaders, tmp_path, ShortcutCallback("net", objective="loss_sum"))

    class Odd(Mine):
        def training_step(self, batch: Any, index: int) -> Tensor:
            return self.net(self.sequence(batch[0]))["logits"]

        def validation_step(self, batch: Any, index: int) -> None:
            return None

    module = Odd()
    module.net.append(Named())
    readout = {"example": module.example_input_array, "readout": lambda output: output["logits"].mean(0)}
    with pytest.raises(ValueError, match=r"readout.*loss_sum"):
        fit(module, loaders, tmp_path, ShortcutCallback("net", **readout))


@pytest.mark.parametrize(("hook", "name"), [("setup", "net"), ("configure_model", "")])
def test_a_network_may_be_made_when_training_starts(hook: str, name: str, loaders: Any, tmp_path: Path) -> None:
    class Late(Mine):
        """Makes its network in a hook, as Lightning has it for large ones."""

        def __init__(self) -> None:
            super().__init__()
            self.net = None

        def logits(self, images: Tensor) -> Tensor:
            return self(self.sequence(images)).mean(0)

    def make(self: Late, stage: str = "") -> None:
        if self.net is None:
            with torch.random.fork_rng():
                self.net = same_start().net

    setattr(Late, hook, make)
    expected, module, resumed = same_start(), Late(), Late()

    def callback(name: str) -> ShortcutCallback:
        return ShortcutCallback(name, [f"{'' if name else 'net.'}layer{stage}" for stage in (1, 2)])

    fit(expected, loaders, tmp_path / "expected", callback("net"))
    fit(module, loaders, tmp_path / "late", callback(name))
    assert_same(module.state_dict(), expected.state_dict())
    assert hooks(module) == 0
    assert "configure_model" not in vars(module)
    trainer = fit(resumed, loaders, tmp_path, callback(name), resume=tmp_path / "late" / "epoch=0.ckpt")
    assert_same(resumed.state_dict(), expected.state_dict())
    trainer.validate(Late(), loaders[1], verbose=False)


class Endless(IterableDataset):
    """Digits without a length."""

    def __iter__(self) -> Any:
        return iter(list(zip(*digits()[0].dataset.tensors, strict=True))[:72])


def test_data_without_a_length_need_max_steps(tmp_path: Path) -> None:
    data, seen = DataLoader(Endless(), 24), []

    def schedule(step: int, total: int) -> float:
        # The printed method names the weight at the first step of one.
        seen.extend([(step, total)] if total > 1 else [])
        return 0.1

    def train(**options: Any) -> None:
        callback = ShortcutCallback("net", branch_weight=schedule)
        trainer = pl.Trainer(
            callbacks=[callback], accelerator="cpu", logger=False, default_root_dir=tmp_path, **options
        )
        trainer.fit(same_start(), data)

    with pytest.raises(ValueError, match=r"max_steps or limit_train_batches"):
        train(max_epochs=2)
    assert not seen
    train(max_steps=4)
    assert seen == [(step, 4) for step in range(4)]
    seen.clear()
    train(max_epochs=2, limit_train_batches=2)
    assert seen == [(step, 4) for step in range(4)]


def test_a_trainer_may_train_no_batches(loaders: Any) -> None:
    module = same_start()
    assert quick(module, loaders[0], ShortcutCallback("net"), limit_train_batches=0).global_step == 0
    assert_same(module.state_dict(), same_start().state_dict())


def test_branches_join_the_optimizer_that_trains_their_network(loaders: Any) -> None:
    class Two(Mine):
        """Another part of it is trained by another optimizer, as in a GAN."""

        def __init__(self) -> None:
            super().__init__()
            self.other, self.automatic_optimization = nn.Linear(64, 1), False

        def training_step(self, batch: Any, index: int) -> None:
            (images, labels), optimizers = batch, self.optimizers()
            loss = F.cross_entropy(self.logits(images), labels) + self.other(images.flatten(1)).mean()
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in optimizers:
                optimizer.step()

        def configure_optimizers(self) -> Any:
            slow, rest = list(self.net.layer1.parameters()), list(self.net.parameters())[4:]
            groups = [{"params": slow, "lr": 1e-6}, {"params": [p for p in rest if p.dim() < 2]}]
            groups.append({"params": [p for p in rest if p.dim() > 1]})
            return [torch.optim.Adam(self.other.parameters()), torch.optim.SGD(groups, lr=0.1)]

    callback, places = ShortcutCallback("net"), []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            groups = trainer.optimizers[1].param_groups
            branches = callback._shortcut.branches.parameters()
            places.append([[any(b is p for p in group["params"]) for group in groups].index(True) for b in branches])

    quick(Two(), few(loaders), callback, Look())
    weights = [parameter.dim() > 1 for parameter in callback._shortcut.branches.parameters()]
    assert places[0] == [2 if weight else 1 for weight in weights]


def test_an_average_of_weights_comes_after_the_callback(loaders: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"EMAWeightAveraging copies the module.*first"):
        fit(same_start(), loaders, tmp_path, EMAWeightAveraging(decay=0.9), ShortcutCallback("net"))
    module = same_start()
    trainer = fit(module, loaders, tmp_path, ShortcutCallback("net"), EMAWeightAveraging(decay=0.9), epochs=1)
    assert list(module.state_dict()) == list(Mine().state_dict())
    # Lightning swaps the weights with its average, which must not have branches either.
    assert trainer.validate(module, loaders[1], verbose=False)
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())


@pytest.mark.parametrize("objective", ["logit_sum", "loss_sum"])
def test_a_search_for_a_learning_rate_has_no_branches(objective: str, loaders: Any, tmp_path: Path) -> None:
    module = same_start()
    module.lr = 0.1
    finder = LearningRateFinder(num_training_steps=3)
    fit(module, loaders, tmp_path, ShortcutCallback("net", objective=objective), finder, epochs=1)
    assert finder.optimal_lr is not None
    plain, search = same_start(), LearningRateFinder(num_training_steps=3)
    plain.lr = 0.1
    plain.net.register_forward_pre_hook(lambda net, _: functional.reset_net(net))
    fit(plain, loaders, tmp_path / "plain", search, epochs=1)
    assert finder.optimal_lr.results == search.optimal_lr.results


def test_a_module_in_double_precision_is_trained_again(loaders: Any, tmp_path: Path) -> None:
    module = same_start()
    for _ in range(2):
        trainer = pl.Trainer(
            callbacks=[ShortcutCallback("net")], precision="64-true", max_steps=2, accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, loaders[0])
    assert module.net.head[1].weight.dtype == torch.double


def test_a_failed_run_restores_the_module(loaders: Any, tmp_path: Path) -> None:
    module, callback = same_start(), ShortcutCallback("net", objective="loss_sum")
    keys = list(module.state_dict())
    images, labels = next(iter(loaders[0]))
    wrong = DataLoader([(images, labels), (images[..., :3], labels)], batch_size=None), loaders[1]
    with pytest.raises(RuntimeError, match="Kernel size"):
        fit(module, wrong, tmp_path / "failed", callback)
    assert list(module.state_dict()) == keys
    assert hooks(module) == 0
    assert "training_step" not in vars(module)
    trainer = fit(module, loaders, tmp_path, callback, epochs=1)
    assert trainer.global_step == len(loaders[0])
    assert hooks(module) == 0


class Retrying(Mine):
    """Calls the network again after a call that failed, as for want of memory."""

    def logits(self, images: Tensor) -> Tensor:
        with pytest.raises(RuntimeError, match="Kernel size"):
            self.net(self.sequence(images[..., :3]))
        functional.reset_net(self.net)
        return super().logits(images)


def test_a_call_that_failed_leaves_nothing_to_the_next(loaders: Any) -> None:
    trained = []
    for kind in (Mine, Retrying):
        torch.manual_seed(0)
        module = kind()
        quick(module, few(loaders), ShortcutCallback("net", objective="loss_sum"))
        trained.append(dict(module.named_parameters()))
    assert_same(*trained)


def test_lambda_ends_at_the_end_with_several_optimizers(loaders: Any, tmp_path: Path) -> None:
    class Manual(Mine):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, index: int) -> None:
            images, labels = batch
            self.manual_backward(F.cross_entropy(self.logits(images), labels))
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.net.layer1, self.net.head)]

    def lambdas(**options: Any) -> list[float]:
        seen: list[float] = []

        def schedule(step: int, total: int) -> float:
            seen.extend([step / total] if total > 1 else [])
            return 0.1

        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
        few = {"limit_train_batches": 4, "limit_val_batches": 0, "default_root_dir": tmp_path}
        callback = ShortcutCallback("net", branch_weight=schedule)
        pl.Trainer(callbacks=[callback], **quiet, **few, **options).fit(Manual(), *loaders)
        return seen

    assert lambdas(max_epochs=2) == pytest.approx([step / 8 for step in range(8)])
    # Two steps a batch: given their number, training ends with it.
    assert lambdas(max_epochs=2, max_steps=10) == pytest.approx([step / 5 for step in range(5)])
    assert lambdas(max_epochs=1, max_steps=100) == pytest.approx([step / 4 for step in range(4)])
    assert lambdas(max_epochs=-1, max_steps=10) == pytest.approx([step / 5 for step in range(5)])


class Itself(Mine):
    """A module that is itself the network."""

    def __init__(self) -> None:
        super().__init__()
        for name, part in self.net.named_children():
            self.add_module(name, part)
        del self.net

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer3(self.layer2(self.layer1(x))))

    def logits(self, images: Tensor) -> Tensor:
        return self(self.sequence(images)).mean(0)


def test_a_network_is_pickled_and_copied_while_it_trains(loaders: Any) -> None:
    copies: list[nn.Module] = []

    class Copy(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: Mine, *_: Any) -> None:
            copies[:] = [copy.deepcopy(module.net), pickle.loads(pickle.dumps(module.net))]

    module = same_start()
    quick(module, few(loaders, batches=1), ShortcutCallback("net"), Copy())
    images = module.sequence(loaders[0].dataset.tensors[0][:5])
    outputs = []
    for network in (module.net, *copies):
        functional.reset_net(network)
        outputs.append(network(images))
    assert outputs[0].any()
    assert all(torch.equal(output, outputs[0]) for output in outputs[1:])


def test_a_module_that_is_itself_the_network(loaders: Any) -> None:
    inner = same_start()
    torch.manual_seed(0)
    itself = Itself()
    for name, module in (("", itself), ("net", inner)):
        quick(module, few(loaders), ShortcutCallback(name, objective="loss_sum", branch_weight=Constant(0.5)))
    assert_same(itself.state_dict(), inner.net.state_dict())
    assert hooks(itself) == 0


def test_a_network_that_is_never_called_is_warned_of_once(loaders: Any, tmp_path: Path) -> None:
    class Bypassing(Mine):
        def logits(self, images: Tensor) -> Tensor:
            return self.net.forward(self.sequence(images)).mean(0)

    with pytest.warns(UserWarning, match=r"call self.net\(x\), not its forward\(x\)") as warned:
        fit(Bypassing(), loaders, tmp_path, ShortcutCallback("net"), epochs=2)
    assert len([each for each in warned if "its branches train nothing" in str(each.message)]) == 1


def quick(
    module: pl.LightningModule, data: Any, *callbacks: pl.Callback, validation: Any = None, **options: Any
) -> pl.Trainer:
    """Train for an epoch without a trace on disk."""
    options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "max_epochs": 1} | options
    trainer = pl.Trainer(callbacks=list(callbacks), accelerator="cpu", num_sanity_val_steps=0, **options)
    torch.manual_seed(1)
    trainer.fit(module, data, validation)
    return trainer


def few(loaders: Any, batch: int = 24, batches: int = 4) -> DataLoader:
    return DataLoader(Subset(loaders[0].dataset, range(batch * batches)), batch)


class Manual(Mine):
    """Takes its own steps, two for each batch, between which the neurons' states go on."""

    def __init__(self, chunks: int = 1) -> None:
        super().__init__()
        self.automatic_optimization, self.chunks, self.starts = False, chunks, []

    def training_step(self, batch: Any, index: int) -> None:
        images, labels = batch
        optimizer = self.optimizers()
        for chunk in self.sequence(images).chunk(self.chunks):
            self.starts.append(float(torch.as_tensor(self.net.layer1[2].v).abs().sum()))
            self.manual_backward(F.cross_entropy(self.net(chunk).mean(0), labels))
            optimizer.step()
            optimizer.zero_grad()
            functional.detach_net(self.net)


def test_manual_optimization_keeps_states_within_a_batch(loaders: Any) -> None:
    torch.manual_seed(0)
    module = Manual(chunks=2)
    quick(module, few(loaders, batches=2), ShortcutCallback("net"))
    assert [start > 0 for start in module.starts] == [False, True, False, True]


def test_losses_cannot_be_added_under_manual_optimization(loaders: Any) -> None:
    with pytest.raises(ValueError, match=r"Manual uses manual optimization.*logit_sum"):
        quick(Manual(), few(loaders), ShortcutCallback("net", method="loss_sum"))


def test_several_calls_per_batch_are_refused(loaders: Any) -> None:
    class Twice(Mine):
        def training_step(self, batch: Any, index: int) -> Tensor:
            loss = super().training_step(batch, index)["loss"]
            return loss + self.logits(torch.zeros_like(batch[0])).softmax(1).square().sum()

    with pytest.raises(ValueError, match=r"calls self.net\(x\) 2 times"):
        quick(Twice(), few(loaders), ShortcutCallback("net", objective="loss_sum"))


def test_batches_that_are_not_pairs_need_labels(loaders: Any) -> None:
    class Keyed(Mine):
        def training_step(self, batch: Any, index: int) -> Any:
            return super().training_step((batch["image"], batch["label"]), index)

    data = DataLoader([{"image": image, "label": label} for image, label in few(loaders).dataset], 24)
    with pytest.raises(ValueError, match=r"a batch is a dict.*labels="):
        quick(Keyed(), data, ShortcutCallback("net", objective="loss_sum"))
    torch.manual_seed(0)
    quick(Keyed(), data, ShortcutCallback("net", objective="loss_sum", labels=lambda batch: batch["label"]))
