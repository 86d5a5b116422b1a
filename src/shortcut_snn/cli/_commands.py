"""The commands and their options, apart from the modules that do the work: help need not import torch or Lightning."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ._terminal import add_imports, count, fraction

METHODS = ("vanilla", "evolutionary", "loss_sum", "initialised")
"""The methods that ``compare`` trains by default; the first is the baseline."""


@dataclass(frozen=True)
class Command:
    """A command. The module of the same name has its ``run(options)``, which returns the exit status.

    Args:
        summary: a line for the list of commands.
        description: the first paragraph of its help.
        add_options: adds its own options to a parser.
        source: ``"recipe"`` if its options include those of a recipe, ``"run"`` if it takes the folder of a run.
    """

    summary: str
    description: str
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    source: Literal["recipe", "run"] | None = None


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="folder of the run; created")
    parser.add_argument("--resume", action="store_true", help="continue the folder's run where it was interrupted")
    parser.add_argument(
        "--start-from", metavar="RUN", help="start with the weights of this run, as training.start_from"
    )


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", default="test", choices=["test", "validation"], help="part of the data")


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "network",
        help="a name such as digits-resnet18, a file or the folder of a run or an export, or owner/name on the hub",
    )
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="a file, or a folder of files")
    parser.add_argument("--top", type=count, default=1, metavar="K", help="print the K most likely classes")
    parser.add_argument("--json", action="store_true", help="print a JSON list with an object for each file")
    add_imports(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="folder of the comparison; created")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), metavar="PRESET",
        help="presets or files to compare; the first is the baseline. Each may carry entries: --methods vanilla "
        "'evolutionary method.branches.taps=blocks'",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from training.seed on")
    parser.add_argument(
        "--grid", action="append", default=[], metavar="KEY=A,B",
        help="an entry of the recipe to vary as well, as in optimizer.lr=0.003,0.01; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--tune", action="append", default=[], metavar="KEY=A,B",
        help="an entry that is first tuned for each method, on validation data and with one seed, as "
        "in optimizer.lr=0.03,0.1,0.3; repeatable",
    )  # fmt: skip
    parser.add_argument("--tune-epochs", type=int, default=None, help="epochs of the runs that tune, one seed each")
    parser.add_argument("--jobs", type=count, default=1, help="runs at the same time")


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="folder of a run or a comparison")
    parser.add_argument("--out", default=None, help="the page; default: report.html in the folder")


def _energy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=count, default=256, help="test samples to count on, drawn with a fixed seed")


def _anytime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--drop", type=fraction, default=0.005, help="permitted loss of accuracy, as a fraction")
    parser.add_argument(
        "--measure", default="confidence", choices=["confidence", "gap", "entropy"], help="how certainty is measured"
    )
    parser.add_argument("--samples", type=count, default=256, help="test samples for energy and time")


def _gradients(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="folder for the tables and the figure")
    parser.add_argument("--run", default=None, help="use the recipe and the trained network of this run")
    parser.add_argument("--batches", type=count, default=2, help="batches on which a remedy has to help")


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="FORMAT", help="format, listed by 'shortcut-snn components exporter'")
    parser.add_argument("--out", default=None, help="folder for the file and its card; default: RUN/export")
    parser.add_argument(
        "--streaming",
        action="store_true",
        help="one time step, with membrane potentials as inputs (onnx, torch-export)",
    )
    parser.add_argument("--images", type=count, default=256, help="test images to verify the file on")
    parser.add_argument("--half", action="store_true", help="float16 weights (safetensors)")
    parser.add_argument("--int8", action="store_true", help="int8 weights (onnx)")
    parser.add_argument("--bits", type=int, default=None, help="bits of a weight, 2 to 8 (integer, c)")
    parser.add_argument("--licence", default=None, help="for the card: licence of the weights, as in apache-2.0")
    parser.add_argument("--data-name", default=None, help="for the card: the data set; default: the recipe's name")
    parser.add_argument("--data-licence", default=None, help="for the card: licence of the data set")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="runs/demo", help="folder of the demo; created")
    parser.add_argument("--epochs", type=count, help="epochs; default: the recipe's")


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU if there is one")


def _components(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", default=None, help="list one kind only, such as network or surrogate")
    add_imports(parser)


COMMANDS: dict[str, Command] = {
    "train": Command("train a network", "Train the network of a recipe.", _train, "recipe"),
    "evaluate": Command(
        "test a trained network again", "Test the network of a run on the run's data.", _evaluate, "run"
    ),
    "predict": Command(
        "classify images or event recordings",
        "Classify images or event recordings, preprocessed as the training data was. A file that cannot be read is "
        "reported on stderr; the exit status is then 1.",
        _predict,
    ),
    "compare": Command(
        "compare methods over seeds",
        "Train several methods over several seeds and compare them. The same command resumes a comparison that was "
        "interrupted, and trains nothing twice.",
        _compare,
        "recipe",
    ),
    "report": Command(
        "write an HTML page of a run or a comparison",
        "Write one HTML page of a run or a comparison. The page contains its figures and opens from disk.",
        _report,
    ),
    "gradients": Command(
        "find vanishing or exploding gradients, and remedies",
        "Measure firing rate and gradient of each layer on a few batches, and print remedies, each measured on the "
        "network itself.",
        _gradients,
        "recipe",
    ),
    "energy": Command(
        "operations and energy of a trained network",
        "Count the accumulates (AC) and multiply-accumulates (MAC) of an inference and estimate their energy in 45 nm, "
        "next to the same network with ReLUs. With memory traffic, compare with a quantised network.",
        _energy,
        "run",
    ),
    "anytime": Command(
        "let certain samples leave a network early",
        "Set thresholds at the time steps and kept branches of a run's network, on the run's validation data, so that "
        "each sample leaves as soon as the network is certain. Print what that saves on the test data, and store the "
        "thresholds with the network.",
        _anytime,
        "run",
    ),
    "export": Command(
        "export a trained network",
        "Export the network of a run, batch norms folded into convolutions. The file is run on test images; it is "
        "deleted if its outputs differ from the network's.",
        _export,
        "run",
    ),
    "doctor": Command(
        "check this machine: kernels, speed, and what is missing",
        "Run every kernel on examples and compare it with plain PyTorch, time a neuron layer and a training step, and "
        "print warnings with their remedies. It ends with a block to paste into an issue.",
        _doctor,
    ),
    "recipes": Command("list the built-in recipes and presets", "List the built-in recipes and presets."),
    "components": Command("list what a recipe can name", "List the components that a recipe can name.", _components),
    "demo": Command(
        "train a deep network in three ways, in two minutes",
        "Train a spiking ResNet-34 with basic blocks on scikit-learn's digits three times: as usual, with the paper's "
        "branches (preset evolutionary), and with the preset initialised (norms and surrogates set so that every block "
        "passes on its input and its gradient).",
        _demo,
    ),
}
