"""Print in a way that a closed terminal or pipe never ends a run."""

import os
import sys
from contextlib import suppress


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
        print(line, flush=True)
    except (OSError, ValueError) as error:
        discard_output()
        with suppress(OSError, ValueError):
            reason = getattr(error, "strerror", None) or error
            print(f"shortcut-snn: cannot print ({reason}); continuing without output", file=sys.stderr)


def discard_output() -> None:
    """Redirect stdout, with what is still buffered, to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)
    finally:
        os.close(nowhere)
