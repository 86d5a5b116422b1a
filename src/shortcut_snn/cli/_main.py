"""The command ``shortcut-snn``: which command a person typed, and errors as a line."""

import ast
import importlib
import importlib.util
import os
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .. import __version__
from ..components import suggestion
from ..machine import TooLarge
from ._output import give_up, prepare
from ._parser import STOPPED, Parser, UsageError

TOO_BIG = "there is not enough memory; try a smaller data.batch_size, network.width, network.time_steps or image"
START = "Start with: shortcut-snn train --config digits --out runs/digits"
EXTRA = "the command needs more than the library: pip install 'shortcut-snn[train]'"


def commands() -> list[str]:
    """Return the commands: one file each in this folder, but those that begin with an underscore."""
    folder = importlib.import_module(str(__package__)).__path__
    return [each.name for each in pkgutil.iter_modules(folder) if not each.name.startswith("_")]


def _help_of(command: str) -> str:
    """Return what its module says in a word, read and not run: with it comes all that trains."""
    found = importlib.util.find_spec(f".{command}", __package__)
    assert found is not None
    assert found.origin is not None
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    said = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    return str(ast.literal_eval(said["HELP"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 1 for an error of the run, 2 for one of the arguments."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    prepare()
    try:
        try:
            _stand()
            status = _run(given)
            # What waits to be printed fails here, not when Python ends.
            sys.stdout.flush()
            return status
        except (UsageError, TooLarge) as error:
            return _fail(_one_line(error), 2)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("shortcut_snn"):
                raise
            return _fail(f"{error.name} is not installed; {_remedy(error)}", 1)
        except RecursionError:
            if "--traceback" in given:
                raise
            return _fail("something that was given is nested too deep", 2)
        except (ValueError, OSError) as error:
            if "--traceback" in given or isinstance(error, BrokenPipeError):
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
        give_up()
    return 0


def _stand() -> None:
    """Make sure that there is a current folder: libraries end the process where there is none.

    Raises:
        OSError: it has been removed.
    """
    try:
        os.getcwd()
    except OSError:
        raise OSError("the current folder is gone: change to another one (cd) first") from None


def _run(given: list[str]) -> int:
    known = commands()
    chosen = next((word for word in given if not word.startswith("-")), None)
    if not given:
        raise UsageError(f"say what to do: one of {', '.join(known)}. {START}")
    if chosen is not None and chosen not in known:
        raise UsageError(f"no command {chosen!r}{suggestion(chosen, known)}: use one of {', '.join(known)}")
    parser = Parser(
        prog="shortcut-snn",
        description="Train deep spiking neural networks with shortcut back-propagation and evolutionary training.",
        epilog=START,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands", dest="command")
    # Only what was asked for is imported.
    if chosen is None:
        for name in known:
            subparsers.add_parser(name, help=_help_of(name))
        parser.parse_args(given)
        raise AssertionError("argparse ends where a command is missing")
    module = importlib.import_module(f".{chosen}", __package__)
    made = subparsers.add_parser(chosen, help=module.HELP, description=module.DESCRIPTION, allow_abbrev=False)
    made.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    module.arguments(made)
    recipe, run = (getattr(module, flag, False) for flag in ("RECIPE", "RUN"))
    if recipe or run:
        from . import _options

        return (_options.run if recipe else _options.run_on_run)(module, parser, made, given)
    status: int = module.run(parser.parse_args(given))
    return status


def _fail(message: str, status: int) -> int:
    with suppress(OSError, ValueError):
        print(f"shortcut-snn: error: {message}", file=sys.stderr)
    return status


def _remedy(error: ModuleNotFoundError) -> str:
    """What to install: of what a file of a person's own imports nobody knows but the person."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
    known = (Path(__file__).parents[1], *map(Path, sysconfig.get_paths().values()))
    own = files and not any(Path(files[-1]).is_relative_to(place) for place in known)
    return f"{files[-1]} imports it: install it" if own else EXTRA


def _is_out_of_memory(error: BaseException) -> bool:
    # On the CPU torch has no class of its own for it.
    said = str(error)
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
