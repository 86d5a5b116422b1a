"""``shortcut-snn train``: train one run."""

import argparse
import os
import signal

from ..neurons import keep_freed_memory
from ..recipes import train
from ..training import Interrupted
from ._terminal import print_line, print_on_stderr

PARENT = "SHORTCUT_SNN_PARENT"
"""The variable with the process id of the ``compare`` that started a run."""


def run(options: argparse.Namespace) -> int:
    """Train the recipe of the options."""
    # Removed, since the processes that this one starts have another parent.
    parent = os.environ.pop(PARENT, None)

    def log(line: str) -> None:
        print_line(line)
        # There is a line after each epoch. If compare was killed, nobody waits for this run: it saves and ends.
        if parent is not None and os.getppid() != int(parent):
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        if options.recipe.training.keep_freed_memory:
            keep_freed_memory()
        train(options.recipe, options.out, resume=options.resume, imports=options.imported, log=log)
    except Interrupted as interruption:
        if interruption.is_global_zero:
            print_on_stderr(f"{interruption}; the same command with --resume continues")
            return interruption.status
    return 0
