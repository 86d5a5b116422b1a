"""Graphs of torch.export and ONNX: whole sequences and single time steps, run where nothing of ours is."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from shortcut_snn.deploy.check import check, first_difference
from shortcut_snn.deploy.folding import fold
from shortcut_snn.deploy.onnx_export import OnnxRuntime, write_onnx
from shortcut_snn.deploy.program import make_program
from shortcut_snn.deploy.torch_export import ProgramRuntime, write_program
from shortcut_snn.deploy.torch_runtime import TrainedNetwork

from .networks import batch, family, small, small_vgg

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("options", "events", "streaming"),
    [
        ({"block": "basic"}, False, False),
        ({"block": "sew", "hidden": 6}, True, True),
        ({"block": "ms"}, True, False),
        ({"block": "ms", "stem": "large"}, False, True),
    ],
)
def test_residual_networks(options, events, streaming, tmp_path):
    network, about = small(events, **options)
    agree(network, about, streaming, tmp_path)


def test_a_transformer(tmp_path):
    agree(*family("qkformer"), False, tmp_path)


@pytest.mark.parametrize(("pooling", "streaming"), [("max", True), ("average", False)])
def test_vggs_with_learned_tau(pooling, streaming, tmp_path):
    agree(*small_vgg(pooling), streaming, tmp_path)


def agree(network, about, streaming, folder):
    reference, images = TrainedNetwork(network, about), batch(about)
    program = make_program(fold(network), about, streaming)
    write_program(program, folder / "network.pt2")
    write_onnx(program, about, folder / "network.onnx")
    torchs = ProgramRuntime(folder / "network.pt2", program, about)
    for runtime in (torchs, OnnxRuntime(folder / "network.onnx", about, streaming)):
        assert check(reference, runtime, images).difference < 1e-5
        assert first_difference(reference, runtime, images).startswith("all spikes are equal")
        # Any batch.
        assert torch.allclose(runtime.whole(images[:1]), reference.whole(images[:1]), atol=1e-5)


def test_onnxruntime_alone_streams(event_graphs):
    """As a user without this library does it: counts in, membrane potentials by their names."""
    network, about, folder = event_graphs
    path, frames = folder / "network-step.onnx", batch(about, 4)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    inputs = [each for each in session.get_inputs() if each.name != "frame"]
    assert inputs[0].name == "stem.spike.before"
    assert inputs[0].shape[1:] == [4, 16, 16]
    assert {each.shape[0] for each in (*session.get_inputs(), *session.get_outputs())} == {"batch"}
    state = {each.name: np.zeros((4, *each.shape[1:]), np.float32) for each in inputs}
    total = 0
    for t in range(about.time_steps):
        logits, *after = session.run(None, {"frame": frames[:, t].float().numpy(), **state})
        state = dict(zip(state, after, strict=True))
        total = total + logits
    outputs = [each.name for each in session.get_outputs()]
    assert outputs == ["logits", *(name.replace(".before", ".after") for name in state)]
    expected = TrainedNetwork(network, about).whole(frames).numpy()
    assert np.allclose(total / about.time_steps, expected, atol=1e-5)


def test_onnxruntime_tells_nobody(event_graphs, monkeypatch):
    _, about, folder = event_graphs
    calls = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: calls.append("no telemetry"))
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: calls.append("session") or session(*a, **k))
    OnnxRuntime(folder / "network.onnx", about, False)
    assert calls == ["no telemetry", "session"]


def test_a_program_runs_where_nothing_of_ours_is(tmp_path):
    network, about = small()
    images = batch(about)
    write_program(make_program(fold(network), about, False), tmp_path / "network.pt2")
    with zipfile.ZipFile(tmp_path / "network.pt2") as file:
        assert not any(str(Path(torch.__file__).parent).encode() in file.read(name) for name in file.namelist())
    torch.save(images, tmp_path / "images.pt")
    code = """
import sys, torch
sys.modules["shortcut_snn"] = None  # importing it now fails
images = torch.load("images.pt", weights_only=True)
print(torch.export.load("network.pt2").module()(images)[0].argmax(-1).tolist())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(TrainedNetwork(network, about).whole(images).argmax(-1).tolist())
