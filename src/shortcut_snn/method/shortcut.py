"""Shortcut: the wrapper that trains a network with branches and never rewrites it."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .._utils.calls import call_on, check_is_module, detached_states, evaluation, inputs_of, primary
from .._utils.module_state import preserving_state
from .heads import fit_prediction, fit_steps
from .layout import Layout, Readout
from .method import Method, method_named
from .objectives import ShortcutOutput
from .taps import Taps, Unfold, batch_of
from .targets import Criterion, are_classes, refuse_broadcasting


class Shortcut(nn.Module):
    """Shortcut back-propagation around any spiking network (paper, method section).

    A branch reads the output of a submodule, its tap, and predicts from it through an auxiliary head. The branches live
    in the wrapper: the network keeps its parameters and state keys, and ``model.network`` is the deployed network.
    In training mode a call returns the predictions of network and branches. In eval mode the branches do not run.
    :func:`shortcut_snn.attach` and :func:`shortcut_snn.wrap` make the heads and return a wrapper.

    Args:
        network: maps a batch to a prediction, as the layout says.
        layout: how the network is called, reset, read and tapped.
        heads: one module for each tap of the layout.
        method: objective, branch weight and other settings of training, or None. It can be set later, once.

    Raises:
        TypeError: the network is not a module.
        ValueError: the network is wrapped already, or cannot give what the method needs.

    Example:
        >>> from shortcut_snn import wrap
        >>> from shortcut_snn.method import Tap
        >>> network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> layout = Layout(num_classes=3, taps=(Tap("1", time_axis=None),))
        >>> images, labels = torch.rand(2, 4), torch.arange(2)
        >>> model = wrap(network, layout, "loss_sum", example=images, log=lambda line: None)
        >>> model.loss(model(images), labels, 0, 100).shape, model.branch_weight(50, 100)
        (torch.Size([]), 0.125)
        >>> model.strip() is network
        True
    """

    _stripped = False
    _targets_are_checked = False
    truncated: Sequence[str] = ()
    """Neurons whose membrane the method detached. :meth:`strip` undoes it."""

    def __init__(
        self, network: nn.Module, layout: Layout, heads: Sequence[nn.Module] = (), method: Method | None = None
    ) -> None:
        super().__init__()
        check_is_module(network)
        if isinstance(network, Shortcut):
            raise ValueError("the network is wrapped already: pass what its .strip() returns")
        if layout.taps and isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise ValueError(
                f"the branches would lie outside {type(network).__name__}: wrap its .module, then put the wrapper in "
                "DistributedDataParallel"
            )
        self.network = network
        self.layout = layout
        self.branches = nn.ModuleList(heads)
        self.initialisation: Any = None
        """What :func:`shortcut_snn.initialise` returned for this wrapper; None before."""
        self._readout = layout.readout
        # wrap sets the method's gradient mechanism in the network before it makes the wrapper.
        self._method = method
        if method is not None:
            self.method = method
        self.taps = Taps(network, layout.taps)
        self.taps.every_step = layout.step_axis is not None
        self.taps.pools = [getattr(branch, "pools", True) for branch in self.branches]

    @property
    def method(self) -> Method | None:
        """The method with which the network trains; None before one is set."""
        return self._method

    @method.setter
    def method(self, method: Method | str) -> None:
        method = cast(Method, method_named(method))
        if method.gradient != (self._method or Method()).gradient:
            raise ValueError(
                f"only attach and wrap can set the gradient mechanism ({method}): pass this method to one of them"
            )
        if method.needs_every_step and self.layout.step_axis is not None:
            raise ValueError(
                "labels of every time step have a loss at each step already: use a method such as loss_sum, or pass "
                "labels [N] to tet and step losses, without step_axis"
            )
        if method.needs_every_step and not self.layout.has_steps(self.network):
            raise ValueError(
                f"the method needs the logits of every time step, which {type(self.network).__name__} does not return: "
                "change the network, name the axis of time in a readout, or use another method"
            )
        if method.branches is not None and not self.branches:
            raise ValueError(
                f"the method has branches ({method}) and the wrapper has none: give the layout taps, as "
                'network.layout("blocks"), or wrap the network with attach'
            )
        self._method = method

    def branch_weight(self, step: int, steps: int) -> float:
        """Return lambda at a training step; 0 without a method or branches."""
        return 0.0 if self._method is None else self._method.branch_weight(step, steps)

    def loss(
        self, output: ShortcutOutput, target: Any, step: int, steps: int, criterion: Criterion | None = None
    ) -> Tensor:
        """Return the loss of a batch at a training step.

        Args:
            output: what the wrapper returned.
            target: as the criterion takes it.
            step: training steps that are done.
            steps: of the whole training.
            criterion: the loss of one prediction; by default the layout's.

        Raises:
            TypeError: the output is not that of a wrapper.
            ValueError: the wrapper has no method, its network was not initialised as the method says, or the method
                rounds weights or has a penalty.
        """
        if self._method is not None and self._method.initialise and self.initialisation is None:
            raise ValueError(
                "the method initialises the network before training: call initialise(model, example, labels), or pass "
                "labels=... to attach or wrap"
            )
        if self._method is not None and self._method.weight_bits is not None:
            raise ValueError(
                "only tasks round weights: train with fit, or leave method.weight_bits out and call the network "
                "inside deploy.quantised_weights"
            )
        if self._method is not None and self._method.penalty is not None:
            raise ValueError(
                "only tasks add a penalty: train with fit, or leave method.penalty out and add it to the loss, for the "
                "rates of measurement.firing_rates(network)"
            )
        loss = self.weighted_loss(output, target, self.branch_weight(step, steps), criterion)
        if len(self.branches) and not output.branches and output.main.requires_grad:
            warnings.warn("the model is in eval mode, so its branches do not train: call model.train()", stacklevel=2)
        return loss

    def weighted_loss(
        self, output: ShortcutOutput, target: Any, branch_weight: float, criterion: Criterion | None = None
    ) -> Tensor:
        """Return the loss of a batch for a branch weight."""
        if self._method is None:
            raise ValueError("the wrapper has no method, so no loss: pass method=... to attach or wrap")
        if not isinstance(output, ShortcutOutput):
            raise TypeError(
                f"the output is a {type(output).__name__}, not the wrapper's: pass model(x) first, then labels"
            )
        criterion = criterion or self.layout.criterion
        if self.layout.step_axis == 0:
            # Every time step is a sample with a label of its own.
            if target.shape[:2] != output.main.shape[:2]:
                raise ValueError(
                    f"targets {list(target.shape)} are not [T, N, ...] as the output {list(output.main.shape)}: pass "
                    "labels.transpose(0, 1) if the axes are swapped"
                )
            branches = tuple(branch.flatten(0, 1) for branch in output.branches)
            output, target = ShortcutOutput(output.main.flatten(0, 1), branches), target.flatten(0, 1)
        if criterion is None:
            criterion = F.cross_entropy
            self._check_are_classes(target)
        criterion = refuse_broadcasting(criterion)
        loss: Tensor = self._method.objective(output, target, branch_weight, criterion)
        return loss

    def _check_are_classes(self, target: Any) -> None:
        # Once, since reading values makes a GPU wait.
        if not self._targets_are_checked and isinstance(target, Tensor) and not are_classes(target):
            raise ValueError(
                f"targets {list(target.shape)} are neither classes nor their probabilities: pass criterion=..., such "
                "as torch.nn.functional.mse_loss"
            )
        self._targets_are_checked = True

    def main_loss(self, output: ShortcutOutput, target: Any, criterion: Criterion | None = None) -> Tensor:
        """Return the loss of the network's own prediction, as with a branch weight of 0."""
        return self.weighted_loss(output, target, 0.0, criterion)

    def forward(self, *args: Any, **kwargs: Any) -> ShortcutOutput:
        """Run the network and, in training mode, the branches.

        In training mode a method that needs every time step gets ``[T, N, ...]``.

        Raises:
            RuntimeError: a tapped submodule was not called, or this is a replica of ``nn.DataParallel``.
        """
        if getattr(self, "_is_replica", False):
            raise RuntimeError(
                "nn.DataParallel runs copies that share their hooks, so branches would mix: use DistributedDataParallel"
            )
        if self.training and self._stripped:
            # The frames of nn.Module's call lie between this one and the caller's.
            warnings.warn("strip() removed the branches: attach the network again to train with them", stacklevel=4)
        if self.training and self._method is not None and self._method.needs_every_step:
            with self.every_step():
                return self._run(args, kwargs)
        return self._run(args, kwargs)

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ShortcutOutput:
        listening = self.training and len(self.branches) > 0
        self._warn_of_swapped_axes(args, kwargs)
        self.reset()
        try:
            if listening:
                self.taps.start()
            with self.batch_size(args, kwargs):
                main = self.read(self.layout.call(self.network, *args, **kwargs))
            tapped = self.taps.stop() if listening else []
            if listening:
                check_predictions(self.taps, tapped, self.steps_first(main), self.layout)
                warn_of_frozen_taps(self.taps, tapped)
        finally:
            self.taps.cancel()
            self.reset()
        return ShortcutOutput(main, tuple(self.predict(tapped, main)) if listening else ())

    @contextmanager
    def every_step(self) -> Iterator[None]:
        """Let network, readout and taps give every time step, ``[T, N, ...]``, within the block."""
        network: Any = self.network
        before = getattr(network, "readout", None), self._readout, self.taps.every_step
        averages = isinstance(before[0], str) and not self.layout.reads_steps
        if averages:
            network.readout = "sequence"
        elif isinstance(self._readout, Readout):
            self._readout = replace(self._readout, steps=None)
        self.taps.every_step = True
        try:
            yield
        finally:
            if averages:
                network.readout = before[0]
            self._readout, self.taps.every_step = before[1:]

    def read(self, output: Any) -> Any:
        """Return the prediction in the network's output."""
        return output if self._readout is None else self._readout(output)

    def predict(self, tapped: Sequence[Tensor], main: Tensor) -> list[Tensor]:
        """Return the branches' predictions from tapped outputs, in the shape and on the device of the main output."""
        main = self.steps_first(main)
        predictions = [self._predict(branch, x, main) for branch, x in zip(self.branches, tapped, strict=True)]
        if self.layout.step_axis is None:
            return predictions
        return [fit_steps(each, len(main)).movedim(0, self.layout.step_axis) for each in predictions]

    def steps_first(self, main: Any) -> Any:
        """Return a prediction with its axis of time first, if it has one."""
        return main.movedim(self.layout.step_axis, 0) if self.layout.step_axis else main

    def _predict(self, branch: nn.Module, features: Tensor, main: Tensor) -> Tensor:
        steps = features.shape[:2] if self.taps.every_step else None
        sizes: Sequence[int] = main.shape
        if steps is not None:
            features, sizes = features.flatten(0, 1), (steps.numel(), *main.shape[2:])
        logits: Tensor = branch(features.to(next(branch.parameters(), features).dtype)).to(main.device)
        logits = fit_prediction(logits, sizes, self.layout.shape)
        return logits if steps is None else logits.unflatten(0, steps)  # type: ignore[no-untyped-call]

    def _warn_of_swapped_axes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Warn if a batch has T samples and another number of time steps, as one whose first axes are swapped."""
        layout = self.layout
        batch = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)), None)
        if batch is None or layout.time_axis is None or layout.batch_axis is None or batch.dim() < 2:
            return
        steps, samples = batch.shape[layout.time_axis], batch.shape[layout.batch_axis]
        if samples == layout.time_steps != steps:
            warnings.warn(
                f"the batch has {samples} samples and {steps} time steps, the example had {samples} time steps: if the "
                "first axes are swapped, pass batch.transpose(0, 1)",
                # The caller of the module.
                stacklevel=6,
            )

    def batch_size(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AbstractContextManager[None]:
        """Set the batch size for taps or a readout that split a batch axis into time and samples."""
        functions = [getattr(self._readout, "unfold", None), *(tap.extract for tap in self.taps.taps)]
        if self.layout.batch_axis is None or not any(isinstance(each, Unfold) for each in functions):
            return nullcontext()
        return batch_of(primary((args, kwargs)).shape[self.layout.batch_axis])

    def reset(self) -> None:
        """Return the network's neurons to their initial state, as before and after every forward pass.

        SpikingJelly's ``functional.reset_net`` calls this method as that of every module.
        """
        if self.layout.reset is not None:
            self.layout.reset(self.network)

    def strip(self, check: Any = None) -> nn.Module:
        """Remove the hooks and the branches, and return the network.

        The wrapper then is the network alone, and warns in training.

        Args:
            check: a batch to prove it on: in eval mode, the main output with and without the taps must be equal. The
                network is left as it was.

        Raises:
            ValueError: the outputs differ; the wrapper is unchanged.
        """
        if check is not None:
            self._check_equal_without_taps(check)
        self.taps.remove()
        self.truncate(False)
        self.truncated = ()
        self._stripped |= len(self.branches) > 0
        self.branches = nn.ModuleList()
        return self.network

    def truncate(self, on: bool) -> None:
        """Detach the membranes of :attr:`truncated` from the previous time step, or undo it."""
        for name in self.truncated:
            self.network.get_submodule(name).detach_membrane = on  # type: ignore[assignment]

    def _check_equal_without_taps(self, batch: Any) -> None:
        outputs = []
        for tapped in (True, False):
            self.reset()
            try:
                # Buffers and random states are restored, so both passes start alike.
                with (
                    preserving_state(self.network, training=False),
                    evaluation(self.network),
                    self.batch_size(*inputs_of(self.network, batch)),
                ):
                    if tapped:
                        self.taps.start()
                    else:
                        self.taps.remove()
                    outputs.append(self.read(call_on(self.network, self.layout.run, batch)))
            finally:
                self.taps.cancel()
                self.taps.install()
                self.reset()
        try:
            torch.testing.assert_close(*outputs, rtol=0, atol=0, equal_nan=True)
        except AssertionError as error:
            raise ValueError(
                f"{type(self.network).__name__} gives one output with the taps and another without: "
                f"{' '.join(str(error).split())}; if its neurons keep state from one call to the next, its layout "
                "needs a reset"
            ) from None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy; neuron state with a graph, which torch refuses to copy, is detached in it."""
        memo |= detached_states(self)
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        # Without the call that compile() bound to this model.
        for name, value in self.__getstate__().items():  # type: ignore[no-untyped-call]
            twin.__dict__[name] = copy.deepcopy(value, memo)
        return twin

    def extra_repr(self) -> str:
        """Show method, taps and layout."""
        return f"method={self._method}\n{self.layout.summary()}"


