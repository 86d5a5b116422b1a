"""Networks whose time lies in the batch axis, given another number of time steps than the example has."""

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from shortcut_snn import attach
from shortcut_snn.method.taps import Unfold, batch_of

LABELS = torch.arange(5) % 3


class Folded(nn.Module):
    """Layers take ``[T * N, C]``, and so are its logits, unless it averages them."""

    def __init__(self, average: bool) -> None:
        super().__init__()
        self.average = average
        self.layers = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)])
        self.neurons = nn.ModuleList([neuron.LIFNode(step_mode="m") for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        steps, x = len(x), x.flatten(0, 1)
        for layer, spiking in zip(self.layers, self.neurons, strict=False):
            x = spiking(layer(x).unflatten(0, (steps, -1))).flatten(0, 1)
        x = self.layers[2](x)
        return x.unflatten(0, (steps, -1)).mean(0) if self.average else x


@pytest.mark.parametrize("average", [True, False])
def test_predictions_are_those_of_this_batchs_time_steps(average: bool) -> None:
    options = {"example": 6 * torch.rand(4, 5, 6), "labels": LABELS, "log": lambda line: None}
    model = attach(Folded(average), ["layers.1"], **options)
    every = None if average else attach(Folded(average), ["layers.1"], method="stages_and_steps", **options)
    assert isinstance(model.taps.taps[0].extract, Unfold)
    for steps in (4, 8):
        again = attach(Folded(average), layout=model.layout, **options | {"example": 6 * torch.rand(steps, 5, 6)})
        assert again.layout.taps[0].shape == (steps, 5, 8)
    for steps, samples in ((4, 5), (2, 10), (8, 1), (5, 3)):
        x, tapped = 6 * torch.rand(steps, samples, 6), []
        handle = model.network.layers[1].register_forward_hook(lambda *given, to=tapped: to.append(given[-1]))
        output = model.train()(x)
        handle.remove()
        expected = model.network(x)
        model.reset()
        expected = expected if average else expected.unflatten(0, (steps, samples)).mean(0)
        torch.testing.assert_close(output.main, expected)
        features = tapped[0].unflatten(0, (steps, samples)).mean(0)
        torch.testing.assert_close(output.branches[0], model.branches[0](features))
        torch.testing.assert_close(model.eval()(x).main, expected)
        if every is not None:
            assert every(x).main.shape == every(x).branches[0].shape == (steps, samples, 3)
    assert isinstance(model.strip(check=x), Folded)


def test_unfold_needs_a_multiple() -> None:
    with pytest.raises(ValueError, match="T = 4"):
        Unfold(4)(torch.ones(10, 3))
    with batch_of(3), pytest.raises(ValueError, match="3 samples"):
        Unfold(4)(torch.ones(10, 3))
