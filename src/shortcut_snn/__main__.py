"""``python -m shortcut_snn``."""

import sys

if __name__ == "__main__":
    # ``python -m`` puts the current folder first, where a file may have the name of a library.
    if not sys.flags.safe_path:
        del sys.path[0]
    from .cli import main

    sys.exit(main())
