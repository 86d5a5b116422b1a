"""The wrapper that trains a network with shortcut branches and never rewrites it."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import components
from .batches import primary
from .description import Description
from .heads import Branch, DenseBranch, Head
from .objectives import ShortcutOutput
from .passes import Reset, call_on, called, dry_copy, evaluation, example_of, inputs_of, states
from .taps import Extract, Taps, TimeAxis, Unfold, resolve, unfolding


class Shortcut(nn.Module):
    """Shortcut back-propagation around any spiking network (paper, method section).

    Branches live outside the network: it keeps its parameters and state keys, and what ships is
    ``model.network`` (or :meth:`strip`). In training mode a call returns a :class:`ShortcutOutput` with
    branch logits; in eval mode the branches are not computed and ``branches`` is empty. For networks of SpikingJelly,
    snnTorch, Norse or plain PyTorch, :func:`shortcut_snn.attach` finds the arguments.

    Args:
        network: maps a batch to logits ``[N, num_classes]``, or to what else is predicted (or see ``readout``).
        taps: ``"stages"`` (the end of each stage but the last), ``"blocks"`` (each block but the last), or
            names of submodules. An empty list is vanilla training.
        num_classes: width of the branches' logits; for other tasks, how many numbers are predicted.
        shape: of what is predicted for a sample, where that has several axes, as (steps, variables) of a forecast: a
            head that gives one axis gives all these numbers, and what it gives is brought to this shape.
        example: a batch for the dry pass that finds the branches' input widths; its values do not matter. May
            be left out for a network that offers ``example_input()``, as ours do.
        time_axis: where time lies in tapped outputs: 0 for ``[T, N, C, ...]``, 1 for ``[N, T, C, ...]``, None
            for networks that are called once per time step; or a list of these, one for each tap.
        channel_axis: where channels lie in tapped outputs, as in -1 for tokens ``[N, L, C]`` or images
            ``[N, H, W, C]``; by default the axis behind batch and time; or a list of these, one for each tap.
        extract: takes a tapped module's output and returns its tensor; by default the output itself or the
            first entry of a tuple; or a list of these, one for each tap.
        readout: takes the network's output and returns logits ``[N, num_classes]``, as in
            ``lambda y: y.mean(0)`` for a network that gives the logits of every time step; by default the output
            itself.
        run: takes the network and the wrapper's arguments and returns the network's output, as ``TimeLoop`` does
            for a network that computes one time step a call; by default one call.
        head: what a branch computes of its tap: ``(channels, num_classes) -> module`` (see :mod:`.heads`), or the
            entries of a registered one, as in ``"conv"`` or ``{"kind": "linear", "init_std": 0.0}``; by default
            ``"linear"``, or ``"dense"`` where the network gives ``[N, K, H, W]``.
        reset: puts the network's neurons to rest. It is called before and after every pass, so that neither state nor
            graph goes from one to the next; by default nothing is done, which suits neurons that keep nothing.

    Raises:
        ValueError: an unknown tap (the message lists the names there are), or no example to run.

    Initialising the branches leaves torch's random state as it was, so the network and the data see the same
    random numbers with and without branches.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> model = Shortcut(network, ["1"], num_classes=3, example=torch.rand(2, 4), time_axis=None)
        >>> [logits.shape for logits in model(torch.rand(2, 4)).branches]
        [torch.Size([2, 3])]
        >>> model.strip() is network
        True
    """

    def __init__(
        self,
        network: nn.Module,
        taps: str | Sequence[str] = "stages",
        *,
        num_classes: int,
        shape: Sequence[int] | None = None,
        example: Any = None,
        time_axis: TimeAxis | Sequence[TimeAxis] = 0,
        channel_axis: int | Sequence[int | None] | None = None,
        extract: Extract | Sequence[Extract | None] | None = None,
        readout: Extract | None = None,
        run: Callable[..., Any] | None = None,
        head: Head | str | Mapping[str, Any] | None = None,
        reset: Reset | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"the network must be a torch.nn.Module, got {type(network).__name__}")
        if not isinstance(num_classes, int):
            raise TypeError(f"num_classes must be a whole number, got {num_classes!r}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.network = network
        names = resolve(network, taps)
        self.readout, self.run, self._reset = readout, run, reset
        self._shape = None if shape is None else tuple(shape)
        self.description: Description | None = None
        """What :func:`shortcut_snn.attach` found out about the network."""
        self.objective: Any = None
        """The objective of the method by name that it was given, and the lambda schedule."""
        self.balance: Any = None
        self.widths: dict[str, float] = {}
        """What it calibrated, as :func:`shortcut_snn.calibrate` returns it."""
        self.branches = nn.ModuleList()
        if names:
            batch, probe = example_of(network, example), dry_copy(network, reset)
            listening = Taps(probe, names, time_axis, extract, channel_axis)
            listening.pools = [False] * len(names)
            with evaluation(probe):
                listening.start()
                main = call_on(probe, run, batch)
                found = listening.stop()
                main = main if readout is None else readout(main)
                _check_samples(names, found, main, self._shape)
            if head is None:
                head = DenseBranch if isinstance(main, Tensor) and main.dim() == 4 else Branch
            make: Head = components.read(components.head, head, "head") if isinstance(head, str | Mapping) else head
            # On the CPU first: the same seed gives the same branches on every device.
            reference = next(nn.Module.parameters(network), torch.empty(0))
            with torch.random.fork_rng(devices=[]), torch.device("cpu"):
                built = [self._head(make, tapped, num_classes) for tapped in found]
            # A network may be spread over devices.
            self.branches.extend(b.to(p.device, reference.dtype) for b, p in zip(built, found, strict=True))
        self.taps = Taps(network, names, time_axis, extract, channel_axis)
        self.taps.pools = [getattr(branch, "pools", True) for branch in self.branches]

    def _head(self, make: Head, tapped: Tensor, num_classes: int) -> nn.Module:
        head = make(tapped.shape[1], num_classes)
        if self._shape is None:
            return head
        pooled = tapped.flatten(2).mean(2) if getattr(head, "pools", True) and tapped.dim() > 2 else tapped
        with evaluation(head):
            axes = head(pooled.to("cpu", torch.get_default_dtype())).dim()
        return make(tapped.shape[1], math.prod(self._shape)) if axes == 2 else head

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
        self.reset()
        try:
            if listening:
                self.taps.start()
            with self._unfolding(args, kwargs):
                main = self._main(*args, **kwargs)
            tapped = self.taps.stop() if listening else []
            if listening:
                _check_samples(self.taps.names, tapped, main, self._shape, 1 if self.taps.every_step else 0)
        finally:
            self.taps.cancel()
            self.reset()
        if not listening:
            return ShortcutOutput(main)
        return ShortcutOutput(main, tuple(self.predict(tapped, main)))

    def predict(self, tapped: Sequence[Tensor], main: Tensor) -> list[Tensor]:
        """Return what the branches predict of tapped outputs, on the device and with the space of the main output."""
        predicted = []
        for branch, x in zip(self.branches, tapped, strict=True):
            steps = x.shape[:2] if self.taps.every_step else None
            x = x if steps is None else x.flatten(0, 1)
            y = branch(x.to(next(branch.parameters(), x).dtype)).to(main.device)
            if y.shape[1:] == (1,) and main.dim() == (1 if steps is None else 2):
                # One number for each sample, without an axis of its own.
                y = y.squeeze(1)
            elif self._shape is not None and y.dim() == 2:
                y = y.unflatten(1, self._shape)
            else:
                # No axis of space for logits, one for sequences, two for images.
                space = main.shape[main.dim() - y.dim() + 2 :] if y.dim() > 2 else y.shape[2:]
                mode = {3: "linear", 4: "bilinear", 5: "trilinear"}.get(y.dim(), "nearest")
                y = y if y.shape[2:] == space else F.interpolate(y, list(space), mode=mode)
            predicted.append(y if steps is None else y.unflatten(0, steps))
        return predicted

    def _unfolding(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AbstractContextManager[None]:
        """Where time lies in the batch axis, have it as long as this batch's, which may not be the example's."""
        axis = None if self.description is None else self.description.batch_axis
        readout = getattr(self.readout, "readout", self.readout)
        folded = any(isinstance(each, Unfold) for each in (*self.taps.extracts, getattr(readout, "unfold", None)))
        return nullcontext() if axis is None or not folded else unfolding(primary((args, kwargs)).shape[axis])

    def _main(self, *args: Any, **kwargs: Any) -> Tensor:
        output = called(self.network, self.run, *args, **kwargs)
        main: Tensor = output if self.readout is None else self.readout(output)
        return main

    def reset(self) -> None:
        """Put the network's neurons to rest, as is done before and after every pass; or do nothing, if told so.

        A method, since SpikingJelly's ``functional.reset_net`` calls ``reset`` of every module that has one.
        """
        if self._reset is not None:
            self._reset(self.network)

    def strip(self, check: Any = None) -> nn.Module:
        """Take the hooks off and return the network: the one that was put in, trained.

        Args:
            check: a batch on which to prove it: in eval mode the main output with the taps listening and the output
                of the network without them must have the same bits. The network is left as it was.

        Raises:
            ValueError: they differ; the message says how, and the wrapper is still whole.
        """
        if check is not None:
            self._prove(check)
        self.taps.remove()
        self.branches = nn.ModuleList()
        return self.network

    def _prove(self, batch: Any) -> None:
        mains = []
        for tapped in (True, False):
            self.reset()
            try:
                # What is drawn in both passes is the same.
                with evaluation(self.network), self._unfolding(*inputs_of(self.network, batch)):
                    if tapped:
                        self.taps.start()
                    else:
                        self.taps.remove()
                    output = call_on(self.network, self.run, batch)
                    mains.append(output if self.readout is None else self.readout(output))
            finally:
                self.taps.cancel()
                self.taps.install()
                self.reset()
        found = difference(*mains)
        if found is not None:
            raise ValueError(
                f"{type(self.network).__name__} gives one output with the taps and another without: {found}; "
                "if its neurons keep their state from one call to the next, give the wrapper a reset=..."
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy also what torch refuses to copy, a neuron's state with its graph: the copy gets the values."""
        memo |= states(self)
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in vars(self).items():
            twin.__dict__[name] = copy.deepcopy(value, memo)
        return twin

    def extra_repr(self) -> str:
        """Show where the branches are."""
        shown = f"taps={self.taps.names}"
        return shown if self.description is None else f"{shown}\n{self.description}"


