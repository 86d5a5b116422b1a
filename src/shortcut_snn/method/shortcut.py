"""Shortcut: the wrapper that trains a network with branches and never rewrites it."""

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d

from .. import components
from .._utils.calls import Reset, call_on, detached_states, dry_copy, evaluation, example_of, inputs_of, primary
from .heads import DenseHead, Head, LinearHead, fit_space
from .layout import Layout
from .objectives import ShortcutOutput
from .placement import resolve
from .taps import Extract, Tap, Taps, TimeAxis, batch_of, splits_batch


class Shortcut(nn.Module):
    """Shortcut back-propagation around any spiking network (paper, method section).

    A branch reads the output of a submodule, its tap, and predicts from it through an auxiliary head. The branches live
    in the wrapper: the network keeps its parameters and state keys, and ``model.network`` is the deployed network.
    In training mode a call returns the predictions of network and branches. In eval mode the branches do not run.
    :func:`shortcut_snn.attach` infers the arguments for a network of any library.

    Args:
        network: maps a batch to logits ``[N, num_classes]`` or to another prediction (see ``readout``).
        taps: ``"stages"`` (the end of each stage but the last), ``"blocks"`` (each block but the last), names of
            submodules, or :class:`Tap` objects whose axes differ. An empty list is training without branches.
        num_classes: width of the branches' logits; for other tasks, the number of values they predict.
        shape: of one sample's prediction, if that has several axes, as (steps, variables) of a forecast.
        step_axis: the axis of time in the prediction, if every time step has one: 0 for ``[T, N, classes]``, 1 for
            ``[N, T, values]``, 2 for ``[N, classes, T]``. Branches then predict each step from their features at it.
        example: a batch for the dry pass that finds the width of each branch; its values do not matter. Not needed
            for a network with ``example_input()``, such as the built-in ones.
        time_axis: of tapped outputs: 0 for ``[T, N, C, ...]``, 1 for ``[N, T, C, ...]``, None for networks that are
            called once per time step.
        channel_axis: of tapped outputs, as in -1 for tokens ``[N, L, C]``; by default the axis after batch and time.
        extract: maps a tapped module's output to its tensor; by default the output itself or the first entry of a
            tuple.
        readout: maps the network's output to logits ``[N, num_classes]``, as in ``lambda y: y.mean(0)`` for logits of
            every time step; by default the output itself.
        run: maps the network and the wrapper's arguments to the network's output, as ``TimeLoop`` does for a network
            that computes one time step per call; by default one call.
        head: maps ``(channels, num_classes)`` to the auxiliary head of a branch (see :mod:`.heads`), or the recipe
            entry of a registered one, as in ``"conv"`` or ``{"kind": "linear", "init_std": 0.0}``. By default
            ``"linear"``, or ``"dense"`` if the network predicts at every position, as ``[N, K, H, W]``.
        reset: returns the network's neurons to their initial state. The wrapper calls it before and after every forward
            pass, so that neither state nor graph reaches the next pass. None for neurons without lasting state.
        layout: the inferred layout, if the other arguments come from one.

    Raises:
        ValueError: an unknown tap, or no example to run.

    Initialising the branches preserves torch's random state, so network and data see the same random numbers with and
    without branches.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> model = Shortcut(network, ["1"], num_classes=3, example=torch.rand(2, 4), time_axis=None)
        >>> [logits.shape for logits in model(torch.rand(2, 4)).branches]
        [torch.Size([2, 3])]
        >>> model.strip() is network
        True
    """

    _stripped = False

    def __init__(
        self,
        network: nn.Module,
        taps: str | Sequence[str] | Sequence[Tap] = "stages",
        *,
        num_classes: int,
        shape: Sequence[int] | None = None,
        step_axis: int | None = None,
        example: Any = None,
        time_axis: TimeAxis = 0,
        channel_axis: int | None = None,
        extract: Extract | None = None,
        readout: Extract | None = None,
        run: Callable[..., Any] | None = None,
        head: Head | str | Mapping[str, Any] | None = None,
        reset: Reset | None = None,
        layout: Layout | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"the network must be a torch.nn.Module, got {type(network).__name__}")
        if isinstance(network, Shortcut):
            raise ValueError("the network is wrapped already: pass what its .strip() returns")
        if not isinstance(num_classes, int):
            raise TypeError(f"num_classes must be an integer, got {num_classes!r}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.network = network
        self.readout, self.run, self._reset = readout, run, reset
        self._shape, self.step_axis = None if shape is None else tuple(shape), step_axis
        self.layout = layout
        """The layout that :func:`shortcut_snn.attach` inferred."""
        self.objective: Any = None
        """The objective of the method that :func:`shortcut_snn.attach` applied."""
        self.branch_weight: Any = None
        """The branch weight of that method, a function of (step, total steps)."""
        self.surrogates: dict[str, dict[str, float]] = {}
        """The surrogates that :func:`shortcut_snn.initialise` has set, by layer."""
        if isinstance(taps, Sequence) and not isinstance(taps, str) and all(isinstance(tap, Tap) for tap in taps):
            placed = [tap for tap in taps if isinstance(tap, Tap)]
        else:
            placed = [Tap(name, time_axis, channel_axis, extract) for name in resolve(network, taps)]
        self.branches = nn.ModuleList()
        if placed:
            tapped, main = self._dry_pass(placed, example)
            self.branches.extend(self._make_branches(head, tapped, main, num_classes))
        self.taps = Taps(network, placed)
        self.taps.every_step = step_axis is not None
        self.taps.pools = [getattr(branch, "pools", True) for branch in self.branches]

    def _dry_pass(self, placed: Sequence[Tap], example: Any) -> tuple[list[Tensor], Any]:
        """Return what each tap and the readout give for the example, by a pass through a copy of the network."""
        batch, probe = example_of(self.network, example), dry_copy(self.network, self._reset)
        taps = Taps(probe, placed)
        taps.pools, taps.every_step = [False] * len(placed), self.step_axis is not None
        with evaluation(probe):
            taps.start()
            output = call_on(probe, self.run, batch)
            tapped = taps.stop()
            main = self._steps_first(output if self.readout is None else self.readout(output))
        _check_samples(taps, tapped, main, self._shape)
        if taps.every_step:
            return [features.flatten(0, 1) for features in tapped], main[0]
        return tapped, main

    def _make_branches(
        self, head: Head | str | Mapping[str, Any] | None, tapped: list[Tensor], main: Any, num_classes: int
    ) -> list[nn.Module]:
        if head is None:
            # A prediction at every position has a head at every position.
            dense = isinstance(main, Tensor) and main.dim() > (2 if self._shape is None else 3)
            head = DenseHead if dense else LinearHead
        make: Head = components.read(components.head, head, "head") if isinstance(head, str | Mapping) else head
        reference = next(nn.Module.parameters(self.network), torch.empty(0))
        # Built on the CPU, so that one seed gives the same branches on every device.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            heads = [self._make_head(make, features, num_classes) for features in tapped]
        # A network may be spread over devices: each branch goes to the device of its tap.
        return [one.to(features.device, reference.dtype) for one, features in zip(heads, tapped, strict=True)]

    def _make_head(self, make: Head, features: Tensor, num_classes: int) -> nn.Module:
        """Return a head of ``num_classes`` outputs, or of all numbers of ``shape`` if it predicts one axis alone."""
        head = make(features.shape[1], num_classes)
        if self._shape is None:
            return head
        pooled = features.flatten(2).mean(2) if getattr(head, "pools", True) and features.dim() > 2 else features
        with evaluation(head):
            axes = head(pooled.to("cpu", torch.get_default_dtype())).dim()
        return make(features.shape[1], math.prod(self._shape)) if axes == 2 else head

    def forward(self, *args: Any, **kwargs: Any) -> ShortcutOutput:
        """Run the network and, in training mode, the branches.

        Raises:
            RuntimeError: a tapped submodule was not called, or this is a replica of ``nn.DataParallel``.
        """
        if getattr(self, "_is_replica", False):
            raise RuntimeError(
                "nn.DataParallel runs copies that share their hooks, so branches would mix: use DistributedDataParallel"
            )
        listening = self.training and len(self.branches) > 0
        if self.training and self._stripped:
            # The frames of nn.Module's call lie between this one and the caller's.
            warnings.warn("strip() removed the branches: attach the network again to train with them", stacklevel=4)
        self.reset()
        try:
            if listening:
                self.taps.start()
            with self._batch_size(args, kwargs):
                run = self.network if self.run is None else partial(self.run, self.network)
                output = run(*args, **kwargs)
                main = output if self.readout is None else self.readout(output)
            tapped = self.taps.stop() if listening else []
            if listening:
                _check_samples(self.taps, tapped, self._steps_first(main), self._shape)
        finally:
            self.taps.cancel()
            self.reset()
        return ShortcutOutput(main, tuple(self.predict(tapped, main)) if listening else ())

    def predict(self, tapped: Sequence[Tensor], main: Tensor) -> list[Tensor]:
        """Return the branches' predictions from tapped outputs, in the shape and on the device of the main output."""
        main = self._steps_first(main)
        predictions = [self._predict(branch, x, main) for branch, x in zip(self.branches, tapped, strict=True)]
        if self.step_axis is None:
            return predictions
        return [_fit_steps(one, len(main)).movedim(0, self.step_axis) for one in predictions]

    def _steps_first(self, main: Any) -> Any:
        """Return a prediction with its axis of time first, if it has one."""
        return main.movedim(self.step_axis, 0) if self.step_axis else main

    def _predict(self, branch: nn.Module, features: Tensor, main: Tensor) -> Tensor:
        steps = features.shape[:2] if self.taps.every_step else None
        if steps is not None:
            features = features.flatten(0, 1)
        logits: Tensor = branch(features.to(next(branch.parameters(), features).dtype)).to(main.device)
        if logits.shape[1:] == (1,) and main.dim() == (1 if steps is None else 2):
            # The network predicts one number per sample, without an axis for it.
            logits = logits.squeeze(1)
        elif self._shape is not None and logits.dim() == 2:
            logits = logits.unflatten(1, self._shape)  # type: ignore[no-untyped-call]
        else:
            classes = 1 if steps is None else 2
            # A readout that is left out may return logits of every time step, [T, N, classes].
            if logits.dim() > 2 or main.shape[classes : classes + 1] == logits.shape[1:]:
                logits = fit_space(logits, main.shape[classes + 1 :])
        return logits if steps is None else logits.unflatten(0, steps)  # type: ignore[no-untyped-call]

    def _batch_size(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AbstractContextManager[None]:
        """Set the batch size for taps or a readout that split a batch axis into time and samples."""
        axis = None if self.layout is None else self.layout.batch_axis
        functions = [getattr(self.readout, "unfold", None), *(tap.extract for tap in self.taps.taps)]
        if axis is None or not any(map(splits_batch, functions)):
            return nullcontext()
        return batch_of(primary((args, kwargs)).shape[axis])

    def reset(self) -> None:
        """Return the network's neurons to their initial state, as before and after every forward pass.

        SpikingJelly's ``functional.reset_net`` calls this method as that of every module.
        """
        if self._reset is not None:
            self._reset(self.network)

    def strip(self, check: Any = None) -> nn.Module:
        """Remove the hooks and the branches, and return the network.

        The wrapper then is the network alone, and warns in training.

        Args:
            check: a batch to prove it on: in eval mode, the main output with and without the taps must have the same
                bits. The network is left as it was.

        Raises:
            ValueError: the outputs differ; the wrapper is unchanged.
        """
        if check is not None:
            self._check_equal_without_taps(check)
        self.taps.remove()
        self._stripped |= len(self.branches) > 0
        self.branches = nn.ModuleList()
        return self.network

    def _check_equal_without_taps(self, batch: Any) -> None:
        outputs = []
        for tapped in (True, False):
            self.reset()
            try:
                # evaluation() restores the random state, so both passes draw the same numbers.
                with evaluation(self.network), self._batch_size(*inputs_of(self.network, batch)):
                    if tapped:
                        self.taps.start()
                    else:
                        self.taps.remove()
                    output = call_on(self.network, self.run, batch)
                    outputs.append(output if self.readout is None else self.readout(output))
            finally:
                self.taps.cancel()
                self.taps.install()
                self.reset()
        problem = difference(*outputs)
        if problem is not None:
            raise ValueError(
                f"{type(self.network).__name__} gives one output with the taps and another without: {problem}; "
                "if its neurons keep state from one call to the next, pass reset=... to the wrapper"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy; neuron state with a graph, which torch refuses to copy, is detached in it."""
        memo |= detached_states(self)
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in vars(self).items():
            twin.__dict__[name] = copy.deepcopy(value, memo)
        return twin

    def extra_repr(self) -> str:
        """Show the taps and the inferred layout."""
        taps = f"taps={self.taps.names}"
        return taps if self.layout is None else f"{taps}\n{self.layout.summary()}"


def _fit_steps(logits: Tensor, steps: int) -> Tensor:
    """Return predictions ``[T, N, ...]`` averaged over parts of the time, or repeated, so that there are ``steps``."""
    if len(logits) == steps:
        return logits
    return adaptive_avg_pool1d(logits.flatten(1).T, steps).T.reshape(steps, *logits.shape[1:])


def difference(expected: Tensor, actual: Tensor) -> str | None:
    """Describe how two tensors differ; None if they have the same shape, dtype and bits (NaN included)."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return f"{expected.dtype} {tuple(expected.shape)} became {actual.dtype} {tuple(actual.shape)}"
    if not expected.numel():
        return None
    expected_bytes, actual_bytes = (x.detach().contiguous().view(-1, 1).view(torch.uint8) for x in (expected, actual))
    differing = (expected_bytes != actual_bytes).any(1)
    if not differing.any():
        return None
    largest = (expected.double() - actual.double()).abs().max().item()
    return f"{int(differing.sum())} of {len(differing)} values differ, by up to {largest:g}"


def _check_samples(taps: Taps, tapped: Sequence[Tensor], main: Any, shape: tuple[int, ...] | None) -> None:
    """Check that every tap has as many samples as the prediction, where the axis of samples is certain."""
    axis = 1 if taps.every_step else 0
    dims = axis + (2 if shape is None else 1 + len(shape))
    for name, features in zip(taps.names, tapped, strict=True):
        if isinstance(main, Tensor) and main.dim() == dims and features.shape[axis] != main.shape[axis]:
            raise ValueError(
                f"tap {name!r} gives {features.shape[axis]} samples where the network gives {main.shape[axis]}: pass "
                "another time_axis, or extract=... that returns its features of the samples, or tap another module"
            )
