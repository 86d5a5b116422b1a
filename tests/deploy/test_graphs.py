"""Graphs of torch.export and ONNX, of sequences and of single steps, run with and without this package."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from shortcut_snn import nets
from shortcut_snn.deploy import export_network
from shortcut_snn.deploy.export import network_logits
from shortcut_snn.deploy.onnx_export import ONNX, onnx_logits
from shortcut_snn.deploy.torch_export import TorchExport
from shortcut_snn.neurons import ILIF

from .networks import batch, family, small, small_vgg

pytestmark = pytest.mark.filterwarnings("ignore")
CASES = {
    "ms, large stem, streaming": (lambda: small(block="ms", stem="large"), True),
    "transformer": (lambda: family("qkformer", time_steps=1), False),
    "plif, max pooling, streaming": (lambda: small_vgg("max"), True),
    # A count that differed by 1 would move the logits.
    "ilif, streaming": (lambda: small(block="basic", make_neuron=ILIF), True),
}


@pytest.mark.parametrize(("make", "streaming"), CASES.values(), ids=CASES)
def test_onnx_returns_the_logits_of_the_network(make, streaming, tmp_path):
    network, spec = make()
    images = batch(spec)
    path, agreement = export_network(network, spec, images, ONNX(streaming), tmp_path)
    assert agreement.difference < 1e-5
    # The batch size is open.
    one = onnx_logits(path, spec)(images[:1])
    assert torch.allclose(one, network_logits(network, spec, images[:1]), atol=1e-5)


def test_torch_export_streams_the_logits_of_the_network(tmp_path):
    network, spec = small(events=True, block="sew")
    agreement = export_network(network, spec, batch(spec), TorchExport(streaming=True), tmp_path)[1]
    assert agreement.difference < 1e-5


def test_a_user_streams_with_onnxruntime_alone(tmp_path):
    network, spec = small(True, nets.SpikingResNet19, block="sew")
    frames = batch(spec, 4)
    path, agreement = export_network(network, spec, frames, ONNX(streaming=True), tmp_path)
    assert agreement.difference < 1e-5
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    inputs = [value for value in session.get_inputs() if value.name != "frame"]
    assert (inputs[0].name, inputs[0].shape) == ("stem.spike.before", ["batch", 4, 16, 16])
    state = {value.name: np.zeros((4, *value.shape[1:]), np.float32) for value in inputs}
    total = 0
    for t in range(spec.time_steps):
        logits, *after = session.run(None, {"frame": frames[:, t].float().numpy(), **state})
        state = dict(zip(state, after, strict=True))
        total = total + logits
    outputs = [value.name for value in session.get_outputs()]
    assert outputs == ["logits", *(name.replace(".before", ".after") for name in state)]
    assert np.allclose(total / spec.time_steps, network_logits(network, spec, frames), atol=1e-5)


def test_a_program_runs_without_this_package(tmp_path):
    network, spec = small()
    images = batch(spec)
    path, _ = export_network(network, spec, images, "torch-export", str(tmp_path))
    with zipfile.ZipFile(path) as file:
        paths_of_this_machine = str(Path(torch.__file__).parent).encode()
        assert not any(paths_of_this_machine in file.read(name) for name in file.namelist())
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
    assert done.stdout.strip() == str(network_logits(network, spec, images).argmax(-1).tolist())
