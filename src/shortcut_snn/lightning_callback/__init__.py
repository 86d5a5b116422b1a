"""The method for any LightningModule: one callback in the Trainer's list."""

from .callback import ShortcutCallback

__all__ = ["ShortcutCallback"]
