"""Anytime inference: each sample leaves a network at the first exit that is certain of its class.

:func:`calibrate` sets one threshold for each exit on data that the network was not trained on:

1. A temperature for each exit makes its probabilities fit the labels (Guo et al., ICML 2017).
2. A level p sets all thresholds. At each exit the most certain samples leave, as many as keep the class that the whole
   network gives them, up to a share of 1 - p. One more sample than was seen counts as changed.
3. The level falls from 1 as long as the loss of accuracy, with one more error than was seen, is permitted.
4. An exit that few samples take is closed, since each exit costs time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import Tensor
from torch.nn import functional as F

from ..method import Shortcut
from ..nets import SpikingNetwork
from ..nets.options import check_choice
from .exit_runner import OUTPUT, Exit, ExitRunner, WrappedRunner
from .folding import fold

Measure = Literal["confidence", "gap", "entropy"]
"""How certain logits are: the largest probability, the gap between the two largest logits, or minus the entropy."""
Runner = ExitRunner | WrappedRunner
_LEVELS = 1 - torch.logspace(-3.5, -0.3, 80)
_TEMPERATURES = torch.logspace(-2, 2, 161)
_LEAST_SHARE = 0.03  # of all samples; an exit at which fewer leave is dropped


@dataclass(frozen=True)
class AnytimePrediction:
    """Classes of a batch, and where each sample left the network.

    Args:
        labels: index of the class of each sample, ``[N]``.
        confidence: calibrated probability of that class, ``[N]``.
        steps: time steps that were computed, ``[N]``.
        layers: the place where the sample left in its last time step: the name of a tap, or ``"output"``.
        exits: number of each sample's exit, ``[N]``.

    Example:
        >>> from shortcut_snn import calibrate, load
        >>> network, images = load("digits-resnet18"), torch.zeros(40, 1, 8, 8, dtype=torch.uint8)
        >>> exits = calibrate(network, [(images, network.predict(images))], drop=0.1)
        >>> prediction = network.predict(images[:1], anytime=exits)
        >>> prediction.steps, prediction.layers
        (tensor([...]), ('output',))
    """

    labels: Tensor
    confidence: Tensor
    steps: Tensor
    layers: tuple[str, ...]
    exits: Tensor


@dataclass(frozen=True)
class Exits:
    """The exits of a network, and how certain a sample must be to leave there; made by :func:`calibrate`.

    Args:
        exits: the time step of each exit, from 1 on, and its place there: the name of a tap, or ``"output"``.
        temperatures: divide the logits of each exit.
        thresholds: the least certainty of each exit but the last, where all leave; None: no sample leaves there.
        measure: of certainty.
        drop: permitted loss of accuracy.
        samples: number of samples of the calibration.
        change: of the accuracy on them, by the exits.
        interval: 95 % confidence interval of that change.
        mean_steps: time steps of a sample, on average over the calibration.

    Example:
        >>> places = ((1, "output"), (2, "output"))
        >>> exits = Exits(places, (1.0, 1.0), (0.9,), "confidence", 0.0, 9, 0.0, (0.0, 0.0), 1.2)
        >>> exits.decides(torch.tensor([[5.0, 0.0], [1.0, 0.0]]), step=1), exits.name(1)
        (tensor([ True, False]), 'step 2, output')
    """

    exits: tuple[tuple[int, str], ...]
    temperatures: tuple[Annotated[float, Interval(gt=0)], ...]
    thresholds: tuple[float | None, ...]
    measure: Measure
    drop: float
    samples: int
    change: float
    interval: tuple[float, float]
    mean_steps: float

    def __post_init__(self) -> None:
        if not len(self.exits) == len(self.temperatures) == len(self.thresholds) + 1:
            raise ValueError("exits must have a temperature each, and all but the last a threshold")

    @property
    def used(self) -> list[int]:
        """Numbers of the exits at which a sample can leave."""
        return [number for number, threshold in enumerate((*self.thresholds, 0.0)) if threshold is not None]

    def name(self, number: int) -> str:
        """Return an exit in words, as in ``"step 2, layer3"``."""
        step, place = self.exits[number]
        return f"step {step}, {place}"

    def predict(self, network: Any, x: Any) -> AnytimePrediction:
        """Return the classes of a batch; each sample leaves at the first exit that is certain of its class.

        Samples of a network of this package that have left are computed no further. Any other network ends early when
        all samples of the batch have left, so pass it one sample at a time.

        Args:
            network: the one of the calibration.
            x: inputs as the network takes them.

        Raises:
            ValueError: the network has other exits.
        """
        return predict_anytime(make_runner(network), runner_inputs(network, x), self)

    def decides(self, logits: Tensor, step: int, place: str = OUTPUT) -> Tensor:
        """Return for each sample whether it may leave at an exit, ``[N]``; for a stream, whose frames come one by one.

        Args:
            logits: ``[N, classes]`` at the exit, as ``network.step(frame)`` returns them.
            step: time step, from 1 on; all samples leave at the last one and after it.
            place: of the exit.

        Raises:
            ValueError: the network has no exit at this step and place.
        """
        place_in_time = min(step, self.exits[-1][0]), place
        if place_in_time not in self.exits:
            names = "; ".join(map(self.name, range(len(self.exits))))
            raise ValueError(f"the network has no exit at step {step}, {place}; there are: {names}")
        number = self.exits.index(place_in_time)
        if number + 1 == len(self.exits):
            return torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        threshold = self.thresholds[number]
        certainty = _certainty(logits.float() / self.temperatures[number], self.measure)
        return certainty >= (float("inf") if threshold is None else threshold)

    def __str__(self) -> str:
        names = "; ".join(map(self.name, self.used[:-1])) or "none: no sample leaves early"
        low, high = (f"{100 * value:+.2f}" for value in self.interval)
        return (
            f"exits: {names}\naccuracy {100 * self.change:+.2f} points (95 % interval {low} to {high}) on "
            f"{self.samples:,} samples, {self.mean_steps:.2f} time steps on average"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can represent them."""
        return asdict(self)