def warn_of_frozen_taps(taps: Taps, tapped: Sequence[Tensor]) -> None:
    """Warn if all layers before a tap are frozen, as they may be after the network was wrapped."""
    frozen = [name for name, features in zip(taps.names, tapped, strict=True) if not features.requires_grad]
    if frozen and torch.is_grad_enabled():
        warnings.warn(
            f"the branches of {', '.join(frozen)} train nothing, since all layers before them are frozen: tap deeper "
            "layers",
            # The caller of the module.
            stacklevel=6,
        )


def check_predictions(taps: Taps, tapped: Sequence[Tensor], main: Any, layout: Layout) -> None:
    """Check that taps and branches fit the prediction, where its axes are certain: its classes and its samples."""
    axis = 1 if taps.every_step else 0
    dims = axis + (2 if layout.shape is None else 1 + len(layout.shape))
    is_certain = isinstance(main, Tensor) and main.dim() == dims
    if is_certain and layout.shape is None and main.shape[-1] != layout.num_classes:
        raise ValueError(
            f"the network gives {main.shape[-1]} classes and its layout says {layout.num_classes}: if you replaced a "
            f"layer, strip the model and attach the network again; otherwise pass num_classes={main.shape[-1]}"
        )
    for name, features in zip(taps.names, tapped, strict=True):
        if is_certain and features.shape[axis] != main.shape[axis]:
            raise ValueError(
                f"tap {name!r} gives {features.shape[axis]} samples where the network gives {main.shape[axis]}: pass "
                "another time_axis, or extract=... that returns its features of the samples, or tap another module"
            )
