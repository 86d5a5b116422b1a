"""The commands and their options, apart from the modules that do the work: help need not import torch or Lightning."""

from collections.abc import Sequence

from ._terminal import Option, count, fraction, option

METHODS = ("vanilla", "evolutionary", "loss_sum", "initialised")
"""The methods that ``compare`` trains by default; the first is the baseline."""
SECTIONS = ("data", "network", "neuron", "task", "method", "optimizer", "lr_schedule", "training", "loggers")
"""The sections of a recipe, spelled out so that help does not import them."""
RECIPE_EPILOG = (
    "Use --help-recipe SECTION to list entries of the recipe. They are options too, as in --network.width 32. "
    f"Sections: {', '.join(SECTIONS)}."
)
IMPORT = option(
    "--import", dest="imports", action="append", default=[], metavar="FILE",
    help="a Python file or module that registers custom components; repeatable",
)  # fmt: skip
TRACEBACK = option("--traceback", action="store_true", help="show the traceback of an error")
SHARED_OPTIONS: dict[str, Sequence[Option]] = {
    "recipe": [
        option(
            "--config", "--preset", dest="layers", action="append", default=[], metavar="NAME",
            help="a built-in recipe, a preset, or a YAML file; repeatable, later ones override earlier ones",
        ),
        IMPORT,
        option("--print-recipe", action="store_true", help="print the complete recipe and exit"),
        option(
            "--help-recipe", metavar="SECTION", choices=SECTIONS,
            help="describe the entries of a section of the recipe and exit",
        ),
    ],
    "run": [
        option("run", help="folder of a run"),
        option("--weights", default="last", choices=["last", "best"], help="epoch of the weights"),
        option(
            "--set", action="append", default=[], metavar="KEY=VALUE",
            help="change an entry of the run's recipe, as in data.root=FOLDER; repeatable",
        ),
        IMPORT,
    ],
}  # fmt: skip
"""By the source of a command."""


class Command:
    """A command. The module of the same name has its ``run(options)``, which returns the exit status.

    Args:
        summary: a line for the list of commands.
        description: the first paragraph of its help.
        options: its own options.
        source: ``"recipe"`` if it also takes the options of a recipe, ``"run"`` if it takes the folder of a run.
    """

    def __init__(self, summary: str, description: str, *options: Option, source: str = "") -> None:
        self.summary, self.description, self.options, self.source = summary, description, options, source


