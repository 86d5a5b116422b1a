"""Print in a way that a closed terminal or pipe never ends a run."""

import os
import sys
from contextlib import suppress

from ..markdown import printable


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
        print_error(f"cannot print ({getattr(error, 'strerror', None) or error}); continuing without output")


def print_error(message: str) -> None:
    """Print a line about an error on stderr, if anybody still reads it."""
    try:
        print(f"shortcut-snn: error: {printable(message)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard("stderr")


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
