"""What is said on a command line, and what is wrong with it."""

import argparse
import shlex
from typing import NoReturn

STOPPED = "the same command (train: with --resume) goes on where it stopped"


class UsageError(ValueError):
    """Arguments that make no sense."""


class Parser(argparse.ArgumentParser):
    """A parser that raises what is wrong, for one line of it."""

    def error(self, message: str) -> NoReturn:
        """Raise.

        Raises:
            UsageError: always.
        """
        raise UsageError(message)


def at_least_one(options: argparse.Namespace, name: str) -> None:
    """Refuse a count below 1.

    Raises:
        UsageError: the option of this name is one.
    """
    if (given := getattr(options, name)) < 1:
        raise UsageError(f"--{name} must be at least 1, got {given}")


def words(option: str, text: str) -> list[str]:
    """Return the words of an option's text, as a shell would take them.

    Raises:
        UsageError: a quote that is not closed, or a backslash at its end.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{option}: {str(error).lower()} in {text!r}") from None


def add_imports(parser: argparse.ArgumentParser) -> None:
    """Add what names a user's own components to a command's options."""
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="FILE",
        help="a Python file or module that registers components of your own; may be given several times",
    )  # fmt: skip
