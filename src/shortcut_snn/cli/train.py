"""``shortcut-snn train``: train one run."""

import argparse

from ..neurons import keep_freed_memory
from ..recipes import train
from ..training import Interrupted
from ._executors import follow_parent
from ._terminal import print_error, print_line


def run(options: argparse.Namespace) -> int:
    """Train the recipe of the options."""
    follow_parent()
    try:
        if options.recipe.training.keep_freed_memory:
            keep_freed_memory()
        train(options.recipe, options.out, resume=options.resume, imports=options.imported, log=print_line)
    except Interrupted as interruption:
        if interruption.is_global_zero:
            print_error(f"{interruption}; the same command with --resume continues")
            return interruption.status
    return 0
