"""The logits among the tensors that a network returns: the only one, or the one of a name; else a question."""

from typing import Any

from torch import Tensor

from .answer import OpenQuestion
from .infer_batch_axis import Samples
from .outputs import Path, described, indexed, name_of, tensors_of

LOGITS_NAMES = ("logits", "output", "outputs", "out", "prediction", "predictions", "pred", "y_hat", "cls", "main")
ADVICE = "pass readout=..., which maps the network's output to logits [N, classes]"
_MAX_LISTED = 4


def find_logits(samples: Samples) -> tuple[Path, str]:
    """Return the path of the logits in a network's output, and how they were found.

    Raises:
        OpenQuestion: several tensors may hold them, or none.
    """
    output = samples.probe.base.output
    tensors = _predictions(samples)
    if not tensors:
        raise OpenQuestion(f"the network gives {described(output)}: {ADVICE}")
    if len(tensors) == 1:
        return next(iter(tensors)), "the only tensor"
    for name in LOGITS_NAMES:
        for path in tensors:
            if path[-1] == name:
                return path, "by its name"
    listed = [f"{name_of(path)}of shape {tuple(tensor.shape)}" for path, tensor in tensors.items()]
    first, last = (indexed(list(tensors)[index]) for index in (0, -1))
    stacked = ", torch.stack(output).mean(0) if they are time steps" if isinstance(output, list) else ""
    raise OpenQuestion(
        f"the network gives {', '.join(listed[:_MAX_LISTED])}{', ...' * (len(listed) > _MAX_LISTED)}, and which of "
        f"these are the logits remains open: pass readout=lambda output: {first}, say, or {last}; {first}.mean(0) for "
        f"[T, N, classes], or .sum(0) for spike counts, .mean(1) for [N, T, classes]{stacked}"
    )


def _predictions(samples: Samples) -> dict[Path, Tensor]:
    """Return the tensors of the output that may be predictions: those that show a sample, if any does."""
    probe = samples.probe
    tensors = {
        path: one for path, one in tensors_of(probe.base.output).items() if one.dim() and one.is_floating_point()
    }
    altered = samples.altered.values()
    show = [path for path in tensors if any(probe.changes_of_output(path, done) is not None for done in altered)]
    # A tensor of one axis may be a statistic of the whole batch.
    apart = [path for path in show if tensors[path].dim() > 1 or samples.axes_of_output(path)]
    return {path: tensors[path] for path in apart or show or tensors}


def is_spikes(tensor: Any) -> bool:
    """Return whether all values are zeros and ones."""
    return bool(((tensor == 0) | (tensor == 1)).all())
