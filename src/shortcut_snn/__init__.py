"""Train deep spiking neural networks with shortcut back-propagation and evolutionary training."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .method import (
        TET,
        Constant,
        CosineDecay,
        LinearDecay,
        LogitSum,
        LossSum,
        SelfDistillation,
        Shortcut,
        ShortcutOutput,
        StepDecay,
        TimeLoop,
        attach,
    )

__all__ = [
    "TET",
    "Constant",
    "CosineDecay",
    "LinearDecay",
    "LogitSum",
    "LossSum",
    "SelfDistillation",
    "Shortcut",
    "ShortcutOutput",
    "StepDecay",
    "TimeLoop",
    "__version__",
    "attach",
]


def __getattr__(name: str) -> Any:
    # The method's names live at the top, but the command must answer --help without importing torch.
    if name in __all__:
        from . import method

        return getattr(method, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
