"""Taps over time: copies, failures and what is kept between calls."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor

from shortcut_snn import Shortcut
from shortcut_snn.method.heads import pool

from .toys import Fickle, Staged, hooks
from .wrapped import wrapped


def fickle() -> Shortcut:
    return wrapped(Fickle(), ["layer1", "layer2"], num_classes=3, example=torch.zeros(2, 4), time_axis=None)


def watch(network: Fickle) -> list[weakref.ref[Tensor]]:
    """References to the outputs of the first stage, which pooling passes on as they are."""
    seen: list[weakref.ref[Tensor]] = []
    network.layer1.register_forward_hook(lambda _module, _inputs, output: seen.append(weakref.ref(output)))
    return seen


def alive(seen: list[weakref.ref[Tensor]]) -> int:
    gc.collect()
    return sum(reference() is not None for reference in seen)


def test_a_tap_that_is_not_called_is_named() -> None:
    network = Staged()
    network.unused = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match=r"tapped but not called in the forward pass: unused$"):
        wrapped(network, ["layer1", "unused"], num_classes=3, example=torch.zeros(2, 2, 4))
    assert hooks(network) == 0


class Rebuilt(torch.nn.ReLU):
    """Copies itself without its hooks, as layers of sinabs do."""

    def __deepcopy__(self, memo: object) -> "Rebuilt":
        return Rebuilt()


def test_a_copy_has_taps_on_modules_that_copy_themselves() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), Rebuilt(), torch.nn.Linear(4, 3))
    model = wrapped(network, ["1"], num_classes=3, example=torch.zeros(2, 4), time_axis=None)
    twin, x = copy.deepcopy(model), torch.rand(2, 4)
    assert torch.equal(twin(x).branches[0], model(x).branches[0])
    assert hooks(twin.strip()) == 0
    assert hooks(network) == 1


@pytest.mark.parametrize(
    ("failure", "error", "message"),
    [("skip", RuntimeError, r"not called in the forward pass: layer2$"), ("fail", ArithmeticError, "failed")],
)
def test_training_resumes_after_a_failed_forward_pass(failure: str, error: type[Exception], message: str) -> None:
    model, x = fickle(), torch.randn(2, 4)
    before = model(x)
    seen = watch(model.network)
    with pytest.raises(error, match=message):
        model(x, **{failure: True})
    assert len(seen) == 1
    assert alive(seen) == 0
    assert all(torch.equal(a, b) for a, b in zip(model(x).branches, before.branches, strict=True))


def test_no_tensor_outlives_the_output() -> None:
    model, x = fickle(), torch.randn(2, 4)
    seen = watch(model.network)
    output = model(x)
    assert alive(seen) == 1
    del output
    assert alive(seen) == 0
    model.eval()(x)
    model.network(x)
    assert len(seen) == 3
    assert alive(seen) == 0


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_independent_of_the_original(duplicate) -> None:
    model, x = wrapped(Staged(), num_classes=3, example=torch.zeros(2, 2, 4)), torch.randn(2, 5, 4)
    before, state = model(x), {key: value.clone() for key, value in model.state_dict().items()}
    twin = duplicate(model)
    assert all(torch.equal(a, b) for a, b in zip(twin(x).branches, before.branches, strict=True))

    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        output = twin(x)
        sum(logits.square().sum() for logits in (output.main, *output.branches)).backward()
        optimizer.step()

    # The original has not moved, and its taps have not heard of the copy.
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
        assert not torch.equal(value, twin.state_dict()[key]), key
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(model(x).branches, before.branches, strict=True))
    # The copy's taps feed the copy's branches with the copy's stages.
    first = twin.network.layer1(x)
    assert torch.equal(twin(x).branches[0], twin.branches[0](pool(first, 0)))
    assert torch.equal(twin(x).branches[1], twin.branches[1](pool(twin.network.layer2(first), 0)))
