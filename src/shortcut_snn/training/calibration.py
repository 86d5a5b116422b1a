"""A run whose surrogates are as wide as its own network needs them: found before it starts, kept in its folder."""

import json
from pathlib import Path
from typing import Any

import torch

from ..analysis.calibrate import calibrate, set_widths
from ..data import ImageData, loaders
from ..method import ShortcutOutput
from .methods import resolved
from .module import ShortcutModule
from .recipe import Recipe

WIDTHS = "surrogates.json"


def calibrate_module(
    module: ShortcutModule, recipe: Recipe, data: ImageData, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Calibrate on the main output's loss over the first training batch, if the recipe says so.

    Args:
        module: what will train; it is moved to the device.
        recipe: of the run.
        data: its data.
        device: where to calculate.

    Returns:
        Widths by layer, or nothing where the recipe does not ask for any.
    """
    if not resolved(recipe).neuron.surrogate.calibrate:
        return {}
    module.to(device)
    images, labels = (part.to(device) for part in next(iter(loaders(data, recipe.data, recipe.train.seed).train)))

    def loss(output: ShortcutOutput, labels: torch.Tensor) -> torch.Tensor:
        return module.objective(output, labels, 0.0)

    with module.as_in_training():
        return calibrate(module.model.network, [(module.prepare(images), labels)], loss, model=module.model)


def resume_widths(module: ShortcutModule, folder: Path) -> dict[str, float]:
    """Set the widths that a run was started with.

    Raises:
        ValueError: their file is missing or damaged.
    """
    path = folder / WIDTHS
    try:
        widths = json.loads(path.read_text(encoding="utf-8"))
        set_widths(module.model.network, widths)
    except (OSError, ValueError, TypeError, AttributeError):
        raise ValueError(
            f"{path}, which holds the calibrated surrogate widths of the run, is missing or damaged; put it back, or "
            "start the run anew in another folder"
        ) from None
    return widths  # type: ignore[no-any-return]


def widths_in(about: dict[str, Any]) -> dict[str, float]:
    """Return the widths that a network's file carries: none if it was not calibrated."""
    widths = about.get("surrogate_widths", {})
    return widths if isinstance(widths, dict) else {}
