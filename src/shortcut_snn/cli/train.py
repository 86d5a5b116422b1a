"""``shortcut-snn train``: one run."""

import argparse
import sys

from ..neurons import keep_freed_memory
from ..recipes import train
from ..training import Interrupted
from ._children import follow_parent
from ._output import tell

HELP = "train a network"
DESCRIPTION = "Train a network as a recipe says; options change it."
RECIPE = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--out", required=True, help="folder of the run; created")
    parser.add_argument("--resume", action="store_true", help="go on with the folder's run where it was interrupted")


def run(options: argparse.Namespace) -> int:
    """Train."""
    follow_parent()
    try:
        if options.recipe.training.keep_freed_memory:
            keep_freed_memory()
        train(options.recipe, options.out, resume=options.resume, imports=options.imported, log=tell)
    except Interrupted as interrupted:
        if interrupted.is_global_zero:
            print(
                f"shortcut-snn: error: {interrupted}; the same command with --resume goes on from there",
                file=sys.stderr,
            )
            return interrupted.status
    return 0
