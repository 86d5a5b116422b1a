"""Kernels allocate their workspace independently of the default dtype and device."""

from collections.abc import Iterator

import pytest
import torch

from shortcut_snn.nets import SpikeConv2d
from shortcut_snn.neurons import LIF, PLIF, ATan, NormNeuron, Rectangle, use_backend
from shortcut_snn.neurons.cpu import event_launch, launch
from shortcut_snn.neurons.surrogate import Surrogate

from ..every_neuron import is_active
from .under_test import KERNELS

pytestmark = pytest.mark.skipif(KERNELS != "numba", reason="pointers are numba's")


@pytest.fixture(params=["bfloat16", "float64", "meta"])
def default(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the name of a default that the test sets; the previous one is restored."""
    dtype = torch.get_default_dtype()
    yield request.param
    torch.set_default_dtype(dtype)
    if request.param == "meta":
        torch.set_default_device(None)


@pytest.mark.parametrize("surrogate", [Rectangle(), ATan()])
def test_convolutions_of_spikes_do_not_depend_on_defaults(default: str, surrogate: Surrogate) -> None:
    torch.manual_seed(0)
    norm, convolution = (
        NormNeuron(torch.nn.BatchNorm2d(16), LIF(surrogate=surrogate)),
        SpikeConv2d(16, 32, 3, padding=1),
    )
    x = (torch.randn(4, 2, 8, 8, 16) - 1.2).movedim(-1, 2)
    weight = torch.randn(8, 32, 8, 8)

    def outputs() -> list[torch.Tensor]:
        # The table of the narrow kernel is made at its first call.
        event_launch._values.cache_clear()
        current = x.clone().requires_grad_()
        out = convolution(norm(current).flatten(0, 1))
        return [out, *torch.autograd.grad((out * weight).sum(), [current, *convolution.parameters()])]

    with use_backend(KERNELS):
        expected = outputs()
        if default == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(getattr(torch, default))
        got = outputs()
    assert is_active(*expected)
    assert all(torch.equal(one, two) for one, two in zip(got, expected, strict=True))


def test_the_default_dtype_and_device_change_nothing(default: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allocated = []
    empty = torch.empty

    def checked_empty(*args: object, **kwargs: object) -> torch.Tensor:
        allocated.append(empty(*args, **kwargs))
        if allocated[-1].device.type != "cpu" or (allocated[-1].dtype != torch.float32 and "dtype" not in kwargs):
            raise AssertionError("kernels would write past this tensor")
        return allocated[-1]

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
        monkeypatch.setattr(launch.torch, "empty", checked_empty)
        if default == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(getattr(torch, default))
        got = outputs()
    assert allocated
    assert is_active(*expected)
    assert all(torch.equal(one, two) for one, two in zip(got, expected, strict=True))
