"""Run a spiking network through the harness of NeuroBench and compare its synaptic operations with ours.

``pip install neurobench`` (2.3 or newer), then ``python examples/neurobench_harness.py``. NeuroBench is described in
J. Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems", Nature
Communications 16, 2025.

The figures agree where they mean the same. ``Effective_ACs`` are our ACs, if no weight is 0. ``ActivationSparsity`` is
1 minus the firing rate. ``Effective_MACs`` are fewer than our MACs, since NeuroBench leaves out zeros and padding. It
does not count the products of activations in attention.
"""

from typing import Any

from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import Footprint, ParameterCount
from neurobench.metrics.workload import ActivationSparsity, ClassificationAccuracy, SynapticOperations
from neurobench.models import TorchModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from shortcut_snn import measure_energy, nets
from shortcut_snn.data import Digits
from shortcut_snn.neurons import Neuron

METRICS = [[ParameterCount, Footprint], [ActivationSparsity, ClassificationAccuracy, SynapticOperations]]


def benchmark(network: nn.Module, loader: DataLoader[Any]) -> dict[str, Any]:
    """Return NeuroBench's figures of a classifier with built-in neurons, in eval mode.

    Args:
        network: maps images ``[N, C, H, W]`` to logits ``[N, classes]``.
        loader: batches of images and labels ``[N]``.
    """
    model = TorchModel(network.eval())
    for kind in {type(module) for module in network.modules() if isinstance(module, Neuron)}:
        model.add_activation_module(kind)

    def predict(logits: Tensor) -> Tensor:
        return logits.argmax(-1)

    try:
        figures: dict[str, Any] = Benchmark(model, loader, [], [predict], METRICS).run()
    finally:
        model.cleanup_hooks()
    return figures


def main() -> None:
    """Benchmark an untrained ResNet-18 on digits."""
    images, labels = Digits(test_limit=100).load().sample(100)
    images = images / 255
    network = nets.spiking_resnet18(10, time_steps=4, width=8, in_channels=1)
    figures = benchmark(network, DataLoader(TensorDataset(images, labels), batch_size=50))
    report = measure_energy(network, [images])
    print(figures)
    print(f"ACs per image: NeuroBench {figures['SynapticOperations']['Effective_ACs']:.0f}", end=", ")
    print(f"shortcut_snn {sum(layer.acs for layer in report.layers):.0f}")


if __name__ == "__main__":
    main()
