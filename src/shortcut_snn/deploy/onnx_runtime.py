"""Networks run by onnxruntime."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .describe import Description
from .extra import need
from .onnx_file import read_onnx
from .program import input_dtype
from .runtime import State, by_steps

SCOPES = "pkg.torch.onnx.name_scopes"
"""Under this key torch's exporter notes in which module a node arose."""

_TRIAL = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
except (ImportError, ValueError, OSError):
    pass
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
session = onnxruntime.InferenceSession(sys.stdin.buffer.read(), options, providers=["CPUExecutionProvider"])
kinds = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
shapes = {i.name: [1 if not isinstance(n, int) else n for n in i.shape] for i in session.get_inputs()}
feeds = {i.name: numpy.zeros(shapes[i.name], kinds[i.type]) for i in session.get_inputs()}
print(json.dumps([list(each.shape) for each in session.run(None, feeds)]))
"""


class OnnxRuntime:
    """An ONNX file in onnxruntime.

    Args:
        path: of a file that we wrote. It is checked, and first tried in a process of its own, so that not even a file
            made to crash the runtime crashes this process.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: onnx or onnxruntime is not installed.
        ValueError: the file is damaged, not ours, or does not run.
    """

    def __init__(self, path: Path) -> None:
        need("onnxruntime", "an ONNX file")
        self.model, self.about, self.streaming = read_onnx(path)
        content = self.model.SerializeToString()
        _try(content, path, self.about)
        self.session = _session(content)

    def _call(self, session: Any, feeds: dict[str, Tensor]) -> list[Tensor]:
        return [torch.from_numpy(out) for out in session.run(None, {name: x.numpy() for name, x in feeds.items()})]

    def whole(self, images: Tensor) -> Tensor:
        """Return logits; see :class:`~.runtime.Runtime`."""
        if self.streaming:
            return by_steps(self, images, self.about.time_steps)
        return self._call(self.session, {"images": images.to(input_dtype(self.about))})[0]

    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return a step's logits and the membrane potentials; see :class:`~.runtime.Runtime`."""
        if not self.streaming:
            raise ValueError("this ONNX file runs whole sequences; export it with --streaming to run it step by step")
        logits, *after = self._call(self.session, self._feeds(frame, state))
        return logits, after

    def _feeds(self, frame: Tensor, state: State | None) -> dict[str, Tensor]:
        inputs = self.session.get_inputs()[1:]
        if state is None:
            state = [torch.zeros(len(frame), *each.shape[1:]) for each in inputs]
        names = (each.name for each in inputs)
        return {"frame": frame.to(input_dtype(self.about)), **dict(zip(names, state, strict=True))}

    def spikes(self, images: Tensor) -> dict[str, Tensor]:
        """Return every layer's spikes; see :class:`~.runtime.Runtime`."""
        model = copy.deepcopy(self.model)
        values = {}
        for node in model.graph.node:
            scopes = [json.loads(each.value.replace("'", '"')) for each in node.metadata_props if each.key == SCOPES]
            # The last operation of a layer of neurons stacks its spikes over time.
            if scopes and scopes[0][-1].startswith("stack"):
                values[scopes[0][-2]] = node.output[0]
        del model.graph.output[:]
        for value in values.values():
            model.graph.output.add(name=value)
        session = _session(model.SerializeToString())
        if not self.streaming:
            found = [self._call(session, {"images": images.to(input_dtype(self.about))})]
        else:
            found, state = [], None
            for t in range(self.about.time_steps):
                frame = images[:, t] if images.dim() == 5 else images
                found.append(self._call(session, self._feeds(frame, state)))
                _, state = self.step(frame, state)
        names = (name.partition("network.")[2] or name for name in values)
        return {name: torch.cat(steps) for name, steps in zip(names, zip(*found, strict=True), strict=True)}


def _session(content: bytes) -> Any:
    onnxruntime = need("onnxruntime", "an ONNX file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As many threads as torch uses.
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _try(content: bytes, path: Path, about: Description) -> None:
    # -P: modules that lie beside the file are nothing to it.
    command = [sys.executable, "-P", "-c", _TRIAL]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} does not run in onnxruntime: it took more than ten minutes") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said and done.returncode > 0 else f"onnxruntime crashed ({done.returncode})"
        raise ValueError(f"{path} does not run in onnxruntime: {why}")
    shapes = json.loads(done.stdout)
    if not shapes or shapes[0] != [1, len(about.classes)]:
        raise ValueError(f"{path} does not give logits of its {len(about.classes)} classes")