def calibrate(
    network: Any, data: Iterable[tuple[Any, Tensor]], drop: float = 0.005, measure: Measure = "confidence"
) -> Exits:
    """Return thresholds for the exits of a network, so that its accuracy falls by at most ``drop`` on some data.

    Args:
        network: from :func:`shortcut_snn.load`, a built-in network, or a wrapper of :func:`shortcut_snn.attach`.
            A branch that the network kept is an exit in depth; a time step is an exit in time.
        data: batches of inputs, as the network takes them, and labels ``[N]``. Use validation data: on the training
            data the network is too certain, and on the test data the result would not be a test.
        drop: permitted loss of accuracy, as a fraction.
        measure: of certainty.

    Raises:
        TypeError: a network of another library that is not wrapped.
        ValueError: no data or too few, labels that do not fit, a drop out of range, or a network with a single exit.

    Example:
        >>> import torch
        >>> from shortcut_snn import calibrate, load
        >>> network = load("digits-resnet18")
        >>> images, labels = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 10, (64,))
        >>> exits = calibrate(network, [(images, labels)], drop=0.1)
        >>> prediction = network.predict(images, anytime=exits)  # or exits.predict(network, images)
        >>> prediction.labels.shape, prediction.steps.float().mean() <= 4
        (torch.Size([64]), tensor(True))
    """
    check_choice("measure", measure, Measure)
    runner = make_runner(network)
    check_calibration(runner, drop)
    logits, labels = all_logits(network, runner, data)
    check_calibration(runner, drop, len(labels))
    return calibrate_logits(logits, labels, runner.exits, drop, measure)


def check_calibration(runner: Runner, drop: float, samples: int | None = None) -> None:
    """Check that a network has exits, and that samples can show a drop; their number may not be known yet."""
    if not 0 < drop < 1:
        raise ValueError(f"drop is a fraction of the samples, between 0 and 1, got {drop}")
    if len(runner.exits) == 1:
        raise ValueError("no exits, as there is one time step and no branches: train with method.branches.keep=true")
    if samples is not None and drop * (samples + 1) < 1:
        remedy = f"calibrate on {ceil(1 / drop) - 1:,} or more (of a run: data.validation), or permit a larger drop"
        raise ValueError(f"{samples} samples cannot show that accuracy falls by at most {drop:g}: {remedy}")