COMMANDS: dict[str, Command] = {
    "train": Command(
        "train a network",
        "Train the network of a recipe.",
        option("--out", required=True, help="folder of the run; created"),
        option("--resume", action="store_true", help="continue the folder's run where it was interrupted"),
        option("--start-from", metavar="RUN", help="start with the weights of this run, as training.start_from"),
        source="recipe",
    ),
    "evaluate": Command(
        "test a trained network again",
        "Test the network of a run on the run's data.",
        option("--split", default="test", choices=["test", "validation"], help="part of the data"),
        source="run",
    ),
    "predict": Command(
        "classify images or event recordings",
        "Classify images or event recordings, preprocessed as the training data was. A file that cannot be read is "
        "reported on stderr; the exit status is then 1.",
        option(
            "network",
            help="a name such as digits-resnet18, a file or the folder of a run or an export, or owner/name on "
            "the hub",
        ),
        option("inputs", nargs="+", metavar="FILE", help="a file, or a folder of files"),
        option("--top", type=count, default=1, metavar="K", help="print the K most likely classes"),
        option("--json", action="store_true", help="print a JSON list with an object for each file"),
        IMPORT,
    ),
    "compare": Command(
        "compare methods over seeds",
        "Train several methods over several seeds and compare them. The same command resumes a comparison that was "
        "interrupted, and trains nothing twice.",
        option("--out", required=True, help="folder of the comparison; created"),
        option(
            "--methods", nargs="+", default=list(METHODS), metavar="PRESET",
            help="presets or files to compare; the first is the baseline. Each may carry entries: "
            "--methods vanilla 'evolutionary method.branches.taps=blocks'",
        ),
        option("--seeds", type=int, default=3, help="number of seeds, from training.seed on"),
        option(
            "--grid", action="append", default=[], metavar="KEY=A,B",
            help="an entry of the recipe to vary as well, as in optimizer.lr=0.003,0.01; repeatable",
        ),
        option(
            "--tune", action="append", default=[], metavar="KEY=A,B",
            help="an entry that is first tuned for each method, on validation data and with one seed, as in "
            "optimizer.lr=0.03,0.1,0.3; repeatable",
        ),
        option("--tune-epochs", type=int, help="epochs of the runs that tune, one seed each"),
        option("--jobs", type=count, default=1, help="runs at the same time"),
        source="recipe",
    ),
    "report": Command(
        "write an HTML page of a run or a comparison",
        "Write one HTML page of a run or a comparison. The page contains its figures and opens from disk.",
        option("folder", help="folder of a run or a comparison"),
        option("--out", help="the page; default: report.html in the folder"),
    ),
    "gradients": Command(
        "find vanishing or exploding gradients, and remedies",
        "Measure firing rate and gradient of each layer on a few batches, and print remedies, each measured on the "
        "network itself.",
        option("--out", required=True, help="folder for the tables and the figure"),
        option("--run", help="use the recipe and the trained network of this run"),
        option("--batches", type=count, default=2, help="batches on which a remedy has to help"),
        source="recipe",
    ),
    "energy": Command(
        "operations and energy of a trained network",
        "Count the accumulates (AC) and multiply-accumulates (MAC) of an inference and estimate their energy in 45 nm, "
        "next to the same network with ReLUs. With memory traffic, compare with a quantised network.",
        option("--samples", type=count, default=256, help="test samples to count on, drawn with a fixed seed"),
        source="run",
    ),
    "anytime": Command(
        "let certain samples leave a network early",
        "Set thresholds at the time steps and kept branches of a run's network, on the run's validation data, so that "
        "each sample leaves as soon as the network is certain. Print what that saves on the test data, and store the "
        "thresholds with the network.",
        option("--drop", type=fraction, default=0.005, help="permitted loss of accuracy, as a fraction"),
        option(
            "--measure", default="confidence", choices=["confidence", "gap", "entropy"],
            help="how certainty is measured",
        ),
        option("--samples", type=count, default=256, help="test samples for energy and time"),
        source="run",
    ),
    "export": Command(
        "export a trained network",
        "Export the network of a run, batch norms folded into convolutions. The file is run on test images; it is "
        "deleted if its outputs differ from the network's.",
        option("--to", metavar="FORMAT", help="format, listed by 'shortcut-snn components exporter'"),
        option("--out", help="folder for the file and its card; default: RUN/export"),
        option(
            "--streaming", action="store_true",
            help="one time step, with membrane potentials as inputs (onnx, torch-export)",
        ),
        option("--images", type=count, default=256, help="test images to verify the file on"),
        option("--half", action="store_true", help="float16 weights (safetensors)"),
        option("--int8", action="store_true", help="int8 weights (onnx)"),
        option("--bits", type=int, help="bits of a weight, 2 to 8 (integer, c)"),
        option("--licence", help="for the card: licence of the weights, as in apache-2.0"),
        option("--data-name", help="for the card: the data set; default: the recipe's name"),
        option("--data-licence", help="for the card: licence of the data set"),
        source="run",
    ),
    "doctor": Command(
        "check this machine: kernels, speed, and what is missing",
        "Run every kernel on examples and compare it with plain PyTorch, time a neuron layer and a training step, and "
        "print warnings with their remedies. It ends with a block to paste into an issue.",
        option("--device", choices=["cpu", "cuda"], help="default: a GPU if there is one"),
    ),
    "recipes": Command("list the built-in recipes and presets", "List the built-in recipes and presets."),
    "components": Command(
        "list what a recipe can name",
        "List the components that a recipe can name.",
        option("kind", nargs="?", help="list one kind only, such as network or surrogate"), IMPORT,
    ),
    "demo": Command(
        "train a deep network in three ways, in two minutes",
        "Train a spiking ResNet-34 with basic blocks on scikit-learn's digits three times: as usual, with the paper's "
        "branches (preset evolutionary), and with the preset initialised (norms and surrogates set so that every block "
        "passes on its input and its gradient).",
        option("--out", default="runs/demo", help="folder of the demo; created"),
        option("--epochs", type=count, help="epochs; default: the recipe's"),
    ),
}  # fmt: skip
