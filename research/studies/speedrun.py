"""Measure changes of a recipe for CIFAR-10 over seeds, measure its minutes, and draw accuracy against minutes.

    python research/studies/speedrun.py changes DATA.npz OUT [--rows base ...] [--seeds 0 1 2] [--teacher FILE.npy]
    python research/studies/speedrun.py minutes [--recipe cifar10-small] DATA.npz [ENTRY=VALUE ...]
    python research/studies/speedrun.py picture RECORDS.csv PICTURE.png

DATA.npz holds the images (research/studies/cifar10_npz.py writes it). The row ``base`` is the recipe cifar10-small for
2 epochs, of which the first 80 % see images of 20x20 pixels. Every other row changes one thing. OUT/changes.csv has a
line for each run: test accuracy after the last epoch, and seconds of training. OUT/changes.md has differences from
``base``. The same command resumes. FILE.npy, for the row ``teacher``, holds probabilities ``[n, classes]`` of the
training images.

``minutes`` times steps of a recipe with this library's neurons and with SpikingJelly's. Leave the machine idle.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import components
from shortcut_snn._utils.files import write_csv, write_text
from shortcut_snn._utils.markdown import markdown_table
from shortcut_snn._utils.statistics import mean_interval, with_interval
from shortcut_snn.data import ImageArchive, ImageData
from shortcut_snn.nets import SpikingVGG, spiking_vgg6
from shortcut_snn.neurons import ILIF, keep_freed_memory
from shortcut_snn.plots import COLOURS, finish_axes, new_figure, save_figure
from shortcut_snn.recipes import build, import_components, parse_options, recipe_of, train
from shortcut_snn.recipes.building import load_data
from shortcut_snn.recipes.entries import merged
from shortcut_snn.training import Classification, Muon, RunFolder, optimizers, read_rows
from shortcut_snn.training.optimizers import make_optimizer, parameter_groups

BASE = {"training": {"epochs": 2, "progressive_resizing": {"fraction": 0.8, "size": 20}}}
CROP = {"kind": "crop", "padding": 0.0625}


def _network(**options: Any) -> dict[str, Any]:
    return {"network": {"kind": "speedrun_vgg6", "time_steps": 1, **options}}


ROWS: dict[str, dict[str, Any]] = {
    "base": {},
    "flip_alternating": {"data": {"augment": [CROP, {"kind": "flip", "alternating": True}]}},
    "stem_whitening": _network(stem="whitening"),
    "stem_colour": _network(stem="colour"),
    "pool_first": _network(pool_first=True),
    "norm_fixed_scale": _network(fixed_scale=True),
    "norm_momentum_0.4": _network(norm_momentum=0.4),
    "identity_filters": _network(identity=True),
    "batch_250": {"data": {"batch_size": 250}},
    "batch_1000": {"data": {"batch_size": 1000}},
    "label_smoothing_0.1": {"task": {"label_smoothing": 0.1}},
    "muon_momentum_0.95": {"optimizer": {"momentum": 0.95}},
    "muon_iterations_3": {"optimizer": {"kind": "speedrun_muon"}},
    "average_0.98": {"training": {"ema_decay": 0.98}},
    "lookahead": {"task": {"kind": "speedrun_lookahead"}},
    # Twice the images for as many steps of as many images.
    "hard_examples": {
        "task": {"kind": "speedrun_hard_examples"},
        "data": {"batch_size": 1000},
        "training": {"epochs": 4},
    },
    "teacher": {"data": {"kind": "speedrun_teacher"}, "task": {"label_smoothing": 0.0}},
    "full_size": {"training": {"progressive_resizing": None}},
}


@components.network("speedrun_vgg6")
class SpeedrunVGG(SpikingVGG):
    """The network vgg6 with changes of airbench94.

    Args:
        stem: a frozen stem before the first layer: 12 filters of 2x2 pixels, each with both signs, and neurons.
        archive: images from which the whitening stem is computed.
        pool_first: whether currents are pooled, before the norm, in place of spikes.
        fixed_scale: whether the scales of norms stay at 1.
        norm_momentum: weight of a batch in a norm's running statistics.
        identity: whether the first filters of a layer start as the identity.
        width: channels of the first layer.
    """

    def __init__(
        self,
        num_classes: int,
        time_steps: int = 1,
        *,
        stem: Literal["none", "whitening", "colour"] = "none",
        archive: str = "",
        pool_first: bool = False,
        fixed_scale: bool = False,
        norm_momentum: float = 0.1,
        identity: bool = False,
        width: int = 64,
        make_neuron: Any = None,
    ) -> None:
        channels = 3 if stem == "none" else 24
        options: dict[str, Any] = {
            "width": width,
            "in_channels": channels,
            "make_neuron": make_neuron,
            "classifier_std": "1/inputs",
        }
        widths, pooling = spiking_vgg6.args
        super().__init__(widths, pooling, num_classes, time_steps, **options)
        self.in_channels = 3
        self.stem: nn.Module = nn.Identity()
        if stem != "none":
            filters = whitening_filters(archive) if stem == "whitening" else colour_filters()
            self.stem = FrozenStem(filters, make_neuron())
        stages: list[Any] = [self.get_submodule(name) for name in self.stage_names]
        layers = [layer for stage in stages for layer in stage]
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            layer.spike.norm.weight.requires_grad_(not fixed_scale)
            layer.spike.norm.momentum = norm_momentum
            if identity:
                nn.init.dirac_(layer.conv.weight.detach()[: layer.conv.in_channels])
            if pool_first and following is not None and not isinstance(following.pool, nn.Identity):
                layer.conv, following.pool = nn.Sequential(layer.conv, nn.MaxPool2d(2, ceil_mode=True)), nn.Identity()

    def features(self, x: Tensor) -> Tensor:
        """Map images ``[1, N, 3, H, W]`` to averaged spikes ``[1, N, F]``."""
        return super().features(self.stem(x))


class FrozenStem(nn.Module):
    """A frozen convolution with both signs of each filter, as ON and OFF channels, and a neuron."""

    def __init__(self, filters: Tensor, neuron: nn.Module) -> None:
        super().__init__()
        signed = torch.cat([filters, -filters])
        self.conv = nn.Conv2d(3, len(signed), 2, bias=False).requires_grad_(False)
        self.conv.weight.copy_(signed)
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[1, N, 3, H, W]`` to spikes ``[1, N, filters, H - 1, W - 1]``."""
        spikes: Tensor = self.neuron(self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        return spikes


def whitening_filters(archive: str) -> Tensor:
    """Return filters ``[12, 3, 2, 2]`` whose outputs on an archive's images are uncorrelated, of variance 1."""
    with np.load(archive) as arrays:
        images = torch.from_numpy(arrays["x_train"][:5000]).permute(0, 3, 1, 2) / 255
    images = (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    return (directions / (variances + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)


def colour_filters() -> Tensor:
    """Return filters ``[12, 3, 2, 2]``: means and differences in space, of opponent colours."""
    space = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]).float()
    colour = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]]).float()
    filters = torch.einsum("cr,sp->csrp", colour, space).reshape(12, 3, 2, 2)
    # Typical standard deviations of the outputs: high frequencies and differences of colours are weak in photographs.
    deviations = torch.tensor([11.2, 1.9, 1.9, 0.9, 2.2, 0.4, 0.4, 0.2, 1.4, 0.3, 0.3, 0.2])
    return filters / deviations.view(12, 1, 1, 1)


