"""Files from strangers: more than 200 damaged or malicious ones, each one clear error, no code run, no crash.

What is damaged at random may be whole all the same: a recipe with another number is a recipe.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from safetensors.torch import save_file

from shortcut_snn.cli import built_in_recipes, main
from shortcut_snn.deploy import load
from shortcut_snn.deploy.describe import describe
from shortcut_snn.deploy.fold import fold
from shortcut_snn.deploy.network_file import write_folded
from shortcut_snn.deploy.nir_file import write_nir
from shortcut_snn.deploy.nir_graph import nir_graph
from shortcut_snn.deploy.onnx_file import ABOUT, DIGEST, _digest, write_onnx
from shortcut_snn.deploy.program import make_program
from shortcut_snn.deploy.weights import read_network
from shortcut_snn.training import recipe_io

from .networks import description, lively, small

pytestmark = pytest.mark.filterwarnings("ignore")

MUTATIONS = 60  # of each kind of file but NIR, which takes a process each
SLOW_MUTATIONS = 25


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real file of each format."""
    folder = tmp_path_factory.mktemp("real")
    about = description(name="vggsnn", width=2)
    folded = fold(lively(about.network()))
    write_folded(folded, about, folder / "network.safetensors")
    write_nir(nir_graph(folded, about), folder / "network.nir")
    network, about = small()
    write_onnx(make_program(fold(network), about, False), about, folder / "network.onnx")
    return folder


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


@pytest.mark.parametrize("name", ["network.safetensors", "network.onnx"])
def test_mutated_files_are_refused(real, tmp_path, name):
    content, path = (real / name).read_bytes(), tmp_path / name
    for seed in range(MUTATIONS):
        path.write_bytes(mutated(content, seed))
        assert path.read_bytes() != content
        assert refused(lambda: load(path), name), f"{name}, mutation {seed}, is taken for whole"


def test_mutated_nir_files_do_no_harm(real, tmp_path):
    """They are refused, or what was hit is not used or another number; the process stays, and so do the names."""
    content, path = (real / "network.nir").read_bytes(), tmp_path / "network.nir"
    known = os.listdir(tmp_path)
    said = []
    for seed in range(SLOW_MUTATIONS):
        path.write_bytes(mutated(content, seed))
        said.append(refused(lambda: load(path), "network.nir"))
    assert sum(each is not None for each in said) > SLOW_MUTATIONS // 2
    assert set(os.listdir(tmp_path)) == {*known, "network.nir"}


# --- crafted safetensors


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(description().to_dict())),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_any_entry_of_a_description(key, value):
    entries = json.loads(json.dumps(description().to_dict())) | {key: value}
    refused(lambda: describe(entries), "")
    del entries[key]
    if key != "width":  # None of it means the network's own
        assert refused(lambda: describe(entries), key)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state, about: about.update(folded=[]), "folded is missing"),
        (lambda state, about: about.clear(), "recipe is missing"),
        (lambda state, about: about["folded"].update(name="resnet1000"), "name must be one of"),
        (lambda state, about: about["folded"].update(width=10**9), "width must be a whole number"),
        (lambda state, about: about["folded"].update(width=1024), "of another shape"),
        (lambda state, about: about["folded"].update(time_steps=10**12), "time_steps"),
        (lambda state, about: about["folded"].update(classes=["only"]), "at least 2"),
        (lambda state, about: about["folded"].update(block="sew"), "block must be left at basic"),
        (lambda state, about: about["folded"].update(mean=[0.0]), "mean must be a list of 3"),
        (lambda state, about: state.pop("classifier.bias"), "missing: classifier.bias"),
        (lambda state, about: state.update(malice=torch.zeros(1)), "not in the network: malice"),
        (lambda state, about: state.update({"classifier.bias": torch.zeros(10, dtype=torch.int64)}), "of the type"),
        (lambda state, about: state["classifier.bias"].fill_(torch.nan), "no number, in classifier.bias"),
    ],
)
def test_crafted_safetensors(real, tmp_path, change, said):
    state, about = read_network(real / "network.safetensors")
    change(state, about)
    path = tmp_path / "network.safetensors"
    save_file(state, path, metadata={"about": json.dumps(about)})  # a stranger need not write a hash
    assert said in str(refused(lambda: load(path), path.name))


def test_a_run_file_is_read_with_as_much_care(run, tmp_path):
    content, path = (run / "network.safetensors").read_bytes(), tmp_path / "network.safetensors"
    for seed in range(20):
        path.write_bytes(mutated(content, seed))
        assert refused(lambda: load(path), path.name)


# --- crafted ONNX


def crafted_onnx(real: Path, folder: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.load(real / "network.onnx")
    change(model)
    kept = [(each.key, each.value) for each in model.metadata_props if each.key != DIGEST]
    del model.metadata_props[:]
    for key, value in kept:
        model.metadata_props.add(key=key, value=value)
    model.metadata_props.add(key=DIGEST, value=_digest(model))
    path = folder / "network.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _subgraph(model: onnx.ModelProto) -> None:
    graph = helper.make_graph([], "inner", [], [])
    model.graph.node.append(helper.make_node("Constant", [], ["x"]))
    model.graph.node[-1].attribute.append(helper.make_attribute("body", graph))


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _smaller(model: onnx.ModelProto) -> None:
    weights = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    weights.raw_data = weights.raw_data[:-4]


def _about(value: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for each in model.metadata_props:
            if each.key == ABOUT:
                each.value = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: model.graph.node.append(helper.make_node("If", ["x"], ["y"])), "an operator :If"),
        (lambda model: model.graph.node.append(helper.make_node("Py", [], ["y"], domain="evil")), "evil:Py"),
        (_subgraph, "a graph or tensors of its own"),
        (_external, "a reference to another file"),
        (lambda model: model.functions.add(name="f", domain="d"), "functions"),
        (_smaller, "does not run in onnxruntime"),
        (lambda model: model.graph.node[5].input.__setitem__(0, "nothing"), "does not run in onnxruntime"),
        (lambda model: model.graph.output[0].ClearField("name"), "does not run in onnxruntime"),
        (_about("[" * 100_000), "does not say what network it holds"),
        (_about("{}"), "does not say what network it holds: channels is missing"),
        (_about(json.dumps(description(classes=["a", "b"]).to_dict())), "does not give logits of its 2 classes"),
        (lambda model: model.metadata_props.__delitem__(slice(None)), "was not written by shortcut-snn"),
    ],
)
def test_crafted_onnx(real, tmp_path, change, said):
    path = crafted_onnx(real, tmp_path, change)
    assert said in str(refused(lambda: load(path), path.name))


