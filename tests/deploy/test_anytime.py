"""Anytime inference: samples leave at the first certain exit, and nothing else about them changes."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from shortcut_snn import attach, calibrate, components, nets, wrap
from shortcut_snn.cli import main
from shortcut_snn.cli.anytime import measure_exits
from shortcut_snn.data import Digits
from shortcut_snn.deploy import Exits, Inference, fold, load
from shortcut_snn.deploy.anytime import all_logits, calibrate_logits, leave, make_runner
from shortcut_snn.deploy.safetensors_files import read_network, save_network
from shortcut_snn.deploy.single_step import SingleStep, keep_branches
from shortcut_snn.energy import measure_energy
from shortcut_snn.method import Branches, LinearHead, LossSum, Method
from shortcut_snn.neurons import PSN
from shortcut_snn.training import Classification, Training, fit

from ..training.small import train
from .networks import CLASSES, FAMILIES, batch, family

STEPS = 3


def exits_of(runner, thresholds: float | None = 0.12) -> Exits:
    """Return one threshold for all exits."""
    count = len(runner.exits)
    return Exits(
        exits=tuple(runner.exits), temperatures=(1.0,) * count, thresholds=(thresholds,) * (count - 1),
        measure="confidence", drop=0.0, samples=1, change=0.0, interval=(0.0, 0.0), mean_steps=1.0,
    )  # fmt: skip


def with_branches(name: str, events: bool) -> Inference:
    """Return a network in use that kept a branch at each stage."""
    network, spec = family(name, events, time_steps=STEPS)
    taps = list(getattr(network, "stage_names", [])[:-1]) or ["layer1"]
    torch.manual_seed(0)
    heads = {}
    for tap in taps:
        seen: list[Tensor] = []
        with torch.no_grad():
            handle = network.get_submodule(tap).register_forward_hook(lambda *args, seen=seen: seen.append(args[2]))
            network(spec.example())
        handle.remove()
        heads[tap] = LinearHead(seen[0].shape[2], CLASSES)
    return Inference(fold(network, spec.example()), spec, branches=heads)


# The blocks of a family do the same for frames and for a static image, but for its first layer.
@pytest.mark.parametrize(
    ("name", "events"),
    [*((name, False) for name in FAMILIES), *((name, True) for name in ("basic", "ms", "vgg, max pooling"))],
)
@torch.no_grad()
def test_leaving_changes_nothing_but_the_exit(name, events):
    """Logits at the last exit are the network's, and a sample in a shrinking batch has those that it has alone."""
    network = with_branches(name, events)
    images = batch(network.spec, 12)
    runner = network.exit_runner
    assert runner.exits[-1] == (STEPS, "output")
    assert len(runner.exits) == STEPS * (len(network.branches) + 1)
    every: dict[int, Tensor] = {}
    runner(network.model_inputs(images), lambda exit, logits: every.__setitem__(exit, logits))
    assert torch.allclose(every[len(runner.exits) - 1], network.logits(images), atol=1e-5)
    logits = torch.stack([every[exit] for exit in range(len(runner.exits))])
    # The thresholds lie between what is seen, so samples leave everywhere and rounding decides nothing.
    certain = logits.softmax(-1).max(-1).values.sort(1).values[:-1, 5:9].mean(1)
    exits = Exits(**{**exits_of(runner).to_dict(), "thresholds": tuple(certain.tolist())})
    prediction = network.predict(images, anytime=exits)
    assert len(prediction.exits.unique()) > 1
    assert torch.equal(prediction.exits, leave(logits, exits))
    at = logits.gather(0, prediction.exits[None, :, None].expand(1, -1, CLASSES))[0]
    assert torch.equal(prediction.labels, at.argmax(-1))
    assert torch.allclose(prediction.confidence, at.softmax(-1).max(-1).values, atol=1e-5)
    assert prediction.steps.tolist() == [exits.exits[exit][0] for exit in prediction.exits.tolist()]
    assert list(prediction.layers) == [exits.exits[exit][1] for exit in prediction.exits.tolist()]