def calibrate_logits(
    logits: Tensor, labels: Tensor, exits: Sequence[Exit], drop: float, measure: Measure = "confidence"
) -> Exits:
    """Return thresholds from the logits of all exits, ``[exits, N, classes]``; see :func:`calibrate`."""
    temperatures = [_temperature(each, labels) for each in logits]
    scores = _scores(logits, temperatures, measure)
    classes = logits.argmax(-1)
    thresholds: list[float | None] = [None] * (len(exits) - 1)
    for level in _LEVELS.tolist():
        lower = _without_rare(scores, _thresholds(scores, classes == classes[-1], level))
        if 1 - int(_changes(classes, labels, _leave(scores, lower)).sum()) > drop * (len(labels) + 1):
            break
        thresholds = lower
    at = _leave(scores, thresholds)
    changes = _changes(classes, labels, at)
    return Exits(
        exits=tuple(exits),
        temperatures=tuple(temperatures),
        thresholds=tuple(thresholds),
        measure=measure,
        drop=drop,
        samples=len(labels),
        change=float(changes.double().mean()),
        interval=_interval(changes),
        mean_steps=float(torch.tensor([step for step, _ in exits])[at].double().mean()),
    )


def leave(logits: Tensor, exits: Exits) -> Tensor:
    """Return the number of the exit at which each sample leaves, ``[N]``, from the logits of all exits."""
    return _leave(_scores(logits, exits.temperatures, exits.measure), exits.thresholds)