# --- crafted NIR


def _rename(file: h5py.File, old: str, new: str) -> None:
    file["node/nodes"].move(old, new)
    edges = file["node/edges"][()]
    swapped = [[new.encode() if end == old.encode() else end for end in edge] for edge in edges.tolist()]
    del file["node/edges"]
    file["node"].create_dataset("edges", data=np.array(swapped, dtype=h5py.string_dtype()))


def _set(file: h5py.File, path: str, value: object) -> None:
    del file[path]
    file[path] = value


def _cycle(file: h5py.File) -> None:
    edges = [[end.decode() for end in edge] for edge in file["node/edges"][()].tolist()]
    a, b = next(edge for edge in edges if edge[0] != "input")
    _set(file, "node/edges", np.array([*edges, [b, a]], dtype=h5py.string_dtype()))


def _external_link(file: h5py.File) -> None:
    file["node/nodes/secret"] = h5py.ExternalLink("/etc/passwd", "/")


WEIGHT = "node/nodes/classifier/weight"
INJECTION = "x = __import__('os').system('touch victim') #"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: _rename(file, "classifier", INJECTION), "cannot be the name of a node"),
        (lambda file: _rename(file, "classifier", "class"), "cannot be the name of a node"),
        (lambda file: _rename(file, "stage1.0.conv", "stage1_0.spike"), "cannot be the name of a node"),
        (_external_link, "is a link"),
        (_cycle, "form a circle"),
        (lambda file: _set(file, WEIGHT, np.full((10, 16), np.nan)), "holds what is no number"),
        (lambda file: _set(file, WEIGHT, np.zeros((10, 3))), "describes no network"),
        (lambda file: _set(file, WEIGHT, np.zeros(4)), "describes no network"),
        (lambda file: file["node/nodes/classifier"].pop("bias"), "describes no network"),
        (lambda file: _set(file, "node/nodes/classifier/type", "Threshold"), "is none of Affine"),
        (lambda file: _set(file, "node/nodes/stage1.0.conv/padding", np.array([10**6] * 2)), "network.nir"),
        (lambda file: _set(file, "node/type", "LIF"), "not a graph"),
        (lambda file: _set(file, "node/metadata/shortcut_snn", "{}"), "channels is missing"),
        (lambda file: file["node"].pop("metadata"), "was not written by shortcut-snn"),
        (lambda file: file.pop("node"), "has no node"),
        (lambda file: file.create_dataset("huge", shape=(1 << 40,), dtype="f8", chunks=(1 << 20,)), "too much data"),
    ],
)
def test_crafted_nir(real, tmp_path, monkeypatch, change, said):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "network.nir"
    shutil.copy(real / "network.nir", path)
    with h5py.File(path, "r+") as file:
        change(file)
    assert said in str(refused(lambda: load(path), path.name))
    assert not (tmp_path / "victim").exists()


# --- recipes


def broken_recipes() -> Iterator[str]:
    text = built_in_recipes()["digits"].read_text()
    for seed in range(40):
        yield mutated(text.encode(), seed).decode("latin-1")
    lines = text.splitlines()
    for i in range(len(lines)):
        yield "\n".join(lines[:i] + lines[i + 1 :])
        yield "\n".join([*lines[:i], " " + lines[i], *lines[i + 1 :]])
    victim = "!!python/object/apply:os.system ['touch victim']"
    yield f"train: {victim}"
    yield f"network:\n  name: {victim}"
    yield "network: !!python/name:os.system"
    yield "train: " + "[" * 20_000
    yield "train: {epochs: 2020-99-99}"
    yield "data: /etc/passwd"
    yield "network: recipe.yaml"
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    yield bomb
    yield "\x00"
    yield "- train"
    yield "train:\n  epochs: .nan"
    yield "train:\n  seed: 99999999999999999999999"


def test_broken_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    outcomes = []
    for text in broken_recipes():
        path.write_text(text, encoding="utf-8")
        outcomes.append(refused(lambda: recipe_io.read(path), ""))
        assert os.listdir(tmp_path) == ["recipe.yaml"], text
    assert len(outcomes) > 80
    assert sum(each is not None for each in outcomes) > len(outcomes) // 2


def test_the_command_says_one_line_of_broken_recipes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    for text in list(broken_recipes())[-16:]:
        path.write_text(text, encoding="utf-8")
        status = main(["gradients", "--config", str(path), "--out", str(tmp_path / "out"), "--data.name", "nothing"])
        said = capsys.readouterr().err
        assert status == 2, text
        assert said.startswith("shortcut-snn: error: "), said
        assert said.count("\n") == 1, said
        assert os.listdir(tmp_path) == ["recipe.yaml"], text