def test_exits_are_in_the_order_of_the_network_whatever_the_order_of_their_names():
    network = with_branches("sew", events=False)
    images, heads = batch(network.spec, 12), network.branches
    other = Inference(network.network, network.spec, branches={tap: heads[tap] for tap in reversed(heads)})
    assert other.exit_runner.exits == network.exit_runner.exits
    assert [place for _, place in other.exit_runner.exits[:4]] == ["layer1", "layer2", "layer3", "output"]
    everywhere = Exits(**{**exits_of(other.exit_runner).to_dict(), "thresholds": (0.11,) * 11})
    assert torch.equal(other.predict(images, everywhere).exits, network.predict(images, everywhere).exits)
    keep_branches(other.network, other.branches)
    step = SingleStep(other.network)
    x = other.model_inputs(images)
    values = dict(zip(step.taps, step(x)[1:], strict=False))
    logits = {}
    network.exit_runner(x, logits.__setitem__, range(4))
    for number, tap in enumerate(("layer1", "layer2", "layer3")):
        assert torch.allclose(values[tap], logits[number], atol=1e-5), tap


def test_exits_that_no_sample_takes_cost_nothing():
    """With the last exit alone, the operations are the network's, but for the first layer of a static image."""
    network = with_branches("basic", events=True)
    frames = batch(network.spec, 6)
    last = exits_of(network.exit_runner, None)
    expected = measure_energy(network.network, [network.model_inputs(frames)])
    measured = measure_exits(network, last, frames)
    assert measured.energy == pytest.approx(expected.energy)
    assert measured.total_energy == pytest.approx(expected.total_energy)
    first = Exits(**{**last.to_dict(), "thresholds": (-float("inf"), *last.thresholds[1:])})
    head = network.branches["layer1"].classifier.weight.numel()
    early = measure_exits(network, first, frames)
    assert early.energy < 0.6 * expected.energy
    assert next(layer.macs for layer in early.layers if "heads.0" in layer.layer) == head


def digits() -> tuple[DataLoader, Tensor, Tensor]:
    """Return the validation data of the digits, and test images and labels."""
    loaders = Digits(validation=0.1).load().loaders(0)
    test = list(loaders.test)
    return loaders.validation, torch.cat([x for x, _ in test]), torch.cat([y for _, y in test])


@pytest.mark.parametrize("measure", ["confidence", "gap", "entropy"])
def test_a_calibrated_network_saves_steps_and_keeps_its_accuracy(measure):
    network = load("digits-resnet18")
    validation, images, labels = digits()
    exits = calibrate(network, validation, drop=0.01, measure=measure)
    assert exits.samples == 145
    assert exits.change >= -0.01
    assert exits.interval[0] < exits.change < exits.interval[1]
    assert exits.mean_steps < 2.2
    logits, targets = all_logits(network, network.exit_runner, validation)
    at = leave(logits, exits)
    right = logits.argmax(-1) == targets
    assert exits.change == pytest.approx(float(right.gather(0, at[None]).double().mean() - right[-1].double().mean()))
    # Test data, which the thresholds have not seen.
    prediction = exits.predict(network, images)
    assert prediction.steps.double().mean() < 2.5
    whole = (network.predict(images) == labels).double().mean()
    assert (prediction.labels == labels).double().mean() > whole - 0.02
    one = network.predict(images[0], anytime=exits)
    assert (one.labels[0], one.exits[0]) == (prediction.labels[0], prediction.exits[0])


def test_few_samples_permit_nothing():
    """One more error than was seen counts, so a small drop needs many samples."""
    network = load("digits-resnet18")
    validation, *_ = digits()
    with pytest.raises(ValueError, match=r"145 samples cannot show .* at most 0.005: calibrate on 199 or more"):
        calibrate(network, validation)
    for drop in (0, 2):
        with pytest.raises(ValueError, match="drop is a fraction"):
            calibrate(network, validation, drop=drop)
    logits, targets = all_logits(network, network.exit_runner, validation)
    exits = calibrate_logits(logits, targets, network.exit_runner.exits, 0.0)
    assert exits.used == [3]
    assert "no sample leaves early" in str(exits)