def all_logits(network: Any, runner: Runner, data: Iterable[tuple[Any, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the logits of all exits, ``[exits, N, classes]``, and the labels ``[N]``."""
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    for x, target in data:
        batch: dict[int, Tensor] = {}
        # It returns None, so no sample leaves.
        runner(runner_inputs(network, x), batch.__setitem__)
        if list(batch) != sorted(batch):
            places = ", ".join(dict.fromkeys(runner.exits[exit][1] for exit in batch))
            raise ValueError(f"the network runs its exits in another order ({places}): attach with taps in that order")
        stacked = torch.stack([logits.float() for logits in batch.values()])
        if stacked.dim() != 3 or target.shape != stacked.shape[1:2]:
            shapes = f"{list(stacked.shape[1:])} and {list(target.shape)}"
            raise ValueError(f"exits are for classes: expected logits [N, classes] and labels [N], got {shapes}")
        if target.is_floating_point() or not ((target >= 0) & (target < stacked.shape[-1])).all():
            got = f"{target.min()} to {target.max()} ({target.dtype})"
            raise ValueError(f"labels must be integers from 0 to {stacked.shape[-1] - 1}, got {got}")
        outputs.append(stacked)
        targets.append(target.long().to(stacked.device))
    if not outputs:
        raise ValueError("data is empty: pass batches of inputs and labels that the network was not trained on")
    return torch.cat(outputs, 1), torch.cat(targets)


def predict_anytime(runner: Runner, x: Any, exits: Exits) -> AnytimePrediction:
    """Return the classes of a batch; a sample leaves at the first exit that is certain."""
    if tuple(runner.exits) != exits.exits:
        places = ", ".join(place for _, place in runner.exits[:8])
        raise ValueError(f"the {len(exits.exits)} exits are of another network; this has {len(runner.exits)}: {places}")
    rows: Tensor | None = None
    departures: list[tuple[Tensor, ...]] = []

    def visit(exit: int, logits: Tensor) -> Tensor | None:
        nonlocal rows
        rows = torch.arange(len(logits), device=logits.device) if rows is None else rows
        leaves = exits.decides(logits, *exits.exits[exit])
        if not leaves.any():
            return None
        confidence, labels = (logits[leaves].float() / exits.temperatures[exit]).softmax(-1).max(-1)
        departures.append((rows[leaves], labels, confidence, torch.full_like(labels, exit)))
        stay = (~leaves).nonzero().flatten()
        rows = rows[stay]
        return stay

    runner(x, visit, exits.used)
    if rows is None or len(rows):
        last = exits.exits[-1][0]
        raise ValueError(f"the batch ended before the last exit: pass {last} time steps")
    order, labels, confidence, numbers = map(torch.cat, zip(*departures, strict=True))
    order = order.argsort()
    labels, confidence, numbers = labels[order], confidence[order], numbers[order]
    steps, layers = zip(*(exits.exits[number] for number in numbers.tolist()), strict=True)
    return AnytimePrediction(labels, confidence, torch.tensor(steps), layers, numbers)


def make_runner(network: Any) -> Runner:
    """Return what runs a network up to its exits."""
    runner = getattr(network, "exit_runner", None)
    if isinstance(runner, ExitRunner):
        return runner
    model = network if isinstance(network, Shortcut) else None
    inner = network if model is None else model.network
    if isinstance(inner, SpikingNetwork):
        heads = {} if model is None else dict(zip(model.taps.names, model.branches, strict=True))
        return ExitRunner(fold(inner), heads, inner.time_steps).eval()
    if model is None:
        raise TypeError(f"{type(network).__name__} has no exits of its own: wrap it with attach, and pass the wrapper")
    return WrappedRunner(model)


def runner_inputs(network: Any, x: Any) -> Any:
    """Return a batch as the runner takes it."""
    prepare = getattr(network, "model_inputs", None)
    return x if prepare is None else prepare(x)


def _temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature that makes probabilities fit the labels best."""
    losses = [F.cross_entropy(logits / temperature, labels) for temperature in _TEMPERATURES.to(logits.device)]
    return float(_TEMPERATURES[torch.stack(losses).argmin()])


def _certainty(logits: Tensor, measure: Measure) -> Tensor:
    """Return how certain logits ``[..., classes]`` are, ``[...]``."""
    if measure == "gap":
        first, second = logits.topk(2, -1).values.unbind(-1)
        return first - second
    log_probabilities = logits.log_softmax(-1)
    if measure == "confidence":
        return log_probabilities.max(-1).values.exp()
    return (log_probabilities.exp() * log_probabilities).sum(-1)


def _scores(logits: Tensor, temperatures: Sequence[float], measure: Measure) -> Tensor:
    """Return how certain each exit is, ``[exits, N]``."""
    return _certainty(logits / logits.new_tensor(temperatures)[:, None, None], measure)


def _thresholds(scores: Tensor, agrees: Tensor, level: float) -> list[float]:
    """Return the threshold of each exit but the last, at which a share ``level`` of the leaving samples agree."""
    thresholds = []
    here = torch.ones_like(agrees[0])
    for score, agree in zip(scores[:-1], agrees[:-1], strict=True):
        ordered, order = score[here].sort(descending=True)
        share = agree[here][order].cumsum(0).double() / (torch.arange(len(order), device=score.device) + 2)
        enough = (share >= level).nonzero().flatten()
        thresholds.append(float(ordered[enough[-1]]) if len(enough) else float("inf"))
        here = here & (score < thresholds[-1])
    return thresholds


def _without_rare(scores: Tensor, thresholds: Sequence[float]) -> list[float | None]:
    """Close the exits that few samples take, since an exit costs time; these samples leave later."""
    at = _leave(scores, thresholds)
    shares = at.bincount(minlength=len(scores)).double() / len(at)
    pairs = zip(thresholds, shares.tolist(), strict=False)
    return [threshold if share >= _LEAST_SHARE else None for threshold, share in pairs]


def _leave(scores: Tensor, thresholds: Sequence[float | None]) -> Tensor:
    """Return the number of the exit at which each sample leaves, ``[N]``."""
    limits = [float("inf") if threshold is None else threshold for threshold in thresholds]
    return (scores >= torch.tensor([*limits, -float("inf")], device=scores.device)[:, None]).int().argmax(0)


def _changes(classes: Tensor, labels: Tensor, at: Tensor) -> Tensor:
    """Return 1 for each sample that the exits classify right and the whole network wrong, -1 the other way round."""
    right = classes == labels
    return right.gather(0, at[None]).int()[0] - right[-1].int()


def _interval(changes: Tensor) -> tuple[float, float]:
    """Return the 95 % confidence interval of a mean of paired changes (Agresti and Min, Stat. Med. 24, 2005)."""
    n, better, worse = len(changes) + 2, int((changes > 0).sum()) + 0.5, int((changes < 0).sum()) + 0.5
    middle = (better - worse) / n
    half = 1.96 * sqrt(better + worse - (better - worse) ** 2 / n) / n
    return middle - half, middle + half
