"""Search for the logits among the tensors that a network returns: by name, by width, by what is computed from what."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .._utils.calls import primary
from .adapters import adapters_of
from .answer import OpenQuestion
from .gradient_paths import is_made_of
from .infer_batch_axis import Samples
from .outputs import Path, described, indexed, name_of, tensors_of

LOGITS_NAMES = ("logits", "output", "outputs", "out", "prediction", "predictions", "pred", "y_hat", "cls", "main")
ADVICE = "pass readout=..., which maps the network's output to logits [N, classes]"


@dataclass
class LogitsSearch:
    """Search for the tensor of the output that holds the logits."""

    samples: Samples
    labels: Tensor | None
    num_classes: int | None

    @property
    def output(self) -> Any:
        """The output of the network."""
        return self.samples.probe.base.output

    def classes_of_labels(self) -> int | None:
        """Return the number of classes in the labels, if they are indices of classes."""
        labels = self.labels
        if labels is None or labels.dim() != 1 or not len(labels) or labels.is_floating_point():
            return None
        return int(labels.max()) + 1

    def tensors(self) -> dict[Path, Tensor]:
        """Return the tensors of the output that may be predictions: those that show a sample, if any does."""
        probe = self.samples.probe
        tensors = {p: one for p, one in tensors_of(self.output).items() if one.dim() and one.is_floating_point()}
        altered = self.samples.altered.values()
        show = [path for path in tensors if any(probe.changes_of_output(path, done) is not None for done in altered)]
        return {path: tensors[path] for path in show or tensors}

    def path(self) -> tuple[Path, str]:
        """Return the path of the logits, found by a sequence of rules, and the rule in words."""
        output = self.output
        tensors = self.tensors()
        if not tensors:
            raise OpenQuestion(f"the network gives {described(output)}: {ADVICE}")
        if len(tensors) == 1:
            return next(iter(tensors)), "the only tensor"
        for name in LOGITS_NAMES:
            for path in tensors:
                if path[-1] == name:
                    return path, "by its name"
        tensors = self.without_others(self._wide_enough(tensors))
        if len(tensors) == 1:
            return next(iter(tensors)), "the only tensor that may be logits"
        if self._are_alternatives(tensors):
            # Spikes before potentials, and logits before those of every time step.
            return min(tensors, key=lambda path: tensors[path].dim()), "the first of tensors made of the same"
        if isinstance(output, list) and len({tensor.shape for tensor in tensors.values()}) == 1:
            raise OpenQuestion(
                f"the network gives a list of {len(tensors)} tensors of shape "
                f"{tuple(next(iter(tensors.values())).shape)}, which may be time steps or separate predictions: pass "
                "readout=..., as in lambda output: torch.stack(output).mean(0), or lambda output: output[0]"
            )
        wide = [path for path, tensor in tensors.items() if tensor.shape[-1] == self.classes_of_labels()]
        if len(wide) == 1 and not any(self._leads_to(wide[0], other) for other in tensors):
            return wide[0], "as wide as the labels have classes"
        raise OpenQuestion(self._question_about_path(tensors))

    def _wide_enough(self, tensors: dict[Path, Tensor]) -> dict[Path, Tensor]:
        """Return the tensors that can be logits of ``num_classes``, or of the labels, if there are any."""
        known, least = self.num_classes, self.classes_of_labels() or 0
        wide = {}
        for path, tensor in tensors.items():
            widths = (tensor.shape[-1], tensor.shape[1 % tensor.dim()])
            # One number is enough for two classes.
            if known in widths or (known is None and (max(widths) >= least or (least == 2 and 1 in widths))):
                wide[path] = tensor
        return wide or tensors

    def without_others(self, tensors: dict[Path, Tensor]) -> dict[Path, Tensor]:
        """Return the tensors without those from which narrower ones are computed, as logits from hidden spikes.

        A wider one may be computed from logits. Where there are labels, it is not the prediction if it is as wide as
        the input, as one that is made again.
        """
        widths = {path: _width(tensor) for path, tensor in tensors.items()}
        of_input = None if self.classes_of_labels() is None else _width(primary(self.samples.probe.base.example))

        def is_other(path: Path, than: Path) -> bool:
            if widths[path] >= widths[than] and self._leads_to(path, than):
                return True
            return widths[than] < widths[path] == of_input and self._leads_to(than, path)

        return {path: one for path, one in tensors.items() if not any(is_other(path, than) for than in tensors)}

    def _leads_to(self, path: Path, other: Path) -> bool:
        """Return whether one tensor of the output is used to compute another, and not the reverse."""
        return self._is_made_of(path, other) and not self._is_made_of(other, path)

    def _is_made_of(self, path: Path, other: Path) -> bool:
        trained = tensors_of(self.samples.probe.gradient_paths.output)
        return path in trained and other in trained and is_made_of(trained[path], trained[other])

    def _are_alternatives(self, tensors: dict[Path, Tensor]) -> bool:
        """Return whether a tuple holds spikes and potentials of the same neurons, of which the first are read.

        Labels that are numbers may be compared with either, and neurons that only integrate are often read by their
        potentials, so that the choice remains open.
        """
        initial, events = self.samples.probe.initial, self.samples.probe.base.events
        neurons = {name: (one, module) for one in adapters_of(initial) for name, module in one.neurons(initial).items()}
        last = next((neurons[name] for name in reversed(events) if name in neurons), None)
        if last is not None and last[0].integrates(last[1]):
            return False
        first, *others = tensors
        flat = isinstance(self.output, tuple) and all(len(path) == 1 for path in tensors)
        numbers = self.labels is not None and self.labels.is_floating_point()
        of_one_width = len({tensor.shape[-1] for tensor in tensors.values()}) == 1
        return flat and of_one_width and not numbers and all(self._is_made_of(path, first) for path in others)

    def _question_about_path(self, tensors: dict[Path, Tensor]) -> str:
        listed = ", ".join(f"{name_of(path)}of shape {tuple(tensor.shape)}" for path, tensor in tensors.items())
        question = f"the network gives {listed}, and which of these are the logits remains open: pass readout=..."
        for path, tensor in reversed(tensors.items()):
            if enlarged := self.enlarged(tensor, indexed(path)):
                return f"{question}, as in lambda output: {enlarged}"
        # The most likely one: logits have two axes, or three with time.
        path, likely = min(reversed(tensors.items()), key=lambda item: abs(item[1].dim() - 2.25))
        mean = ""
        if likely.dim() == 3:
            # Time is the last axis of [N, classes, T], as in an input [N, F, T].
            shape = primary(self.samples.probe.base.example).shape
            last = likely.shape[2] == shape[-1] and likely.shape[1] not in shape
            mean = ".mean(0)" if likely.shape[0] != self.samples.length else ".mean(-1)" if last else ".mean(1)"
        last_step = {".mean(0)": "[-1]", ".mean(1)": "[:, -1]", ".mean(-1)": "[..., -1]"}.get(mean)
        other = f", or {indexed(path)}{last_step} for the last step" if last_step else ""
        return f"{question}, as in lambda output: {indexed(path)}{mean}{other}"

    def enlarged(self, tensor: Tensor, name: str) -> str:
        """Return, in Python, logits at every position in the size of label maps; empty if they cannot be that."""
        labels, space = self.labels, tuple(tensor.shape[2:])
        if labels is None or labels.is_floating_point() or not labels.dim() == tensor.dim() - 1 > 2:
            return ""
        sizes = tuple(labels.shape[1:])
        multiple = not any(size % least for size, least in zip(sizes, space, strict=True)) and sizes != space
        fits = multiple and tensor.shape[1] > int(labels.max())
        return f"torch.nn.functional.interpolate({name}, size={sizes})" if fits else ""


def _width(tensor: Tensor) -> int:
    """Return the number of values of a sample in one time step."""
    return math.prod(tensor.shape[-3:] if tensor.dim() > 3 else tensor.shape[-1:])
