"""What a command prints, whatever becomes of the place where it goes: no work is lost for a line that nobody reads."""

import os
import sys
from contextlib import suppress


def prepare() -> None:
    """Make sure that there is an output and a place for errors, and that both take every character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            # As in a service that has closed them.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (to the end of the process)
        elif hasattr(stream, "reconfigure"):
            # Not where it has been led elsewhere since it was opened.
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def tell(line: str) -> None:
    """Print a line; where the output takes no more, say so once on standard error and go on without it."""
    try:
        print(line, flush=True)
    except (OSError, ValueError) as error:
        give_up()
        with suppress(OSError, ValueError):
            said = getattr(error, "strerror", None) or error
            print(f"shortcut-snn: the output takes no more ({said}); going on without it", file=sys.stderr)


def give_up() -> None:
    """Send what is printed from now on nowhere, and what waits to be printed too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (to the end of the process)
    finally:
        os.close(nowhere)
