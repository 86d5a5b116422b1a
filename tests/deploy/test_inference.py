"""A network in use: no training code, whole batches, streams, and clear errors for wrong input."""

import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from shortcut_snn.deploy import fold, load
from shortcut_snn.deploy.inference import Inference
from shortcut_snn.neurons.current_neuron import CurrentNeuron

from .networks import batch, family

pytestmark = pytest.mark.filterwarnings("ignore")


def test_load_imports_no_training_code(run, nothing_imported):
    code = """
import sys
from shortcut_snn.deploy import load
import numpy
network = load(sys.argv[1])
print(network.predict(numpy.zeros((3, 3, 16, 16), numpy.uint8)).tolist(), network.classes[0])
heavy = ("lightning", "pytorch_lightning", "torchvision", "sklearn", "tensorboard", "matplotlib", "onnx", "onnxruntime",
         "nir", "h5py", "huggingface_hub", "shortcut_snn.recipes", "shortcut_snn.training", "shortcut_snn.cli",
         "shortcut_snn.data", "shortcut_snn.diagnosis")
print([name for name in heavy if name in sys.modules])
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    predicted, heavy = done.stdout.splitlines()
    assert predicted.endswith(" class 0")
    assert heavy == "[]"


def test_a_stream_ends_with_the_logits_of_the_sequence(event_run):
    network = load(event_run)
    frames = batch(network.spec, 4)
    expected = network.logits(frames)
    for _ in range(2):
        first = network.step(frames[:, 0])
        mean = network.step(frames[:, 1])
        assert torch.allclose(mean, expected, atol=1e-6)
        assert not torch.equal(mean, first)
        network.reset()
    # One camera, for longer than T frames.
    for _ in range(5):
        mean = network.step(frames[0, 0].numpy())
    assert mean.shape == (1, 10)
    assert torch.isfinite(mean).all()


def test_threads_may_run_sequences_during_a_step(event_run):
    network = load(event_run)
    frames = batch(network.spec, 4)
    expected, layers = network.logits(frames), set(network._single_step.modules())
    network.step(frames[:, 0])
    forward, results = CurrentNeuron.forward, []

    def another_thread_takes_over(layer, *args, **kwargs):
        if layer in layers:
            results.append(network.logits(frames))
        return forward(layer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CurrentNeuron, "forward", another_thread_takes_over)
        network.step(frames[:, 1])
    assert results
    assert all(torch.equal(logits, expected) for logits in results)
    weights = [parameter.data_ptr() for parameter in network.network.parameters()]
    assert [parameter.data_ptr() for parameter in network._single_step.parameters()] == weights


def test_a_stream_keeps_its_batch_size(event_run):
    network = load(event_run)
    network.step(torch.zeros(2, 2, 16, 16))
    with pytest.raises(ValueError, match=r"reset\(\)"):
        network.step(torch.zeros(3, 2, 16, 16))
    network.reset()
    assert network.step(torch.zeros(3, 2, 16, 16)).shape == (3, 10)


@pytest.mark.parametrize(
    ("name", "reader"), [("a.onnx", "onnxruntime"), ("a.nir", "nirtorch"), ("a.pt2", "torch.export.load")]
)
def test_errors_name_the_reader_of_other_formats(name, reader, tmp_path):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(ValueError, match=reader):
        load(tmp_path / name)


def test_bfloat16_is_close_to_float32(run):
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8)
    exact, rounded = load(run).logits(images), load(run, precision="bfloat16").logits(images)
    assert rounded.dtype == torch.float32
    # Weights of 8 bits flip some spikes.
    assert 0 < (rounded - exact).square().mean().sqrt() < 0.5 * exact.std()
    with pytest.raises(ValueError, match="bf16"):
        load(run, precision="bf16")


def test_bfloat16_takes_layers_defined_in_any_order():
    network, spec = family("basic")
    images = batch(spec, 20)
    exact = Inference(fold(network), spec).logits(images)
    name, first = next(network.named_children())
    delattr(network, name)
    network.add_module(name, first)
    rounded = Inference(fold(network), spec, "bfloat16")
    for _ in range(spec.time_steps):
        logits = rounded.step(images)
    for result in (rounded.logits(images), logits):
        assert result.dtype == torch.float32
        assert 0 < (result - exact).square().mean().sqrt() < 0.5 * exact.std()


@pytest.mark.parametrize(
    ("images", "keyword"),
    [
        (torch.zeros(2, 3, 16, 16), "uint8"),
        (torch.zeros(2, 1, 16, 16, dtype=torch.uint8), r"\[2, 1, 16, 16\]"),
        (np.zeros((0, 3, 16, 16), np.uint8), r"\[0, 3, 16, 16\]"),
        (np.zeros((2, 2, 3, 16, 16), np.uint8), r"\[N, 3, 16, 16\]"),
    ],
)
def test_wrong_images_are_refused(run, images, keyword):
    network = load(run)
    for call in (network.predict, network.step):
        with pytest.raises(ValueError, match=keyword):
            call(images)
        with pytest.raises(TypeError, match=r"got a str; for files use shortcut_snn.deploy.predict"):
            call("photo.png")


@pytest.mark.parametrize("setting", ["autocast", "inference mode", "float64"])
def test_settings_of_the_caller_do_not_matter(run, setting):
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    expected = load(run).logits(images)
    try:
        with {
            "autocast": torch.autocast("cpu", torch.bfloat16), "inference mode": torch.inference_mode()
        }.get(setting, nullcontext()):  # fmt: skip
            if setting == "float64":
                torch.set_default_dtype(torch.float64)
            network = load(run)
            assert torch.equal(network.logits(images), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(network.logits(images), expected)


def test_one_image_needs_no_batch_axis(run):
    network = load(run)
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    assert torch.equal(network.logits(image), network.logits(image[None]))
    assert network.predict(image.numpy()).shape == (1,)