@components.data("speedrun_teacher")
@dataclass(frozen=True)
class TaughtArchive(ImageArchive):
    """An archive whose training labels are the mean of the classes and a teacher's probabilities.

    Args:
        teacher: numpy file of probabilities ``[n, classes]``.
    """

    teacher: str = ""

    def load(self, time_steps: int | None = None) -> ImageData:
        """Read the archive and the probabilities."""
        data = super().load(time_steps)
        classes = F.one_hot(data.train.labels, len(data.description["classes"])).float()
        data.train.labels = (classes + torch.from_numpy(np.load(self.teacher))) / 2
        return data


@components.task("speedrun_lookahead")
class Lookahead(Classification):
    """Every 5 steps an average of the weights replaces them; its decay grows to 0.95 a step, as in airbench94."""

    average: list[Tensor] | None = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the average, so that a run resumes with it."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["average"] = self.average

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the average again."""
        super().on_load_checkpoint(checkpoint)
        self.average = checkpoint["average"]

    @torch.no_grad()
    def on_train_batch_end(self, *arguments: Any) -> None:
        """Update the average and load it."""
        is_last = self.global_step == self.total_steps
        values = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        if self.average is None:
            self.average = [value.clone() for value in values]
        if self.global_step % 5 and not is_last:
            return
        decay = 1.0 if is_last else 0.95**5 * (self.global_step / self.total_steps) ** 3
        for average, value in zip(self.average, values, strict=True):
            average.lerp_(value, 1 - decay)
            value.copy_(average)


@components.task("speedrun_hard_examples")
class HardExamples(Classification):
    """Train on the half of each batch on which a network of a quarter of the width has the largest loss."""

    proxy: tuple[nn.Module, torch.optim.Optimizer] | None = None

    def prepare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return a batch, and of a training batch the hard half; the small network learns from all of it."""
        images, labels = super().prepare(batch)
        if not (self.training and torch.is_grad_enabled()):
            return images, labels
        if self.proxy is None:
            self.proxy = self._make_proxy()
        network, optimizer = self.proxy
        small = F.interpolate(images, size=(20, 20), mode="bilinear", antialias=True)
        losses = F.cross_entropy(network(small).float(), labels, reduction="none", label_smoothing=0.2)
        losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        hard = losses.detach().topk(len(losses) // 2).indices
        return images[hard], labels[hard]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the small network and its optimizer, so that a run resumes with them."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["proxy"] = self.proxy and (self.proxy[0].state_dict(), self.proxy[1].state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take both again."""
        if checkpoint["proxy"]:
            self.proxy = self._make_proxy()
            self.proxy[0].load_state_dict(checkpoint["proxy"][0])
            self.proxy[1].load_state_dict(checkpoint["proxy"][1])
        # Last, for a new network draws random numbers.
        super().on_load_checkpoint(checkpoint)

    @staticmethod
    def _make_proxy() -> tuple[nn.Module, torch.optim.Optimizer]:
        network: nn.Module = spiking_vgg6(
            10, 1, width=16, make_neuron=lambda: ILIF(max_spikes=4, threshold=0.5), classifier_std="1/inputs"
        )
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network, torch.optim.AdamW(network.parameters(), 0.003)


@components.optimizer("speedrun_muon")
class ThreeIterations(Muon):
    """Muon with three iterations in place of five."""

    def step(self, closure: Any = None) -> Any:
        """Update all parameters that have a gradient."""
        usual, optimizers._ITERATIONS = optimizers._ITERATIONS, 3
        try:
            return super().step(closure)
        finally:
            optimizers._ITERATIONS = usual


def run_changes(options: argparse.Namespace) -> None:
    """Train what the table lacks, and print it."""
    keep_freed_memory()
    for seed in options.seeds:
        for name in options.rows:
            entries = merged(BASE, {"data": {"kind": "npz", "root": str(options.data)}})
            entries = merged(entries, ROWS[name])
            if name == "teacher":
                entries["data"] = entries["data"] | {"teacher": str(options.teacher)}
            if name == "stem_whitening":
                entries["network"] = entries["network"] | {"archive": str(options.data)}
            recipe = recipe_of("cifar10-small", entries)
            recipe = replace(recipe, training=replace(recipe.training, seed=seed, threads=options.threads))
            train(recipe, options.out / name / f"seed{seed}", resume=True)
    rows = finished_runs(options.out)
    write_csv(options.out / "changes.csv", rows)
    write_text(options.out / "changes.md", changes_table(rows))
    print(changes_table(rows))


def finished_runs(out: Path) -> list[dict[str, Any]]:
    """Return row, seed, accuracy and seconds of each finished run, in the order of ROWS."""
    rows = []
    for name in ROWS:
        for path in sorted((out / name).glob("seed*")):
            run = RunFolder(path)
            if not run.is_finished:
                continue
            seconds = sum(float(row["seconds"]) for row in read_rows(run.table("timing")))
            accuracy = run.read_result()["test_last"]["accuracy"]
            row = {"row": name, "seed": int(path.name.removeprefix("seed")), "accuracy": round(accuracy, 4)}
            rows.append({**row, "seconds": round(seconds, 3)})
    return rows


def changes_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table: accuracy, its difference from the base at the same seeds, and median relative time."""
    base = {row["seed"]: row for row in rows if row["row"] == "base"}
    cells = []
    for name in dict.fromkeys(row["row"] for row in rows):
        pairs = [(row, base[row["seed"]]) for row in rows if row["row"] == name and row["seed"] in base]
        if not pairs:
            continue
        accuracy = fmean(100 * row["accuracy"] for row, _ in pairs)
        gain = mean_interval([100 * (row["accuracy"] - other["accuracy"]) for row, other in pairs])
        duration = median(row["seconds"] / other["seconds"] for row, other in pairs)
        cells.append([name, f"{accuracy:.2f}", with_interval(*gain), f"{duration:.2f}", str(len(pairs))])
    return markdown_table(("row", "test accuracy, %", "difference", "time", "n"), cells) + "\n"


def print_minutes(options: argparse.Namespace) -> None:
    """Print the minutes that the steps of a recipe take, with the neurons of both libraries."""
    keep_freed_memory()
    import_components([str(Path(__file__).parents[2] / "examples" / "spikingjelly_neurons.py")])
    layers = [{"data": {"kind": "npz", "root": str(options.data)}}, parse_options(options.entries)]
    recipe = recipe_of(options.recipe, *layers)
    data: Any = load_data(recipe)
    kind = components.component_of(recipe.neuron).name
    for name in (kind, f"spikingjelly_{kind}"):
        task, _ = build(recipe_of(options.recipe, *layers, {"neuron": {"kind": name}}), data, log=lambda line: None)
        batch = task.prepare_batch(data.sample(recipe.data.batch_size))
        seconds = step_seconds(task, *batch)
        resizing = recipe.training.progressive_resizing
        if resizing is not None:
            with resizing.fewer_time_steps(task.model.network, batch[0]):
                small = step_seconds(task, resizing.resize(batch[0]), batch[1])
            seconds = resizing.fraction * small + (1 - resizing.fraction) * seconds
        steps = recipe.training.epochs * len(data.train) / recipe.data.batch_size
        print(f"{name}: {seconds:.3f} s a step, {steps * seconds / 60:.1f} minutes")


def step_seconds(task: Any, images: Tensor, labels: Tensor, steps: int = 5) -> float:
    """Return the median time of a training step."""
    network = task.model.network.train()
    optimizer = make_optimizer(task.optimizer_options, parameter_groups(task.model, False))
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=task.training_options.precision == "bf16"):
            logits = network(images)
        task.criterion(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    # The first step compiles the kernels.
    return median(seconds[1:])


def draw(records: Path, picture: Path) -> None:
    """Draw mean accuracy against minutes of two idle cores, with SpikingJelly's neurons as hollow marks."""
    figure = new_figure()
    axes = figure.add_subplot()
    # An empty cell of the table is read as NaN.
    rows = [row for row in read_rows(records) if isfinite(row["minutes_of_two_idle_cores"])]
    if not rows:
        raise ValueError(f"{records}: no row has minutes; take docs/results/speedrun.csv or a table like it")
    colours = dict(zip(dict.fromkeys(row["track"] for row in rows), COLOURS, strict=False))
    runs: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for row in rows:
        runs.setdefault((row["track"], row["network"], row["epochs"]), []).append(row)
    means = {key: fmean(100 * float(row["accuracy"]) for row in seeds) for key, seeds in runs.items()}
    above = inf
    for key in sorted(runs, key=means.__getitem__, reverse=True):
        track, network, epochs = key
        minutes, slower = (float(runs[key][0][name]) for name in ("minutes_of_two_idle_cores", "with_spikingjelly"))
        accuracy, colour = means[key], colours[track]
        if isfinite(slower):
            axes.plot([minutes, slower], [accuracy, accuracy], ":", color=colour, linewidth=1)
            axes.plot(slower, accuracy, "o", color=colour, fillstyle="none")
        axes.plot(minutes, accuracy, "o", color=colour)
        place: dict[str, Any] = {"xy": (slower if isfinite(slower) else minutes, accuracy), "xytext": (6, -3)}
        # The name of a network just below another goes to its left or, without room there, below it.
        if above - accuracy < 0.3 and minutes > 35:
            place = {"xy": (minutes, accuracy), "xytext": (-6, -3), "horizontalalignment": "right"}
        elif above - accuracy < 0.3:
            place["xytext"] = (6, -12)
        axes.annotate(f"{network}, {epochs:g} epochs", **place, textcoords="offset points", fontsize="x-small")
        above = accuracy
    for track, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=track)
    axes.plot([], [], "o", color="grey", fillstyle="none", label="with SpikingJelly's neurons")
    axes.set_xlim(0, 1.35 * axes.get_xlim()[1])
    axes.set_xlabel("minutes of two idle cores")
    axes.set_ylabel("test accuracy after the last epoch, %")
    finish_axes(axes, legend=True)
    save_figure(figure, picture)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    changes = commands.add_parser("changes", help="train, and write a table of differences")
    changes.add_argument("data", type=Path, help="archive of images")
    changes.add_argument("out", type=Path, help="folder for the runs and the table")
    changes.add_argument("--rows", nargs="+", choices=ROWS, default=[name for name in ROWS if name != "teacher"])
    changes.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    changes.add_argument("--teacher", type=Path, help="numpy file of a teacher's probabilities, for the row teacher")
    changes.add_argument("--threads", type=int, help="CPU threads; all cores by default")
    minutes = commands.add_parser("minutes", help="print the minutes of a recipe's steps, with both libraries' neurons")
    minutes.add_argument("data", type=Path, help="archive of images")
    minutes.add_argument("--recipe", default="cifar10-small")
    minutes.add_argument("entries", nargs="*", metavar="ENTRY=VALUE", help="entries of the recipe")
    picture = commands.add_parser("picture", help="draw accuracy against minutes")
    picture.add_argument("records", type=Path, help="docs/results/speedrun.csv or a table like it")
    picture.add_argument("picture", type=Path, help="file to write, .png or .svg")
    options = parser.parse_args(arguments)
    if options.command == "changes" and "teacher" in options.rows and options.teacher is None:
        parser.error("the row teacher needs --teacher FILE.npy")
    try:
        if options.command == "picture":
            draw(options.records, options.picture)
        elif options.command == "minutes":
            print_minutes(options)
        else:
            run_changes(options)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