# With 318, closing rare exits once a level is chosen, instead of at each level, costs 0.75 points.
@pytest.mark.parametrize("seed", [*range(9), 318])
def test_rare_exits_that_are_closed_cost_no_more_than_was_permitted(seed):
    """An exit that few samples take is closed, so that they leave later, where they may be wrong."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (400,), generator=generator)
    strength = torch.rand(12, 1, 1, generator=generator).cumsum(0).mul(4).clamp(max=5) / 2
    logits = torch.randn(12, 400, 10, generator=generator) + F.one_hot(labels, 10) * strength
    for drop in (0.005, 0.02):
        exits = calibrate_logits(logits, labels, [(step + 1, "output") for step in range(12)], drop)
        assert exits.change >= -drop


@pytest.mark.parametrize("labels", [torch.full((64,), 10), torch.full((64,), -1), torch.rand(64)])
def test_labels_that_are_no_classes_are_refused(labels):
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    with pytest.raises(ValueError, match="labels must be integers from 0 to 9"):
        calibrate(load("digits-resnet18"), [(images, labels)], drop=0.1)


def test_labels_may_be_any_integers_and_an_unknown_exit_is_named():
    validation, *_ = digits()
    network = load("digits-resnet18")
    narrow = [(images, labels.to(torch.uint8 if k else torch.int32)) for k, (images, labels) in enumerate(validation)]
    exits = calibrate(network, narrow, drop=0.05)
    assert exits == calibrate(network, validation, drop=0.05)
    with pytest.raises(ValueError, match=r"no exit at step 1, nowhere; there are: step 1, "):
        exits.decides(torch.rand(2, 10), 1, "nowhere")


class Stack(nn.Module):
    """A network without neurons of this package; ``calls`` counts the passes of its second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 32)
        self.readout = nn.Linear(32, 10)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of one time step."""
        x = self.first(x.flatten(1)).relu()
        self.calls += 1
        return self.readout(self.second(x).relu())


def test_a_wrapped_network_ends_when_all_samples_have_left():
    _validation, images, labels = digits()
    x, y = images.float() / 255, labels
    torch.manual_seed(0)
    network = Stack()
    model = attach(
        network,
        ["first"],
        example=x[:7],
        labels=y[:7],
        loop=4,
        readout="mean",
        method="loss_sum",
        log=lambda line: None,
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(150):
        optimizer.zero_grad()
        model.loss(model(x[:200]), y[:200], step, 150).backward()
        optimizer.step()
    runner = make_runner(model)
    assert runner.exits == [(step, place) for step in (1, 2, 3, 4) for place in ("first", "output")]
    data = DataLoader(TensorDataset(x[200:], y[200:]), batch_size=50)
    exits = calibrate(model, data, drop=0.05)
    assert exits.mean_steps < 1.5
    network.calls = 0
    prediction = exits.predict(model, x[:1])
    assert prediction.labels.tolist() == y[:1].tolist()
    assert network.calls == prediction.steps.item() - (prediction.layers == ("first",)) < 4
    many = exits.predict(model, x[200:])
    alone = torch.cat([exits.predict(model, each[None]).exits for each in x[200:]])
    assert torch.equal(many.exits, alone)
    assert (many.labels == y[200:]).double().mean() > 0.9


class Pair(Stack):
    """Returns spikes and membrane potentials, as snnTorch's neurons do."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return two tensors of a time step."""
        logits = super().forward(x)
        return logits, 2 * logits


def test_a_step_may_return_several_tensors_and_a_batch_must_have_all_steps():
    torch.manual_seed(0)
    frames = torch.randn(4, 50, 64)
    options = {"loop": "input", "readout": lambda output: output[0].mean(0), "log": lambda line: None}
    model = attach(Pair(), [], example=frames[:, :7], labels=torch.arange(7), **options)
    exits = calibrate(model, [(frames, model.eval()(frames).main.argmax(1))], drop=0.2)
    assert len(exits.predict(model, frames).labels) == 50
    for runner, short in [
        (model, frames[:2]),
        (nets.spiking_resnet8(10, 4, width=4), torch.rand(3, 2, 3, 8, 8)),
        (nets.spiking_resnet8(10, 4, width=4), torch.rand(6, 2, 3, 8, 8)),
    ]:
        with pytest.raises(ValueError, match="4 time steps"):
            exits_of(make_runner(runner), None).predict(runner, short)


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A run that kept its branches."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    changes = {"method__branches__taps": "stages", "method__branches__keep": "true", "method__objective": "loss_sum"}
    assert train(folder, training__epochs=2, data__validation=0.2, **changes) == 0
    return folder


