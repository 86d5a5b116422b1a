"""``shortcut-snn train``: train one run."""

import argparse
import sys

from ..recipes import train
from ..training import Interrupted
from ._children import follow_parent
from ._output import print_line


def run(options: argparse.Namespace) -> int:
    """Train the recipe of the options."""
    follow_parent()
    try:
        train(
            options.recipe,
            options.out,
            resume=options.resume,
            imports=options.imported,
            keep_memory=True,
            tell=print_line,
        )
    except Interrupted as interruption:
        if interruption.speaks:
            print(f"shortcut-snn: error: {interruption}; the same command with --resume continues", file=sys.stderr)
            return interruption.status
    return 0