def difference(expected: Tensor, got: Tensor) -> str | None:
    """Say in words how two tensors differ; None if they have the same shape, dtype and bits (NaN included).

    Example:
        >>> difference(torch.zeros(2), torch.tensor([0.0, 0.5]))
        '1 of 2 values differ, by up to 0.5'
    """
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return f"{expected.dtype} {tuple(expected.shape)} became {got.dtype} {tuple(got.shape)}"
    if not expected.numel():
        return None
    one, other = (x.detach().contiguous().view(-1, 1).view(torch.uint8) for x in (expected, got))
    differing = (one != other).any(1)
    if not differing.any():
        return None
    largest = (expected.double() - got.double()).abs().max().item()
    return f"{int(differing.sum())} of {len(differing)} values differ, by up to {largest:g}"


def _check_samples(
    names: Sequence[str], found: Sequence[Tensor], main: Any, shape: tuple[int, ...] | None, axis: int = 0
) -> None:
    # Of logits, and of predictions whose shape is known, it is certain where samples are.
    dims = axis + (2 if shape is None else 1 + len(shape))
    for name, pooled in zip(names, found, strict=True):
        if isinstance(main, Tensor) and main.dim() == dims and pooled.shape[axis] != main.shape[axis]:
            raise ValueError(
                f"tap {name!r} gives {pooled.shape[axis]} samples where the network gives {main.shape[axis]}: its "
                "output is not laid out as time_axis says; tap a module whose output has this time axis, or give it "
                "another time_axis, or say with extract=... which part of it the samples are"
            )
