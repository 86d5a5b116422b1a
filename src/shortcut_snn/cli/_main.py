"""The entry point of ``shortcut-snn``: parse the command line, run the command, print errors as one line."""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata

from .. import __version__
from ..components.registry import suggestion
from ._commands import COMMANDS, RECIPE_EPILOG, SHARED_OPTIONS, TRACEBACK
from ._recipe_options import parse_with_recipe, parse_with_run
from ._terminal import (
    STOPPED,
    Parser,
    UsageError,
    discard,
    loading,
    one_line,
    prepare_streams,
    print_on_stderr,
)

OUT_OF_MEMORY = "not enough memory: reduce data.batch_size, network.width, network.time_steps or the image size"
START = "Start with: shortcut-snn train --config digits --out runs/digits"
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
"""The packages of modules that have another name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 for an error of the run, 2 for invalid arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    # Lightning imports onnxruntime where there is one. It and huggingface_hub report to their makers otherwise.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    show_traceback = "--traceback" in words
    try:
        status = _run(words)
        # A failure to print should be reported here, not when Python exits.
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print_on_stderr(f"interrupted; {STOPPED}")
        return 130
    except BrokenPipeError:
        # The reader of the output has ended, as in `| head`. That is not an error.
        discard("stdout")
        return 0
    except UsageError as error:
        if show_traceback and error.__cause__:
            traceback.print_exc()
        print_on_stderr(f"error: {one_line(error)}")
        return 2
    except Exception as error:
        message = None if show_traceback else _explain(error)
        if message is None:
            raise
        print_on_stderr(f"error: {message}")
        return 1


def _explain(error: Exception) -> str | None:
    """Return an error that a user can cause as one line; None for any other."""
    if isinstance(error, ModuleNotFoundError):
        is_own = (error.name or "").startswith("shortcut_snn")
        return None if is_own else f"{error.name} is not installed: {_how_to_install(error)}"
    text = one_line(error)
    # On a CPU torch raises a plain RuntimeError, and oneDNN one that does not speak of memory.
    phrases = ("out of memory", "can't allocate memory", "could not create a primitive")
    if isinstance(error, MemoryError) or any(phrase in str(error) for phrase in phrases):
        return f"{OUT_OF_MEMORY} ({text[:200]})"
    if package := _broken_package(error):
        return f"{package} cannot be imported ({text[:200]}): install it again"
    if (tracker := type(error).__module__.partition(".")[0]) in ("mlflow", "wandb"):
        return f"{tracker}: {text[:200]}"
    return text if isinstance(error, ValueError | OSError | ImportError) else None


def _run(words: list[str]) -> int:
    # A shell expands ~ where a word begins with it, not in --out=~/runs.
    words = [f"--out={os.path.expanduser(word[6:])}" if word.startswith("--out=~") else word for word in words]
    name = next((word for word in words if not word.startswith("-")), None)
    if not words:
        raise UsageError(f"name a command: {', '.join(COMMANDS)}. {START}")
    if name is not None and name not in COMMANDS:
        raise UsageError(f"no command {name!r}{suggestion(name, COMMANDS)}: use one of {', '.join(COMMANDS)}")
    parser = Parser(
        prog="shortcut-snn",
        description="Train deep spiking neural networks: measured initialisation, shortcut back-propagation and "
        "evolutionary training.",
        epilog=START,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands", dest="command")
    for each, command in COMMANDS.items():
        epilog = RECIPE_EPILOG if command.source == "recipe" else None
        subparser = subparsers.add_parser(each, help=command.summary, description=command.description, epilog=epilog)
        subparser.add_options([*command.options, TRACEBACK, *SHARED_OPTIONS.get(command.source, ())])
    options: object
    source = COMMANDS[name].source if name else ""
    if name and source == "recipe":
        options = parse_with_recipe(parser, subparsers.choices[name], words)
        if options is None:
            return 0
    elif source == "run":
        options = parse_with_run(parser, words)
    else:
        # It exits if the command is missing.
        options = parser.parse_args(words)
    # As "$FOLDER" is in a shell that has no such variable; it would be the current folder, or no folder.
    for folder in ("out", "start_from"):
        if getattr(options, folder, None) == "":
            raise UsageError(f"--{folder.replace('_', '-')} is empty: name a folder")
    with loading():
        module = importlib.import_module(f".{name}", __package__)
    status: int = module.run(options)
    return status


def _how_to_install(error: ModuleNotFoundError) -> str:
    """Return the command that installs a missing package, as an extra of this package if it is one."""
    module = str(error.name).partition(".")[0]
    package = DISTRIBUTIONS.get(module, module).replace("_", "-")
    with suppress(metadata.PackageNotFoundError):
        for requirement in metadata.requires("shortcut-snn") or ():
            match = re.match(r"([\w-]+).*extra == .(\w+)", requirement)
            if match and match[1].lower() == package and match[2] not in ("dev", "docs"):
                return f"pip install 'shortcut-snn[{match[2]}]'"
    return f"pip install {package}"


def _broken_package(error: BaseException) -> str:
    """Return the name of the foreign package whose own import raised an error; an empty string for other errors."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>"]
    names = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame in frames]
    return next((name for name in reversed(names) if name not in ("shortcut_snn", "__main__")), "")
