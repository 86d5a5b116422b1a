"""Two runs that must have ended alike."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

TIMES = {"seconds_per_epoch", "seconds_per_step", "peak_bytes_per_step"}


def assert_same_run(one: Path, other: Path) -> None:
    """Compare weights, optimizer, metrics files and results bit for bit, all but times."""
    for name in ("metrics.csv", "gradients.csv", "layers.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("network.safetensors", "best.safetensors"):
        mine, theirs = load_file(one / name), load_file(other / name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine), name
    first, second = (torch.load(run / "checkpoint.ckpt", weights_only=True) for run in (one, other))
    for key, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][key]), key
    for states, others in zip(first["optimizer_states"], second["optimizer_states"], strict=True):
        assert states["state"].keys() == others["state"].keys()
        for key, state in states["state"].items():
            assert all(torch.equal(value, others["state"][key][name]) for name, value in state.items())
    results = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    mine, theirs = ({key: value for key, value in result.items() if key not in TIMES} for result in results)
    assert mine == theirs
    assert not [path.name for path in one.iterdir() if path.name.startswith(".")], "a temporary file was left"
