"""A network through the harness of NeuroBench."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..inspection import preserving_state
from ..introspection.neurons import neurons
from ..method import Shortcut
from ..method.passes import Reset, call_on
from .measure import way_of


def neurobench_metrics(
    network: nn.Module,
    loader: DataLoader[Any],
    prepare: Callable[[Any], tuple[Any, Any]] = tuple,
    *,
    time_steps: int | None = None,
    reset: Reset | None = None,
) -> dict[str, Any]:
    """Return what NeuroBench's own benchmark finds of a classifier; the network is left as it was.

    J. Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems", Nature
    Communications 16, 2025. It is called, put to rest and in eval mode as :func:`.measure_energy` does it. With that,
    these agree: ``Effective_ACs`` are the additions, where no weight is 0, no attention multiplies activations and no
    :class:`.ILIF` gives whole numbers; ``Dense`` the additions and multiplications if every input were one, padding
    left out; and ``ActivationSparsity`` is 1 less spikes per neuron and time step. ``Effective_MACs`` are fewer than
    the multiplications, of which NeuroBench leaves out those with 0 and padding. Of biases, norms and the neurons' own
    updates it counts none either.

    Args:
        network: of this library, or any that :func:`.measure_energy` takes.
        loader: batches of inputs and labels ``[N]``, samples along the first axis of both.
        prepare: makes of a batch what the network takes and the labels, as :meth:`.Task.ready` does; by default they
            are the batch.
        time_steps: T; by default as found.
        reset: puts the neurons to rest; by default it is found.

    Returns:
        By NeuroBench's names ``ParameterCount``, ``Footprint`` (bytes of parameters and buffers),
        ``ConnectionSparsity``, ``ActivationSparsity``, ``ClassificationAccuracy`` (of logits ``[N, classes]``, or their
        mean over ``[T, N, classes]``), and ``SynapticOperations`` of a sample: ``Effective_MACs``, ``Effective_ACs``
        and ``Dense``.

    Raises:
        ValueError: NeuroBench is not installed or fails, or something cannot be told about the network.
    """
    try:
        from neurobench.benchmarks import Benchmark
        from neurobench.metrics import static, workload
        from neurobench.models import TorchModel
    except ModuleNotFoundError as error:
        raise ValueError(f"NeuroBench is needed ({error}): pip install 'shortcut-snn[neurobench]'") from None
    batch = next(iter(loader))
    inputs, _ = prepare(batch)
    way = way_of(network, inputs, time_steps, reset)
    if way.samples(inputs) != len(batch[0]):
        raise ValueError(
            f"the loader's first batch has {len(batch[0])} rows and {way.samples(inputs)} samples: NeuroBench needs "
            "samples along the first axis; let prepare move time before them"
        )
    twin = way.copied(network.network if isinstance(network, Shortcut) else network)

    class Model(TorchModel):  # type: ignore[misc]
        def __call__(self, batch: Any) -> Any:
            way.rest(twin)
            return call_on(twin, way.run, batch)

    def classes(logits: Tensor) -> Tensor:
        return (logits.mean(0) if logits.dim() == 3 else logits).argmax(-1)

    measured = [
        [static.ParameterCount, static.Footprint, static.ConnectionSparsity],
        [workload.ActivationSparsity, workload.ClassificationAccuracy, workload.SynapticOperations],
    ]
    said, bar = io.StringIO(), io.StringIO()
    with preserving_state(twin, training=False), torch.no_grad(), redirect_stdout(said), redirect_stderr(bar):
        model = Model(twin)
        for kind in {type(neuron) for neuron in neurons(twin).values()}:
            model.add_activation_module(kind)
        try:
            found: dict[str, Any] = Benchmark(model, loader, [prepare], [classes], measured).run()
        finally:
            model.cleanup_hooks()
    # It takes the metric of a failure for 0, and prints why.
    failures = [line for line in said.getvalue().splitlines() if line.startswith("Error running")]
    if failures:
        raise ValueError(f"NeuroBench failed: {failures[0]}")
    return found