def test_a_run_keeps_its_branches(kept):
    network = load(kept)
    assert list(network.branches)
    assert all(isinstance(head, LinearHead) for head in network.branches.values())
    # The state of the network alone is what a run without branches has.
    state, about = read_network(kept / "network.safetensors")
    assert not [name for name in state if name.startswith("branch")]
    assert list(about["branches"]["channels"]) == list(network.branches)


def test_a_head_that_cannot_be_rebuilt_is_refused_before_training(tmp_path):
    network = nets.spiking_resnet8(10, 2, width=16, in_channels=1)
    method = Method(Branches("stages", keep=True), LossSum())
    model = wrap(network, network.layout("stages"), method, head=lambda channels, classes: nn.Linear(channels, classes))
    images, _ = next(iter(Digits(train_limit=40).load().loaders(0).train))
    data = TensorDataset(images.float(), torch.arange(len(images)) % 10)
    with pytest.raises(ValueError, match=r"cannot be kept: method\.branches\.head does not name its Linear"):
        fit(Classification(model, training=Training(epochs=1)), (data, data), tmp_path / "run", log=lambda line: None)


class Scaled(nn.Module):
    """A head that computes with tensors while it is built, and keeps one that no file holds."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)
        self.factor = torch.full((1,), torch.tensor(2.0).item())

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.factor


def test_a_head_of_ones_own_is_built_again(forgotten, tmp_path):
    components.head("scaled")(Scaled)
    changes = {"method__branches__keep": True, "method__branches__head": "scaled"}
    assert train(tmp_path / "run", "--preset", "loss_sum", training__epochs=1, **changes) == 0
    network = load(tmp_path / "run")
    assert {head.factor.item() for head in network.branches.values()} == {2.0}


def test_the_command_sets_stores_and_shows_exits(kept, capsys, tmp_path):
    assert main(["anytime", str(kept), "--drop", "0.05", "--samples", "16"]) == 0
    out = capsys.readouterr().out
    rows = list(csv.DictReader((kept / "anytime.csv").open()))
    assert [row["network"] for row in rows][-5:] == [f"anytime, drop {d:g}" for d in (0, 0.0025, 0.005, 0.01, 0.02)]
    anytime = next(row for row in rows if row["network"] == "anytime")
    assert f"{100 * float(anytime['accuracy']):.2f} %" in out
    assert (kept / "anytime.png").is_file()
    exits = load(kept).exits
    assert exits is not None
    assert exits.drop == 0.05
    assert main(["anytime", str(kept), "--set", "network.time_steps=2"]) == 1
    assert "--set takes data entries, not network" in capsys.readouterr().err
    assert main(["evaluate", str(kept)]) == 0
    assert "with exits (anytime): accuracy" in capsys.readouterr().out
    assert main(["report", str(kept)]) == 0
    assert "Anytime inference" in (kept / "report.html").read_text()
    assert main(["export", str(kept), "--to", "safetensors", "--out", str(tmp_path / "out"), "--images", "16"]) == 0
    exported = load(tmp_path / "out")
    assert exported.exits == exits
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
    before, after = (each.predict(images, anytime=exits) for each in (load(kept), exported))
    assert torch.equal(before.exits, after.exits)
    assert main(["export", str(kept), "--to", "torch-export", "--out", str(tmp_path / "out"), "--images", "16"]) == 0
    assert "Anytime inference: " in (tmp_path / "out" / "README.md").read_text(), "also after another export"
    words = ["--set", "network.time_steps=3", "--to", "safetensors", "--out", str(tmp_path / "long"), "--images", "16"]
    assert main(["export", str(kept), *words]) == 0
    assert load(tmp_path / "long").exits is None, "thresholds are those of the run's time steps"
    assert list(load(tmp_path / "long").branches)
    assert "Anytime inference: " not in (tmp_path / "long" / "README.md").read_text()


def test_the_command_never_calibrates_on_test_data(tmp_path, capsys):
    folder = tmp_path / "run"
    assert train(folder, training__epochs=1, data__validation=0) == 0
    assert main(["anytime", str(folder)]) == 1
    assert "thresholds must not be set on test data" in capsys.readouterr().err


def test_what_has_no_exits_is_refused():
    network = load("cifar100-resnet18")
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match="one time step and no branches"):
        calibrate(network, [(images, torch.tensor([1, 2]))])
    digits_network = load("digits-resnet18")
    with pytest.raises(ValueError, match="data is empty"):
        calibrate(digits_network, [])
    with pytest.raises(ValueError, match="expected logits"):
        calibrate(digits_network, [(images[:, :1, :8, :8], torch.zeros(2, 10))])
    with pytest.raises(ValueError, match="of another network"):
        load("nmnist-small").predict(torch.zeros(1, 6, 2, 17, 17), anytime=exits_of(digits_network.exit_runner))
    with pytest.raises(TypeError, match="attach"):
        calibrate(nn.Linear(3, 2), [(images, torch.tensor([1, 2]))])
    parallel = nets.spiking_resnet8(10, 4, width=4, make_neuron=lambda: PSN(4))
    with pytest.raises(ValueError, match="streams, exits and"):
        calibrate(parallel, [(torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))], drop=0.5)


def test_taps_of_another_network_must_be_in_its_order():
    network = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))
    x, y = torch.rand(20, 64), torch.arange(20) % 10
    options = {"loop": 4, "readout": "mean", "log": lambda line: None}
    calibrate(attach(network, ["1", "3"], example=x, labels=y, **options), [(x, y)], drop=0.5)
    with pytest.raises(ValueError, match=r"another order \(1, 3, output\)"):
        calibrate(attach(network, ["3", "1"], example=x, labels=y, **options), [(x, y)], drop=0.5)


def test_a_wrapped_built_in_network_has_exits_too():
    torch.manual_seed(0)
    network = nets.spiking_resnet8(10, 2, width=16, in_channels=1)
    model = wrap(network, network.layout("stages"), "loss_sum")
    runner = make_runner(model)
    assert all(module.training for module in model.modules()), "calibration may come between steps of training"
    assert [place for _, place in runner.exits] == ["layer1", "layer2", "output"] * 2
    model.eval()
    x = torch.rand(3, 1, 8, 8)
    exits = exits_of(runner, None)
    assert torch.equal(exits.predict(model, x).labels, model(x).main.argmax(-1))


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("branches", {"head": "linear", "channels": {"layer1": 10**12}}, "channels"),
        ("branches", {"head": "linear", "channels": {"nowhere": 4}}, "nowhere"),
        ("branches", {"head": "none", "channels": {"layer1": 4}}, "head"),
        ("exits", {"exits": [[1, "output"]], "temperatures": [1.0, 2.0]}, "exits"),
    ],
)
def test_a_file_with_damaged_exits_is_refused(entry, value, message, tmp_path):
    network, spec = family("basic")
    path = tmp_path / "network.safetensors"
    save_network(network, path, {**spec.to_dict(), entry: value})
    with pytest.raises(ValueError, match=message):
        load(path)


def test_constant_weights_are_prepared_once_and_again_after_a_change():
    """The kernels of a network in use keep rows of its weights; a change that torch counts makes them again."""
    network = load("digits-resnet18")
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    before = network.logits(images)
    assert torch.equal(network.logits(images), before)
    with torch.no_grad():
        network.network.layer1[0].conv1.weight.mul_(0.5)
    fresh = load("digits-resnet18")
    with torch.no_grad():
        fresh.network.layer1[0].conv1.weight.mul_(0.5)
    assert not torch.equal(network.logits(images), before)
    assert torch.equal(network.logits(images), fresh.logits(images))
