"""Kernels allocate their workspace independently of the default dtype and device."""

from collections.abc import Iterator

import pytest
import torch

from shortcut_snn.neurons import PLIF, ATan, NormNeuron, use_backend
from shortcut_snn.neurons.cpu import launch

from ..every_neuron import is_active
from .under_test import KERNELS

pytestmark = pytest.mark.skipif(KERNELS != "numba", reason="pointers are numba's")


@pytest.fixture(params=["bfloat16", "meta"])
def default(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the name of a default that the test sets; the previous one is restored."""
    dtype = torch.get_default_dtype()
    yield request.param
    torch.set_default_dtype(dtype)
    if request.param == "meta":
        torch.set_default_device(None)


def test_the_default_dtype_and_device_change_nothing(default: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    empty = torch.empty

    def noted(*args: object, **kwargs: object) -> torch.Tensor:
        made.append(empty(*args, **kwargs))
        if made[-1].device.type != "cpu" or made[-1].dtype == torch.bfloat16:
            raise AssertionError("kernels would write past this tensor")
        return made[-1]

    layer, plain = NormNeuron(torch.nn.BatchNorm2d(3), PLIF(surrogate=ATan())), PLIF(0.3)
    x, weight = torch.randn(4, 5, 3, 7, 7), torch.randn(4, 5, 3, 7, 7)

    def outputs() -> list[torch.Tensor]:
        current = x.clone().requires_grad_()
        spikes, alone = layer(current), plain(current)
        inputs = [current, *layer.parameters(), *plain.parameters()]
        return [spikes, alone, *torch.autograd.grad(((spikes + alone) * weight).sum(), inputs)]

    with use_backend(KERNELS):
        expected = outputs()
        # In the module, since defaults hold for torch's function of that name however it is reached.
        monkeypatch.setattr(launch.torch, "empty", noted)
        if default == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(torch.bfloat16)
        got = outputs()
    assert made
    assert is_active(*expected)
    assert all(torch.equal(one, two) for one, two in zip(got, expected, strict=True))
