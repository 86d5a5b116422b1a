"""A network in use: no training code, whole batches, streams, and clear words for wrong input."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from shortcut_snn import components
from shortcut_snn.deploy import Description, Inference, load
from shortcut_snn.deploy.folding import fold
from shortcut_snn.deploy.prepare import Prepare
from shortcut_snn.deploy.torch_runtime import TorchRuntime
from shortcut_snn.deploy.weights import save_network
from shortcut_snn.neurons import IF, LIF, CurrentNeuron, Membrane
from shortcut_snn.recipes import recipe_of
from shortcut_snn.recipes.build import build_network

from .networks import batch, description, family

pytestmark = pytest.mark.filterwarnings("ignore")


def inference(events=False):
    network, about = family("basic", events)
    return Inference(TorchRuntime(fold(network), about), about)


def test_nothing_that_trains_is_imported(run, nothing_imported):
    code = """
import sys
from shortcut_snn.deploy import load
import numpy
network = load(sys.argv[1])
print(network.predict(numpy.zeros((3, 3, 16, 16), numpy.uint8)).tolist(), network.classes[0])
heavy = ("lightning", "pytorch_lightning", "torchvision", "sklearn", "tensorboard", "matplotlib", "onnx", "onnxruntime",
         "nir", "h5py", "shortcut_snn.recipes", "shortcut_snn.training", "shortcut_snn.cli", "shortcut_snn.data",
         "shortcut_snn.diagnosis")
print([name for name in heavy if name in sys.modules])
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    predicted, heavy = done.stdout.splitlines()
    assert predicted.endswith(" class 0")
    assert heavy == "[]"


def test_a_stream_ends_where_the_sequence_does(event_run):
    network = load(event_run)
    frames = torch.poisson(torch.full((4, 2, 2, 16, 16), 0.5)).to(torch.uint8)
    whole = network.logits(frames)
    for _ in range(2):
        for t in range(2):
            so_far = network.step(frames[:, t])
        assert torch.allclose(so_far, whole, atol=1e-6)
        network.reset()
    # One camera, frame by frame, for longer than the network was trained on.
    for _ in range(5):
        so_far = network.step(frames[0, 0].numpy())
    assert so_far.shape == (1, 10)
    assert torch.isfinite(so_far).all()


def test_threads_may_share_a_network_while_one_steps():
    network = inference(events=True)
    frames = torch.poisson(torch.full((4, 2, 2, 16, 16), 0.5)).to(torch.uint8)
    expected, layers = network.logits(frames), list(network.runtime.step_network.modules())
    network.step(frames[:, 0])
    forward, seen = CurrentNeuron.forward, []

    def meanwhile(layer, *args, **kwargs):
        # Another thread takes over within a step.
        if any(layer is each for each in layers):
            seen.append(network.logits(frames))
        return forward(layer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CurrentNeuron, "forward", meanwhile)
        network.step(frames[:, 1])
    assert seen
    assert all(torch.equal(logits, expected) for logits in seen)
    weights = [each.data_ptr() for each in network.runtime.network.parameters()]
    assert [each.data_ptr() for each in network.runtime.step_network.parameters()] == weights


def test_a_layer_of_neurons_that_is_called_twice_cannot_step():
    neuron = CurrentNeuron(LIF())
    neuron.membrane = Membrane()
    neuron(torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match=r"a LIF is called twice in a time step, .* a layer of neurons of its own"):
        neuron(torch.ones(1, 2, 3))


def test_membranes_are_kept_between_steps():
    network = inference(events=True)
    frame = torch.full((1, 2, 16, 16), 1, dtype=torch.uint8)
    first = network.step(frame).clone()
    second = network.step(frame) * 2 - first
    network.reset()
    assert torch.equal(network.step(frame), first)
    assert not torch.equal(second, first), "without its membrane potentials the second step would be the first"


@pytest.mark.parametrize(
    ("name", "tool"),
    [("a.onnx", "onnxruntime"), ("a.nir", "nirtorch"), ("a.pt2", "torch.export.load, if you trust it")],
)
def test_other_formats_are_opened_by_others(name, tool, tmp_path):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(ValueError, match=rf"{name} is no \.safetensors file; it is for {tool}"):
        load(tmp_path / name)


