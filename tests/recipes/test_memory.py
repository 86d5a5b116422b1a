"""A batch that does not fit into memory is refused before anything is allocated."""

from pathlib import Path

import pytest
import torch

from shortcut_snn._utils.memory import PeakMemory
from shortcut_snn.recipes import build, memory, recipe_of, train

SMALL = {
    "data": {"train_limit": 20, "test_limit": 10, "batch_size": 10},
    "network": {"kind": "resnet8", "width": 2, "time_steps": 1},
    "training": {"epochs": 1},
}


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"time_steps": 10**8}},
        {"network": {"time_steps": 10**18}, "neuron": {"kind": "psn", "time_steps": 10**18}},
        {"network": {"width": 10**6}},
    ],
    ids=str,
)
def test_recipes_that_need_too_much_memory_are_refused(tmp_path: Path, changes: dict) -> None:
    def refused() -> None:
        with pytest.raises(ValueError, match="GiB of memory are needed"):
            train(recipe_of(SMALL, changes), tmp_path / "run")

    assert PeakMemory("cpu").during(refused) < 500 * 2**20
    assert not (tmp_path / "run" / "checkpoint.ckpt").exists()


def test_the_backward_pass_needs_the_outputs_of_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_available_memory", lambda: 8 * 2**30)
    digits = recipe_of("digits", {"network": {"time_steps": 10_000}})
    with pytest.raises(ValueError, match=r"10,000.*8\.0 GiB"):
        build(digits)


def test_a_batch_is_not_larger_than_the_data() -> None:
    state = torch.get_rng_state()
    recipe = recipe_of(SMALL, {"data": {"batch_size": 10**12}})
    data = recipe.data.load(1)
    memory.check_memory(recipe, data)
    assert torch.equal(torch.get_rng_state(), state)
