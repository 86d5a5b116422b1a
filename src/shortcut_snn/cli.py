"""The command ``shortcut-snn``: what a person types, checked before anything heavy is imported."""

import os
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from . import __version__

STOPPED = "the same command (train: with --resume) goes on where it stopped"
TOO_BIG = "there is not enough memory; try a smaller data.batch_size, network.width, network.time_steps or image"
EXTRA = "the command needs more than the library: pip install 'shortcut-snn[train]'"


def built_in_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    folder = Path(str(resources.files("shortcut_snn") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _recipe_path(given: str) -> str:
    """Let a built-in recipe be named without its path."""
    known = built_in_recipes()
    if given in known:
        return str(known[given])
    if not Path(given).is_file():
        raise ValueError(f"no recipe {given!r}: give a YAML file or one of {', '.join(known)}")
    from .training.recipe_io import read_entries

    read_entries(Path(given))
    return given


def _parser() -> Any:
    from jsonargparse import ArgumentParser

    from .training.recipe import Recipe

    def sub(description: str, recipe: bool) -> Any:
        parser = ArgumentParser(description=description, exit_on_error=False)
        parser.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
        if recipe:
            parser.add_argument(
                "--config", action="config", help="a recipe: a YAML file, or the name of a built-in one"
            )
            parser.add_class_arguments(Recipe)
        return parser

    main = ArgumentParser(
        prog="shortcut-snn",
        version=__version__,
        exit_on_error=False,
        description="Train deep spiking neural networks with shortcut back-propagation and evolutionary training.",
        epilog="Start with: shortcut-snn train --config digits --out runs/digits",
    )
    commands = main.add_subcommands(required=True, metavar="COMMAND", title="commands")

    train = sub("Train a network as a recipe says; options after the recipe change it.", recipe=True)
    train.add_argument("--out", type=str, required=True, help="folder of the run; created")
    train.add_argument("--resume", action="store_true", help="go on with the folder's run where it was interrupted")
    commands.add_subcommand("train", train, help="train a network")

    compare = sub(
        "Train several methods over several seeds and compare them. Finished runs are skipped and interrupted ones "
        "go on when the same command is given again.",
        recipe=True,
    )
    compare.add_argument("--out", type=str, required=True, help="folder of the comparison; created")
    compare.add_argument(
        "--methods",
        type=str,
        default="vanilla,shortcut,evolutionary,calibrated",
        help="methods to compare, with commas between (see --method.name for all); one may carry entries: "
        "evolutionary:taps=blocks:initial=0.5",
    )
    compare.add_argument("--seeds", type=int, default=3, help="how many seeds, from train.seed on")
    compare.add_argument(
        "--grid",
        type=str,
        action="append",
        default=[],
        metavar="KEY=A,B",
        help="an entry of the recipe to vary too, as in method.taps=stages,blocks; may be given several times",
    )
    compare.add_argument("--jobs", type=int, default=1, help="runs at the same time; they share the CPU threads")
    commands.add_subcommand("compare", compare, help="compare methods over seeds")

    gradients = sub(
        "Look at each layer on a few batches: does it fire, does its gradient vanish or explode, and what helps? "
        "Each tip has been measured on the network itself.",
        recipe=True,
    )
    gradients.add_argument("--out", type=str, required=True, help="folder for the tables and the picture")
    gradients.add_argument(
        "--run", type=str, default=None, help="take the trained network of this run instead of a new one"
    )
    gradients.add_argument("--batches", type=int, default=2, help="how many batches; a tip has to help on all of them")
    commands.add_subcommand("gradients", gradients, help="look at every layer: does its gradient vanish or explode?")

    evaluate = sub("Test a trained network again, from its run's folder.", recipe=False)
    evaluate.add_argument("run", type=str, help="folder of a run")
    evaluate.add_argument("--weights", type=str, default="last", choices=["last", "best"], help="after which epoch")
    evaluate.add_argument("--split", type=str, default="test", choices=["test", "validation"], help="which images")
    commands.add_subcommand("evaluate", evaluate, help="test a trained network again")

    export = sub(
        "Export a run's network for use elsewhere: batch norms folded into convolutions, the file loaded back and "
        "compared with the network on the run's test images. What differs is refused.",
        recipe=False,
    )
    export.add_argument("run", type=str, help="folder of a run")
    export.add_argument(
        "--to",
        type=str,
        required=True,
        choices=["safetensors", "onnx", "nir", "torch-export"],
        help="safetensors (for this library, without training code), onnx, nir or torch-export",
    )
    export.add_argument("--out", type=str, default=None, help="folder for the file and its card; default: RUN/export")
    export.add_argument(
        "--streaming", action="store_true", help="one time step; membrane potentials are inputs and outputs"
    )
    export.add_argument("--weights", type=str, default="last", choices=["last", "best"], help="after which epoch")
    export.add_argument("--images", type=int, default=256, help="how many test images are compared")
    export.add_argument("--name", type=str, default=None, help="of the network on its card; default: the run's")
    commands.add_subcommand("export", export, help="export a trained network")

    energy = sub(
        "Count additions and multiplications of an inference from a run's spikes, and their energy in 45 nm, against "
        "the same network with ReLUs.",
        recipe=False,
    )
    energy.add_argument("run", type=str, help="folder of a run; energy.csv goes there")
    energy.add_argument("--weights", type=str, default="last", choices=["last", "best"], help="after which epoch")
    energy.add_argument("--batches", type=int, default=4, help="test batches to count on")
    commands.add_subcommand("energy", energy, help="operations and energy of a trained network")

    report = sub(
        "Write one HTML page on a run or a comparison, with all its pictures in it: it opens from disk in any browser.",
        recipe=False,
    )
    report.add_argument("folder", type=str, help="folder of a run or a comparison")
    report.add_argument("--out", type=str, default=None, help="the page; report.html in the folder by default")
    commands.add_subcommand("report", report, help="write an HTML page on a run or a comparison")

    commands.add_subcommand(
        "recipes", sub("List the built-in recipes.", recipe=False), help="list the built-in recipes"
    )
    return main


def _named_recipes(arguments: Sequence[str]) -> list[str]:
    """Replace the names of built-in recipes after ``--config`` by their paths."""
    out = list(arguments)
    for place, argument in enumerate(out):
        if argument == "--config" and place + 1 < len(out):
            out[place + 1] = _recipe_path(out[place + 1])
        elif argument.startswith("--config="):
            out[place] = "--config=" + _recipe_path(argument.removeprefix("--config="))
    return out


def _run(parser: Any, parsed: Any) -> int:
    name = parsed.subcommand
    options = parser.instantiate(parsed)[name]
    if name == "recipes":
        from .training.recipe_list import NOTE, recipe_table

        print(f"{recipe_table(built_in_recipes())}\n\n{NOTE}")
        return 0
    if name == "evaluate":
        from .training.evaluate import evaluate

        evaluate(Path(options.run), options.weights, options.split)
        return 0
    if name == "energy":
        from .training.energy import energy

        energy(Path(options.run), options.weights, options.batches)
        return 0
    if name == "report":
        from .commands import report

        return int(report.run(options))
    if name == "export":
        from .training.export import export

        out = Path(options.out) if options.out else None
        export(
            Path(options.run),
            options.to,
            out,
            streaming=options.streaming,
            weights=options.weights,
            images=options.images,
            name=options.name,
        )
        return 0

    from .training.recipe_io import from_namespace

    # Of what methods to compare have in common each takes what makes a difference to it; then it is checked.
    recipe = from_namespace(options, check=name != "compare")
    folder = Path(options.out)
    if name == "train":
        from .training.interruption import Interrupted
        from .training.run import train

        try:
            train(recipe, folder, options.resume)
        except Interrupted as interrupted:
            return _fail(f"{interrupted}; {STOPPED}", interrupted.status) if interrupted.speaks else 0
    elif name == "compare":
        from .training.compare import Plan, compare

        compare(Plan.parse(recipe, options.methods, options.seeds, options.grid), folder, options.jobs)
    else:
        from .training.diagnose import diagnose

        diagnose(recipe, folder, Path(options.run) if options.run else None, options.batches)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 1 for an error of the run, 2 for one of the arguments."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            from jsonargparse import ArgumentError
        except ModuleNotFoundError:
            return _fail(EXTRA, 2)
        try:
            parser = _parser()
            parsed = parser.parse_args(_named_recipes(given))
        except (ArgumentError, ValueError, TypeError, OSError, RecursionError) as error:
            return _fail(_one_line(error), 2)
        try:
            return _run(parser, parsed)
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("shortcut_snn"):
                raise
            return _fail(f"{error.name} is not installed; {EXTRA}", 1)
        except (ValueError, OSError) as error:
            if "--traceback" in given:
                raise
            return _fail(_one_line(error), 1)
        except (MemoryError, RuntimeError) as error:
            if "--traceback" in given or not _is_out_of_memory(error):
                raise
            return _fail(f"{TOO_BIG} ({_one_line(error)[:200]})", 1)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {STOPPED}", 130)
    except BrokenPipeError:
        # The reader of our output left (`| head`): not an error. Keep Python from flushing into the void.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(message: str, status: int) -> int:
    print(f"shortcut-snn: error: {message}", file=sys.stderr)
    return status


def _is_out_of_memory(error: BaseException) -> bool:
    # On the CPU torch has no class of its own for it.
    said = str(error)
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
