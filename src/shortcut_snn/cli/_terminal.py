"""The terminal: argument parsing, and printing in a way that a closed terminal or pipe never ends a run."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NoReturn

from .._utils.markdown import printable, shortened


def prepare_streams() -> None:
    """Make sure that stdout and stderr exist and accept every character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            # As in a service that has closed them.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (until the process ends)
        elif hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def print_line(line: str) -> None:
    """Print a line. If the output is closed, report that once on stderr and discard further output."""
    try:
        print(printable(line, keep="\n\t"), flush=True)
    except (OSError, ValueError) as error:
        discard("stdout")
        print_on_stderr(f"error: cannot print ({getattr(error, 'strerror', None) or error}); continuing without output")


def print_on_stderr(message: str) -> None:
    """Print a line of the command on stderr, if anybody still reads it. Words of over 400 characters are cut."""
    try:
        print(f"{PROGRAM}{shortened(printable(message))}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard("stderr")


def loading() -> AbstractContextManager[None]:
    """Tell a terminal, during the block, that PyTorch loads, unless it is loaded already."""
    return nullcontext() if "torch" in sys.modules else waiting("loading PyTorch")


@contextmanager
def waiting(reason: str) -> Iterator[None]:
    """Tell a terminal, during the block, what takes long while there is nothing else to print."""
    shown = False
    with suppress(OSError, ValueError):
        shown = sys.stderr.isatty()
    if not shown:
        yield
        return
    sys.stderr.write(f"{PROGRAM}{reason} ...")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r\x1b[K")


def one_line(error: BaseException) -> str:
    """Return an error's message in one line, or the name of its class if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def discard(name: str) -> None:
    """Redirect a standard stream, with what is still buffered, to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, getattr(sys, name).fileno())
    except (OSError, ValueError):
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (until the process ends)
    finally:
        os.close(nowhere)


PROGRAM = "shortcut-snn: "
STOPPED = "the same command (train: with --resume) resumes it"


class UsageError(ValueError):
    """Invalid command-line arguments."""


@contextmanager
def usage_errors(prefix: str = "") -> Iterator[None]:
    """Turn errors about values into errors about arguments, within the block."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{prefix}{error}") from error


Option = tuple[tuple[str, ...], dict[str, Any]]
"""The arguments of :meth:`argparse.ArgumentParser.add_argument`."""


def option(*names: str, **settings: Any) -> Option:
    """Return an option of a command."""
    return names, settings


class Parser(argparse.ArgumentParser):
    """An argument parser that raises :class:`UsageError` instead of ending the process."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)  # type: ignore[arg-type]

    def add_options(self, options: Iterable[Option]) -> None:
        """Add options of a command."""
        for names, settings in options:
            self.add_argument(*names, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise an error of argparse."""
        raise UsageError(message)


def default_of(action: argparse.Action) -> str | None:
    """Return the default of an option as it is typed, or None for a flag and an option that is off by default."""
    if action.default in (None, False, [], argparse.SUPPRESS):
        return None
    return " ".join(action.default) if isinstance(action.default, list) else str(action.default)


class _Formatter(argparse.HelpFormatter):
    """Show the defaults of options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)
        # Argparse forgets the indentation of commands when it aligns their help.
        self._action_max_length = 14

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = default_of(action)
        return action.help if default is None else f"{action.help} (default: {default})"


def count(text: str) -> int:
    """Return the value of an option that counts something: an integer from 1 on."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def fraction(text: str) -> float:
    """Return the value of an option that is a share between 0 and 1."""
    if not 0 < (number := float(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {number}")
    return number
