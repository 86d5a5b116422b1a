"""Files from strangers, damaged or malicious: each one clear error, no code run, no crash."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from shortcut_snn import components
from shortcut_snn.deploy import Description, fold, load
from shortcut_snn.deploy.describe import MOST, Images
from shortcut_snn.deploy.network_file import write_folded
from shortcut_snn.deploy.weights import read_network

from .networks import description, lively

MUTATIONS = 60
ABOUT = {"network": {"kind": "vggsnn", "width": 2}}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real file."""
    about = description(**ABOUT)
    path = tmp_path_factory.mktemp("real") / "network.safetensors"
    write_folded(fold(lively(about.build())), about, path)
    return path


def refused(act: Callable[[], object], name: str) -> str | None:
    """Return the one line that says why something is refused, or None if it is not."""
    try:
        act()
    except (ValueError, OSError) as error:
        said = str(error)
        assert said, "an error that says nothing"
        assert "\n" not in said.strip(), said
        assert len(said) < 1000, said
        assert name in said, said
        return said
    return None


def mutated(content: bytes, seed: int) -> bytes:
    """Damage a file in one of the ways in which files get damaged."""
    rng = np.random.default_rng(seed)
    data = bytearray(content)
    place = int(rng.integers(len(data)))
    # Half of the damage near the start, where headers are.
    place = place % 2048 if rng.random() < 0.5 else place
    match seed % 5:
        case 0:
            return bytes(data[:place])
        case 1:
            data[place] ^= 1 << int(rng.integers(8))
        case 2:
            data[place : place + 8] = rng.bytes(8)
        case 3:
            end = place + int(rng.integers(1, 64))
            del data[place:end]
        case 4:
            data[place:place] = rng.bytes(int(rng.integers(1, 64)))
    return bytes(data)


def test_mutated_files_are_refused(real, run, tmp_path):
    for whole, times in ((real, MUTATIONS), (run / real.name, 20)):
        content, path = whole.read_bytes(), tmp_path / whole.name
        for seed in range(times):
            path.write_bytes(mutated(content, seed))
            assert path.read_bytes() != content
            assert refused(partial(load, path), path.name), f"{whole}, mutation {seed}, is taken for whole"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100)
@given(
    st.sampled_from([(part, key) for part, inner in description().to_dict().items() for key in ("", *inner)]), ANYTHING
)
def test_any_entry_of_a_description(place, value):
    part, key = place
    about = json.loads(json.dumps(description().to_dict()))
    (about[part] if key else about)[key or part] = value
    refused(lambda: Description.from_about(about), "")
    del (about[part] if key else about)[key or part]
    if not key or part == "data":
        assert refused(lambda: Description.from_about(about), key or part)


def test_what_a_description_needs_is_named():
    for name in ("classes", "channels", "image_size", "mean", "std", "kind"):
        data = {key: value for key, value in description().data.items() if key != name}
        with pytest.raises(ValueError, match=name):
            components.read(Images, data, "data")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state, about: about.update(network=[]), "network must be"),
        (lambda state, about: about.clear(), "network is missing"),
        (lambda state, about: about["network"].update(kind="resnet1000"), "unknown network 'resnet1000'"),
        (lambda state, about: about["network"].update(width=10**9), f"network.width is at most {MOST:,}"),
        (lambda state, about: about["network"].update(width=64), "of another shape"),
        (lambda state, about: about["network"].update(time_steps=10**12), "time_steps is at most 10,000"),
        (lambda state, about: about["network"].update(block="sew"), "has no entry 'block'"),
        (lambda state, about: about["data"].update(classes=["only"]), "data.classes"),
        (lambda state, about: about["data"].update(image_size=[2, 2], make_neuron="x"), ""),
        (lambda state, about: about["data"].update(image_size=[2, 2], self="x"), ""),
        (lambda state, about: about["data"].update(channels=10**9), "data.channels"),
        (lambda state, about: about["data"].update(mean=[0.0]), "mean must be 3 numbers"),
        (lambda state, about: about["data"].update(std=[1.0, 1.0, float("nan")]), "data.std[2]"),
        (lambda state, about: state.pop("classifier.bias"), "missing: classifier.bias"),
        (lambda state, about: state.update(malice=torch.zeros(1)), "not in the network: malice"),
        (lambda state, about: state.update({"classifier.bias": torch.zeros(10, dtype=torch.int64)}), "of the type"),
        (lambda state, about: state["classifier.bias"].fill_(torch.nan), "no number, in classifier.bias"),
    ],
)
def test_crafted_safetensors(real, tmp_path, change, said):
    state, about = read_network(real)
    change(state, about)
    path = tmp_path / "network.safetensors"
    save_file(state, path, metadata={"about": json.dumps(about)})  # a stranger need not write a hash
    assert said in str(refused(lambda: load(path), path.name))
