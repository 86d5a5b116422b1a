"""``python -m shortcut_snn``: the command without its script."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
