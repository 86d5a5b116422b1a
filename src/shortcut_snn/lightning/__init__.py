"""The method for a LightningModule that knows nothing of it: one callback in the Trainer's list."""

from .callback import ShortcutCallback

__all__ = ["ShortcutCallback"]
