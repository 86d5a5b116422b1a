"""A neuron follows numbers that it reads elsewhere: in closures, globals and objects, when they change after a call."""

import copy
import functools
import io
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from shortcut_snn.neurons import LIF, ATan, Neuron
from shortcut_snn.neurons import functional as neurons_functional

STEEPNESS = 1.0
Move = Callable[[float], None]
Given = tuple[Callable[[], Neuron], Move]


class Settings:
    steepness = 1.0


def slope(v: Tensor, k: float) -> Tensor:
    return (1 - torch.tanh(k * v) ** 2) * k


def closure() -> Given:
    k = 1.0

    def move(value: float) -> None:
        nonlocal k
        k = value

    return lambda: LIF(surrogate=lambda v: slope(v, k)), move


def global_number() -> Given:
    def move(value: float) -> None:
        global STEEPNESS
        STEEPNESS = value

    move(1.0)
    return lambda: LIF(surrogate=lambda v: slope(v, STEEPNESS)), move


def object_in_a_closure() -> Given:
    held = types.SimpleNamespace(inner=types.SimpleNamespace(k=1.0))
    return lambda: LIF(surrogate=lambda v: slope(v, held.inner.k)), functools.partial(setattr, held.inner, "k")


def bound_method() -> Given:
    class Trainer:
        k = 1.0

        def surrogate(self, v: Tensor) -> Tensor:
            return slope(v, self.k)

    trainer = Trainer()
    return lambda: LIF(surrogate=trainer.surrogate), functools.partial(setattr, trainer, "k")


def partial() -> Given:
    held = types.SimpleNamespace(k=1.0)
    return (
        lambda: LIF(surrogate=functools.partial(lambda v, settings: slope(v, settings.k), settings=held)),
        functools.partial(setattr, held, "k"),
    )


def class_of_settings() -> Given:
    Settings.steepness = 1.0
    return lambda: LIF(surrogate=lambda v: slope(v, Settings.steepness)), functools.partial(
        setattr, Settings, "steepness"
    )


def settings_of_a_neuron() -> Given:
    settings = types.SimpleNamespace(decay=1.0)

    class Mine(LIF):
        def __init__(self) -> None:
            super().__init__()
            self.settings = settings

        def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
            membrane = self.settings.decay / 10 * membrane + current
            spike = self.fire(membrane - self.threshold)
            return spike, self.after(membrane, spike)

    return Mine, functools.partial(setattr, settings, "decay")


def global_of_a_step() -> Given:
    class Mine(LIF):
        def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
            return super().step(STEEPNESS * current, membrane)

    return Mine, global_number()[1]


def gradient(neuron: Callable[[Tensor], Tensor]) -> Tensor:
    current = (torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)) + 1).requires_grad_()
    (neuron(current) * current.detach()).sum().backward()
    assert current.grad is not None
    return current.grad


WAYS = (
    closure, global_number, object_in_a_closure, bound_method, partial, class_of_settings, settings_of_a_neuron,
    global_of_a_step,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_number_that_changes_elsewhere_is_followed(way: Callable[[], Given]) -> None:
    make, move = way()
    neuron = make()
    before = gradient(neuron)
    twin = copy.deepcopy(neuron) if way is not bound_method else neuron
    for value in (5.0, 1.0, 3.0):
        move(value)
        assert torch.equal(gradient(neuron), gradient(make()))
        assert torch.equal(gradient(neuron), before) == (value == 1.0)
    if way in (global_number, closure, class_of_settings, global_of_a_step):
        # What is not copied along moves the copy too.
        assert torch.equal(gradient(twin), gradient(neuron))


def test_a_function_of_a_sequence_follows_too() -> None:
    k = 1.0

    def surrogate(v: Tensor) -> Tensor:
        return slope(v, k)

    def run(current: Tensor) -> Tensor:
        return neurons_functional.lif(current, surrogate=surrogate)[0]

    before = gradient(run)
    k = 5.0
    assert not torch.equal(gradient(run), before)
    k = 1.0
    assert torch.equal(gradient(run), before)


def test_nothing_is_looked_at_behind_what_is_built_in() -> None:
    for neuron in (LIF(), LIF(surrogate=ATan())):
        gradient(neuron)
        assert not vars(neuron)["_behind"]


def test_a_neuron_that_follows_is_saved_and_goes_on() -> None:
    make, move = settings_of_global()
    neuron = make()
    gradient(neuron)
    torch.save(neuron, file := io.BytesIO())
    file.seek(0)
    # A whole neuron, not its weights alone.
    read: Any = torch.load(file, weights_only=False)
    assert torch.equal(gradient(read), gradient(neuron))
    move(5.0)
    assert torch.equal(gradient(read), gradient(neuron))


def read_global(v: Tensor) -> Tensor:
    return slope(v, STEEPNESS)


def settings_of_global() -> Given:
    return lambda: LIF(surrogate=read_global), global_number()[1]
