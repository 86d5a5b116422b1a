"""``shortcut-snn train``: one run."""

import argparse
import sys

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
        train(options.recipe, options.out, resume=options.resume, imports=options.imported, keep_memory=True, tell=tell)
    except Interrupted as interrupted:
        if interrupted.speaks:
            print(
                f"shortcut-snn: error: {interrupted}; the same command with --resume goes on from there",
                file=sys.stderr,
            )
            return interrupted.status
    return 0
