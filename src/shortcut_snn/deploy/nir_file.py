"""NIR files: written by nir, and read in a process of their own, then checked word for word."""

import json
import keyword
import re
import subprocess
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from ..files import replacing
from . import hdf5_child
from .describe import Description, describe
from .extra import need
from .nir_graph import ABOUT

SECONDS = 120
MOST_VALUES = 1 << 27
"""That a layer may give for one image."""
NODES = ("Affine", "AvgPool2d", "Conv2d", "Flatten", "IF", "Input", "LIF", "Output")
"""What our networks are made of."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")


def write_nir(graph: Any, path: Path) -> None:
    """Write a graph as a NIR file (HDF5), whole or not at all."""
    with replacing(path) as temporary:
        need("nir", "NIR export").write(temporary, graph)


def read_nir(path: Path) -> tuple[Any, Description]:
    """Return the graph of a NIR file that we wrote, and what it is.

    The HDF5 file is opened in a process of its own, so that not even one that is made to crash its library crashes
    this process. Names of nodes are checked, because nirtorch makes Python code of them.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: nir or h5py is not installed.
        ValueError: the file is damaged, not ours, or describes no network.
    """
    nir = need("nir", "a NIR file")
    need("h5py", "a NIR file")
    if not path.is_file():
        raise FileNotFoundError(f"no network file {path}")
    tree = _read_tree(path)
    said = tree.get("node", {}).get("metadata", {})
    if not isinstance(said, dict) or not isinstance(said.get(ABOUT), str):
        raise ValueError(f"{path} was not written by shortcut-snn; open it with nirtorch")
    try:
        entries = json.loads(said[ABOUT])
        about = describe(entries if isinstance(entries, Mapping) else {})
        _check_tree(tree["node"])
        graph = nir.dict2NIRNode({**tree["node"], "type_check": True})
        _check_shapes(graph, about)
    except Exception as error:  # whatever nir stumbles over, the file is at fault
        raise ValueError(
            f"{path} describes no network: {' '.join(str(error).split()) or type(error).__name__}"
        ) from None
    return graph, about


def _read_tree(path: Path) -> dict[str, Any]:
    command = [sys.executable, "-P", str(Path(hdf5_child.__file__)), str(path.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} cannot be read: it took more than {SECONDS} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said and done.returncode == 3 else f"its reader crashed ({done.returncode})"
        raise ValueError(f"{path} is not a whole NIR file: {why}")
    try:
        flat: dict[str, Any] = dict(load(done.stdout))
        start = int.from_bytes(done.stdout[:8], "little")
        texts = json.loads(json.loads(done.stdout[8 : 8 + start])["__metadata__"]["texts"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a whole NIR file: {error}") from None
    tree: dict[str, Any] = {}
    for key, value in {**flat, **texts}.items():
        *groups, name = key.split("/")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if not isinstance(tree.get("node"), dict):
        raise ValueError(f"{path} is not a NIR file: it has no node")
    return tree


def _check_tree(graph: dict[str, Any]) -> None:
    nodes, edges = graph.get("nodes"), graph.get("edges")
    if graph.get("type") != "NIRGraph" or not isinstance(nodes, dict) or not isinstance(edges, list):
        raise ValueError("it is not a graph of nodes and edges")
    plain = {name.replace(".", "_") for name in nodes}
    for name, node in nodes.items():
        if not _NAME.fullmatch(name) or keyword.iskeyword(name) or len(plain) != len(nodes):
            raise ValueError(f"{name[:40]!r} cannot be the name of a node")
        if not isinstance(node, dict) or node.get("type") not in NODES:
            raise ValueError(f"the node {name} is none of {', '.join(NODES)}")
        for key, value in node.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ValueError(f"{key} of the node {name} holds what is no number")
    kinds = [node["type"] for node in nodes.values()]
    if kinds.count("Input") != 1 or kinds.count("Output") != 1:
        raise ValueError("one input and one output are needed")
    before: dict[str, set[str]] = {name: set() for name in nodes}
    for edge in edges:
        if not isinstance(edge, list) or len(edge) != 2 or not all(end in nodes for end in edge):
            raise ValueError("an edge ends nowhere")
        before[edge[1]].add(edge[0])
    for name, sources in before.items():
        if (not sources) != (nodes[name]["type"] == "Input"):
            raise ValueError(f"nothing leads to the node {name}" if not sources else "the input is not the first node")
    try:
        TopologicalSorter(before).prepare()
    except CycleError:
        raise ValueError("its edges form a circle") from None


def _check_shapes(graph: Any, about: Description) -> None:
    def shape(types: Any) -> tuple[int, ...]:
        (value,) = types.values()
        return tuple(int(side) for side in np.asarray(value).reshape(-1))

    for name, node in graph.nodes.items():
        if np.prod([int(side) for side in shape(node.output_type)], dtype=np.float64) > MOST_VALUES:
            raise ValueError(f"the node {name} would take too much memory")
    (entry,), (leaf,) = graph.inputs.values(), graph.outputs.values()
    if shape(entry.output_type) != (about.channels, *about.image_size):
        raise ValueError("its input is not of the size that it says")
    if shape(leaf.input_type) != (len(about.classes),):
        raise ValueError("its output has not as many classes as it says")