def test_bfloat16_is_near(run):
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8)
    exact, fast = load(run).logits(images), load(run, precision="bfloat16").logits(images)
    assert fast.dtype == torch.float32
    # Weights of 8 bits flip some spikes: near, not equal.
    assert (fast - exact).square().mean().sqrt() < 0.5 * exact.std()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(2, 3, 16, 16), "must be uint8, levels of 0 to 255, got torch.float32"),
        (
            torch.zeros(2, 1, 16, 16, dtype=torch.uint8),
            r"takes \[N, 3, 16, 16\] or \[3, 16, 16\], got \[2, 1, 16, 16\]",
        ),
        (torch.zeros(2, 3, 8, 16, dtype=torch.uint8), "got"),
        (np.zeros((0, 3, 16, 16), np.uint8), "got"),
        (np.zeros((2, 2, 3, 16, 16), np.uint8), "got"),
        (np.uint8(3), "got"),
    ],
)
def test_wrong_images(given, said):
    network = inference()
    for call in (network.predict, network.step):
        with pytest.raises(ValueError, match=said):
            call(given)


def test_another_batch_in_a_stream():
    network = inference(events=True)
    network.step(torch.zeros(2, 2, 16, 16))
    with pytest.raises(ValueError, match=r"began with 2 frames at a time, got 3; call reset\(\)"):
        network.step(torch.zeros(3, 2, 16, 16))
    network.reset()
    assert network.step(torch.zeros(3, 2, 16, 16)).shape == (3, 10)


def test_one_image_needs_no_batch():
    network = inference()
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    assert torch.equal(network.logits(image), network.logits(image[None]))
    assert network.predict(image.numpy()).shape == (1,)
    assert network.classes == description().images.classes


def test_a_stream_in_bfloat16_forgets_nothing():
    neuron = CurrentNeuron(IF())
    # Too small a step for a bfloat16 near 1: rounded at every call, the potential would stay where it is.
    current, membrane = torch.full((1, 2, 3), 0.0019, dtype=torch.bfloat16), Membrane(torch.full((2, 3), 0.9))
    for _ in range(60):
        neuron.membrane = membrane
        spikes = neuron(current)
        assert spikes.dtype == torch.bfloat16
        if spikes.any():
            break
        membrane = Membrane(membrane.after)
    assert spikes.all()


def test_what_the_kernels_cannot_add_is_added_before_them():
    neuron = CurrentNeuron(LIF())
    x, residual = torch.randn(3, 4, 2, 8, 8), torch.randn(1, 4, 2, 8, 8) + 1
    assert torch.equal(neuron(x, residual), neuron(x, residual.expand_as(x).contiguous()))
    neuron.membrane = Membrane(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="initial membrane potential must have shape"):
        neuron(x)


class ByTimeStep(nn.Module):
    """A parameter of five axes, as that of batch norms with a factor for each time step (TEBN)."""

    def __init__(self, num_classes, make_neuron, *, time_steps: int = 3):
        super().__init__()
        self.time_steps, self.conv, self.norm = time_steps, nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.factor = nn.Parameter(torch.rand(time_steps, 1, 1, 1, 1) + 0.5)
        self.spike, self.classifier = make_neuron(), nn.Linear(8, num_classes)

    def forward(self, x):
        current = self.norm(self.conv(x)).expand(self.time_steps, -1, -1, -1, -1) * self.factor
        return self.classifier(self.spike(current).mean((0, -1, -2)))


def test_parameters_of_any_number_of_axes(tmp_path, forgotten):
    components.network("by_time_step")(ByTimeStep)
    about = Description.from_about({**description().to_dict(), "network": {"kind": "by_time_step"}})
    network = build_network(recipe_of({"network": {"kind": "by_time_step"}}), about.data)
    assert network.conv.weight.is_contiguous(memory_format=torch.channels_last)
    network.eval()
    (tmp_path / "run").mkdir()
    save_network(network, tmp_path / "run" / "network.safetensors", about.to_dict())
    images = batch(about)
    with torch.no_grad():
        expected = network(Prepare(about)(images))
    assert expected.std() > 0
    torch.testing.assert_close(load(tmp_path / "run").logits(images), expected, rtol=1e-4, atol=1e-5)
