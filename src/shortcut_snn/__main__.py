"""``python -m shortcut_snn``."""

import os
import sys

# Python puts the current folder first: a file there that is called like a library would be run in its place.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from .commands import main

if __name__ == "__main__":
    sys.exit(main())
