"""Network files: what is written is read back; of damaged and malicious ones, one clear error each and no code runs."""

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
from torch import nn

from shortcut_snn import nets
from shortcut_snn.deploy import NetworkSpec, export_network, load
from shortcut_snn.deploy.safetensors_files import load_into, read_network, save_network
from shortcut_snn.deploy.spec import Prepare

from .networks import activated, batch, make_spec


def test_a_network_is_read_back(tmp_path):
    network = nets.spiking_resnet20(10, 2, width=4).to(memory_format=torch.channels_last)
    path, images = tmp_path / "network.safetensors", torch.randn(3, 3, 16, 16)
    network(images)  # running statistics that are not those of a new network
    save_network(network, path, {"about": "this", "numbers": [1, 2.5]})
    state, about = read_network(path)
    assert about == {"about": "this", "numbers": [1, 2.5]}
    other = nets.spiking_resnet20(10, 2, width=4)
    assert not torch.equal(network.eval()(images), other.eval()(images))
    load_into(other, state, path)
    assert torch.equal(network(images), other(images))


def test_the_same_network_is_written_as_the_same_bytes(tmp_path):
    network = nn.Linear(3, 2)
    for number in range(3):
        save_network(network, tmp_path / str(number), {"one": 1, "two": 2})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_folded_network_that_computes_all_steps_at_once_is_read_back(tmp_path):
    spec = make_spec(neuron={"kind": "psn", "time_steps": 2})
    network, images = activated(spec.build()), batch(spec)
    export_network(network, spec, images, "safetensors", tmp_path)
    assert torch.allclose(load(tmp_path).logits(images), network(Prepare(spec)(images)), atol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported file."""
    spec = make_spec(network={"kind": "vggsnn", "width": 2})
    network = activated(spec.build())
    return export_network(network, spec, batch(spec), "safetensors", tmp_path_factory.mktemp("exported"))[0]


def refused(call: Callable[[], object], name: str) -> str | None:
    """Return the message of the error that a call raises, which is one line that names the file; None without error."""
    try:
        call()
    except (ValueError, OSError) as error:
        message = str(error)
        assert message
        assert "\n" not in message.strip(), message
        assert len(message) < 1000, message
        assert name in message, message
        return message
    return None


def mutated(content: bytes, seed: int) -> bytes:
    """Damage a file: truncate it, flip a bit, overwrite, remove or insert bytes."""
    rng = np.random.default_rng(seed)
    data = bytearray(content)
    start = int(rng.integers(len(data)))
    # Half of the damage is near the start, where headers are.
    start = start % 2048 if rng.random() < 0.5 else start
    match seed % 5:
        case 0:
            return bytes(data[:start])
        case 1:
            data[start] ^= 1 << int(rng.integers(8))
        case 2:
            data[start : start + 8] = rng.bytes(8)
        case 3:
            end = start + int(rng.integers(1, 64))
            del data[start:end]
        case 4:
            data[start:start] = rng.bytes(int(rng.integers(1, 64)))
    return bytes(data)


def test_damaged_files_are_refused(exported, run, tmp_path):
    for original, count in ((exported, 30), (run / exported.name, 10)):
        content, path = original.read_bytes(), tmp_path / original.name
        for seed in range(count):
            path.write_bytes(mutated(content, seed))
            assert path.read_bytes() != content
            assert refused(partial(load, path), path.name), f"{original}, mutation {seed}, was loaded"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40)
@given(
    st.sampled_from([(part, key) for part, inner in make_spec().to_dict().items() for key in ("", *inner)]), ANYTHING
)
def test_any_value_of_an_entry_is_read_or_refused(part_and_key, value):
    part, key = part_and_key
    entries = json.loads(json.dumps(make_spec().to_dict()))
    (entries[part] if key else entries)[key or part] = value
    refused(lambda: NetworkSpec.from_dict(entries), "")
    del (entries[part] if key else entries)[key or part]
    if not key or part == "data":
        assert refused(lambda: NetworkSpec.from_dict(entries), key or part)


@pytest.mark.parametrize(
    ("change", "keyword"),
    [
        (lambda state, about: about.update(network=[]), "network must be"),
        (lambda state, about: about.clear(), "network is missing"),
        (lambda state, about: about["network"].update(kind="resnet1000"), "resnet1000"),
        (lambda state, about: about["network"].update(width=10**9), "network.width is at most"),
        (lambda state, about: about["network"].update(time_steps=10**12), "time_steps is at most"),
        (lambda state, about: about["network"].update(block="sew"), "'block'"),
        (lambda state, about: about["data"].update(classes=["only"]), "data.classes"),
        (lambda state, about: about["data"].update(channels=10**9), "data.channels"),
        (lambda state, about: about["data"].update(mean=[0.0]), "mean must be 3 numbers"),
        (lambda state, about: about["data"].pop("std"), "description has no std: add it in as_data(description=...)"),
        (lambda state, about: about["data"].update(std=[1.0, 1.0, float("nan")]), "data.std[2]"),
        (lambda state, about: state.pop("classifier.bias"), "classifier.bias"),
        (lambda state, about: state.update(malice=torch.zeros(1)), "malice"),
        (lambda state, about: state.update({"classifier.bias": torch.zeros(10, dtype=torch.int64)}), "torch.int64"),
        (lambda state, about: state["classifier.bias"].fill_(torch.nan), "classifier.bias holds values that are not"),
    ],
)
def test_malicious_files_are_refused(exported, tmp_path, change, keyword):
    state, about = read_network(exported)
    change(state, about)
    path = tmp_path / "network.safetensors"
    # A malicious file need not hold a hash.
    save_file(state, path, metadata={"about": json.dumps(about)})
    assert keyword in str(refused(partial(load, path), path.name))


def test_data_in_a_file_replace_no_argument_of_the_network(exported, tmp_path):
    state, about = read_network(exported)
    about["data"].update(image_size=[2, 2], make_neuron="x")
    path = tmp_path / "network.safetensors"
    save_file(state, path, metadata={"about": json.dumps(about)})
    network = load(path)
    assert network.spec.inputs.image_size == (2, 2)
    torch.testing.assert_close(network.network.state_dict(), load(exported).network.state_dict(), rtol=0, atol=0)
