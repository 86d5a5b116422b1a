"""``fit`` with a user's objects: data sets, loaders, data modules, a network."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
    default_collate,
    get_worker_info,
)

from shortcut_snn import as_data, components
from shortcut_snn.deploy.safetensors_files import read_network
from shortcut_snn.nets import spiking_resnet8
from shortcut_snn.recipes import build, recipe_of, train
from shortcut_snn.recipes.building import load_data
from shortcut_snn.training import Classification, Health

from ..method.wrapped import wrapped
from ..stateful import Stateful
from .same import assert_same_run
from .tiny import Net, Sides, network, run, task

pytestmark = pytest.mark.usefixtures("bare")


DATA: dict[str, Callable[[], Any]] = {
    "two data sets": lambda: (Sides(40), Sides(12)),
    "three loaders": lambda: (Stateful(Sides(40), 8), DataLoader(Sides(12), 8), DataLoader(Sides(12), 8)),
}


class Dropping(Net):
    """Drops pixels in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.dropout(x, 0.2, self.training))


class Stop(pl.Callback):
    """Fails after a step."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.after:
            raise RuntimeError("stopped")


def interrupted(folder: Path, make: Callable[[], Any], data: Callable[[], Any], after: int) -> None:
    """Stop a run after a step, and resume it with new objects."""
    with pytest.raises(RuntimeError, match="stopped"):
        run(folder, make(), data(), callbacks=[Stop(after)])
    run(folder, make(), data(), resume=True)


@pytest.mark.parametrize("name", DATA)
def test_it_learns_from_them_and_resumes_within_an_epoch(tmp_path: Path, name: str) -> None:
    def make() -> Any:
        # Dropout draws from the global generator, whose state is part of the checkpoint.
        torch.manual_seed(0)
        model = wrapped(Dropping(), ["spike1"], num_classes=2, example=torch.rand(2, 1, 4, 4))
        return task(net=model, epochs=3, checkpoint_every=1)

    result = run(tmp_path / "whole", make(), DATA[name]())
    assert result["test_last"]["accuracy"] > 0.9
    assert result["stripped_equals_trained"]
    assert (result["validation_last"] is None) == (name == "two data sets")
    steps = 1 if name == "two data sets" else 5
    interrupted(tmp_path / "run", make, DATA[name], after=steps + 3 if steps == 5 else 2)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_plain_loader_resumes_within_an_epoch(tmp_path: Path) -> None:
    def data() -> Any:
        return DataLoader(Sides(40), 8, shuffle=True), DataLoader(Sides(12), 8)

    def make() -> Any:
        return task(checkpoint_every=1)

    run(tmp_path / "whole", make(), data())
    # After the third of five steps of the second epoch.
    interrupted(tmp_path / "run", make, data, after=8)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_loader_with_a_generator_resumes_with_the_order_of_its_epoch(tmp_path: Path) -> None:
    def data() -> Any:
        generator = torch.Generator().manual_seed(5)
        return DataLoader(Sides(40), 8, shuffle=True, generator=generator), DataLoader(Sides(12), 8)

    run(tmp_path / "whole", task(), data())
    # After the first of two epochs.
    interrupted(tmp_path / "run", task, data, after=6)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_loaders_of_ready_batches_train_as_plain_ones(tmp_path: Path) -> None:
    def loader(samples: int) -> DataLoader[Any]:
        sides = Sides(samples)
        return DataLoader(
            Batches(sides), batch_size=None, sampler=BatchSampler(SequentialSampler(sides), 8, drop_last=False)
        )

    ready = run(tmp_path / "ready", task(epochs=1), (loader(40), loader(12)))
    plain = run(tmp_path / "plain", task(epochs=1), (DataLoader(Sides(40), 8), DataLoader(Sides(12), 8)))
    assert ready["test_last"] == plain["test_last"]
    mine, theirs = (load_file(tmp_path / name / "network.safetensors") for name in ("ready", "plain"))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


class Batches(Dataset[Any]):
    """Takes the indices of a batch at once."""

    def __init__(self, samples: Sides) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: list[int]) -> Any:
        return default_collate([self.samples[index] for index in indices])


class Stream(IterableDataset[Any]):
    """Samples of which each loader process takes its share."""

    def __len__(self) -> int:
        return 40

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        assert worker is not None
        return (Sides(40)[index] for index in range(worker.id, 40, worker.num_workers))


def test_a_loader_that_is_shorter_than_it_says_ends_the_run(tmp_path: Path) -> None:
    # Each process drops its last batch, of 4 samples.
    train = DataLoader(Stream(), 8, num_workers=2, drop_last=True)
    with pytest.raises(ValueError, match="fewer batches than its len"):
        run(tmp_path / "run", task(epochs=1), (train, DataLoader(Sides(12), 8), DataLoader(Sides(12), 8)))


def test_a_task_starts_again_after_a_run_that_failed(tmp_path: Path) -> None:
    classification = task(epochs=1)
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path / "failed", classification, (Sides(40), Sides(12)), callbacks=[Stop(1)])
    run(tmp_path / "run", classification, (Sides(80), Sides(12)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "sgd"}, r"optimizer: pass components\.optimizer\.make\(name, .*got 'sgd'"),
        ({"lr_schedule": components.optimizer.make("sgd")}, r"lr_schedule: pass components\.lr_schedule\.make"),
        ({"training": {"epochs": 1}}, r"training: pass Training\("),
    ],
)
def test_a_task_takes_components(wrong: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Classification(network(), **wrong)


def test_fit_takes_a_task_and_components(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"fit takes a task, .*got a Net"):
        run(tmp_path, network())
    with pytest.raises(TypeError, match=r"logger: pass components\.logger\.make"):
        run(tmp_path, task(), loggers=[CSVLogger(tmp_path)])
    with pytest.raises(ValueError, match=r"^callbacks: .*`Health`"):
        run(tmp_path, task(), callbacks=[Health()])


class Fails(pl.Callback):
    """Fails when the last epoch is saved."""

    def on_train_end(self, *_: Any) -> None:
        raise RuntimeError("stopped")


def test_a_run_that_has_stopped_early_trains_no_further(tmp_path: Path) -> None:
    def again(folder: Path, *more: pl.Callback, resume: bool = False) -> None:
        callbacks = [EarlyStopping("validation_loss", min_delta=100.0, patience=1), *more]
        run(folder, task(epochs=5, ema_decay=0.5), callbacks=callbacks, resume=resume)

    again(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="stopped"):
        again(tmp_path / "run", Fails())
    again(tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("name", ["criterion", "metrics"])
def test_losses_and_metrics_of_single_samples_are_refused(tmp_path: Path, name: str) -> None:
    mine = task(epochs=1)
    mine.criterion = lambda prediction, target: cross_entropy(
        prediction, target, reduction="none" if name == "criterion" else "mean"
    )
    mine.metrics = lambda prediction, target: {"accuracy": (prediction.argmax(1) == target).float()}
    with pytest.raises(ValueError, match=r"train_.* has the shape \[8\]: return the mean over the batch"):
        run(tmp_path, mine)


def test_the_energy_is_measured_in_small_batches(tmp_path: Path) -> None:
    sizes = []
    classification = task(epochs=1)
    classification.model.network.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    run(tmp_path / "run", classification, as_data((Sides(40), Sides(200)), batch_size=8))
    assert max(sizes) <= 32


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    run(folder, task(epochs=1))
    return folder


def test_a_folder_describes_the_objects(finished: Path) -> None:
    about = read_network(finished / "network.safetensors")[1]
    assert about["data"] == {"classes": ["left", "right"], "channels": 1, "image_size": [4, 4]}
    assert load_file(finished / "network.safetensors").keys() == network().state_dict().keys()
    assert json.loads((finished / "result.json").read_text())["chance"] == 0.5


def test_a_finished_run_is_returned_and_another_is_refused(finished: Path) -> None:
    assert run(finished, task(epochs=1), resume=True) == json.loads((finished / "result.json").read_text())
    with pytest.raises(FileExistsError, match="holds a run already"):
        run(finished, task(epochs=1))


def test_another_run_is_not_resumed(finished: Path, tmp_path: Path) -> None:
    kept = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    (tmp_path / "run").mkdir()
    for name in ("recipe.yaml", "environment.json", "checkpoint.ckpt", "best.safetensors"):
        (tmp_path / "run" / name).write_bytes(kept[name])
    smoothed = task(epochs=1)
    smoothed.label_smoothing = 0.1
    for what, said in (
        (task(epochs=2), "training.epochs was 1 and is 2"),
        (smoothed, "label_smoothing was None and is 0.1"),
        (task(epochs=1, method="initialised"), "method.initialise was None and is True"),
        (task(epochs=1, optimizer=components.optimizer.make("adamw", lr=0.1)), r"optimizer\.lr was 0\.02 and is 0\.1"),
        (task(epochs=1, net=nn.Sequential(nn.Flatten(), nn.Linear(16, 2))), "network was Net and is Sequential"),
    ):
        with pytest.raises(ValueError, match=said):
            run(tmp_path / "run", what, resume=True)


def test_a_task_without_a_description_normalises_as_the_data_says(tmp_path):
    """The built-in images are bytes from 0 to 255."""
    seen: list[torch.Tensor] = []

    class Seeing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images.detach())
            return self.head(images.float().flatten(1))

    data = load_data(recipe_of("digits", {"data": {"train_limit": 60, "test_limit": 20}}))
    run(tmp_path / "run", task(net=Seeing(), epochs=1), data)
    mean, std = (data.description[name][0] for name in ("mean", "std"))
    assert (float(seen[0].min()), float(seen[0].max())) == pytest.approx((-mean / std, (1 - mean) / std))


def test_build_and_fit_initialise_as_the_recipe_says(tmp_path):
    network, data = {"kind": "resnet8", "width": 2}, {"train_limit": 40, "test_limit": 20}
    small = {"network": network, "data": data, "training": {"epochs": 1}}
    recipe = recipe_of("digits", "initialised", small)
    run(tmp_path / "objects", *build(recipe))
    train(recipe, tmp_path / "recipe", log=lambda line: None)
    made = [(tmp_path / name / "surrogates.json").read_text() for name in ("objects", "recipe")]
    assert made[0] == made[1]
    run(tmp_path / "not", *build(recipe_of("digits", "vanilla", small)))
    assert not (tmp_path / "not" / "surrogates.json").exists()


def test_a_run_ends_while_loader_processes_live(tmp_path: Path) -> None:
    def loader(count: int) -> DataLoader[Any]:
        return DataLoader(Sides(count), 8, num_workers=1, persistent_workers=True)

    def expire(*_: Any) -> None:
        raise TimeoutError("the run does not return")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(120)
    try:
        run(tmp_path / "run", task(epochs=1), (loader(16), loader(8)))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Shared(Net):
    """Convolutions share a weight, and buffers share memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3.weight = self.conv2.weight
        scales = torch.ones(2, 4, 1, 1)
        self.register_buffer("scale", scales[0])
        self.register_buffer("same_memory", scales[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        current = 2 * self.norm1(self.conv1(x))
        spikes = self.spike1(current.expand(2, *current.shape)).flatten(0, 1)
        current = 2 * self.norm2(self.conv3(self.conv2(spikes)) * self.scale).unflatten(0, (2, len(x)))
        return self.head(self.spike2(current).mean(0).flatten(1))


class Unsavable(Net):
    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 0}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def test_a_network_whose_tensors_share_memory_is_saved(tmp_path: Path) -> None:
    net = Shared()
    run(tmp_path / "run", task(net=net, epochs=1))
    state = read_network(tmp_path / "run" / "network.safetensors")[0]
    assert torch.equal(state["conv2.weight"], state["conv3.weight"])
    other = Shared()
    other.load_state_dict(state)
    images = torch.rand(2, 1, 4, 4)
    assert torch.equal(other.eval()(images), net.eval()(images))


def test_a_network_that_cannot_be_saved_is_refused_before_training(tmp_path: Path) -> None:
    sparse, expanded = Net(), Net()
    sparse.register_buffer("mask", torch.eye(3).to_sparse())
    expanded.register_buffer("scale", torch.ones(1).expand(4))
    for net, name in ((Unsavable(), "_extra_state"), (sparse, "mask"), (expanded, "scale")):
        with pytest.raises(ValueError, match=f"state '{name}' cannot be saved"):
            run(tmp_path / "run", task(net=net))
    assert not (tmp_path / "run").exists()


def test_samples_of_other_channels_name_the_network_option(tmp_path: Path) -> None:
    part = TensorDataset(torch.rand(8, 3, 8, 8), torch.arange(8) % 2)
    with pytest.raises(ValueError, match=r"takes 1 channels, got 3 .*: build the network with in_channels"):
        run(tmp_path / "run", task(net=spiking_resnet8(2, 2, width=2, in_channels=1)), (part, part))
