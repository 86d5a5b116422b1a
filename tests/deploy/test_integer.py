"""Integer networks: the same bits from NumPy and torch, and the float network's spikes where nothing is rounded."""

import itertools
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from shortcut_snn import nets
from shortcut_snn._utils.module_state import hooked
from shortcut_snn.data import Digits
from shortcut_snn.deploy import export_network, fold, load
from shortcut_snn.deploy import integer_reference as reference
from shortcut_snn.deploy.export import network_logits
from shortcut_snn.deploy.integer_export import Integer, IntegerNetwork, integer_logits, speck_refusals
from shortcut_snn.deploy.integer_graph import integer_graph, pack
from shortcut_snn.deploy.registry import TRAINED
from shortcut_snn.deploy.rounding import quantise, quantised_weights, round_weights
from shortcut_snn.deploy.safetensors_files import read_folded
from shortcut_snn.deploy.spec import Prepare
from shortcut_snn.introspection.neurons import spiking_layers
from shortcut_snn.neurons import CLIF, IF, ILIF, LIF, PLIF, unrolled_spikes

from .networks import CLASSES, FAMILIES, activated, batch, family, make_spec, small

pytestmark = pytest.mark.filterwarnings("ignore")

NEURONS = {
    "lif": lambda: LIF(0.5),
    "lif, soft": lambda: LIF(0.25, 0.75, reset="soft"),
    "if": lambda: IF(),
    "if, soft": lambda: IF(0.5, reset="soft"),
    "ilif": lambda: ILIF(0.25, 3),
}


def on_lattice(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Fold a network and give it weights and biases that an integer network of 8 bits holds exactly."""
    folded = fold(network, torch.zeros(network.time_steps, 1, network.in_channels, 16, 16))
    for module in folded.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = torch.randint(-6, 10, module.weight.shape, generator=generator)
            weight.view(len(weight), -1)[:, 0] = 127
            module.weight.data = weight.float() / 64
            module.bias = nn.Parameter(torch.randint(4, 20, (len(weight),), generator=generator).float() / 64)
    return folded


def layer_spikes(network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the spikes of every layer of neurons."""
    spikes: dict[str, torch.Tensor] = {}
    with torch.no_grad(), hooked(spiking_layers(network), lambda name, module, args, out: spikes.update({name: out})):
        network(x)
    return spikes


def assert_numpy_equals_torch(about, tensors, images, spikes, logits):
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    expected_logits, expected = reference.run(about, arrays, images.numpy())
    assert np.array_equal(expected_logits, logits.numpy())
    assert expected.keys() == spikes.keys()
    for name in expected:
        assert np.array_equal(expected[name], spikes[name].numpy()), name


RESNETS = [f"{block}, {stem}" for block in ("basic", "sew", "ms", "plain") for stem in ("small", "large")]


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("kind", [*RESNETS, "vgg, max", "vgg, average", "hidden"])
def test_nothing_is_lost_where_nothing_is_rounded(kind, neuron):
    """Weights, biases, leaks and inputs are fractions of powers of two, so both networks compute without rounding."""
    generator = torch.Generator().manual_seed(len(kind) + len(neuron))
    steps = int(torch.randint(1, 5, (), generator=generator))
    options = {"in_channels": 2, "width": 3, "make_neuron": NEURONS[neuron]}
    if kind.startswith("vgg"):
        network = nets.SpikingVGG([[1], [2, 1], [1]], kind.removeprefix("vgg, "), CLASSES, steps, **options)
    elif kind == "hidden":
        network = nets.resnet.SpikingResNet19([1, 1], CLASSES, steps, **options)
    else:
        block, stem = kind.split(", ")
        network = nets.SpikingResNet([2, 1], CLASSES, steps, block=block, stem=stem, **options)
    network = on_lattice(network.eval(), generator)
    if kind == "hidden":
        # Else all hidden neurons fire at every step.
        lowest = -384 if neuron == "ilif" else -128
        network.hidden.bias.data = torch.randint(lowest, 0, network.hidden.bias.shape, generator=generator).float() / 64
    # With an odd number of pixels, pooling rounds up; the mean is not 0, so that padding matters.
    side = 10 if kind == "hidden" else 11
    spec = make_spec(True, network={"time_steps": steps}, image_size=[side, side], mean=[1.0, 0.5])
    images = torch.randint(0, 4, (3, steps, 2, side, side), generator=generator, dtype=torch.uint8)
    about, tensors = integer_graph(network, spec, 8)
    integers, x = IntegerNetwork(about, tensors), Prepare(spec)(images)
    logits, spikes = integers.run(images)
    expected = layer_spikes(network, x)
    assert spikes.keys() == expected.keys()
    for name in expected:
        assert torch.equal(spikes[name].view_as(expected[name]).float(), expected[name]), name
    assert kind != "hidden" or len(expected["hidden_spike"].unique()) > 1
    active = [float(each.mean()) > 0.01 and float(each.min()) == 0 for each in expected.values()]
    assert sum(active) >= 3, "the layers fire"
    with torch.no_grad():
        close = (logits * about["logit_scale"] - network(x)).abs().max()
    # Means of pixels are rounded.
    assert close < 0.02
    assert_numpy_equals_torch(about, tensors, images, spikes, logits)


@pytest.mark.parametrize(("name", "bits"), [(name, bits) for name in FAMILIES for bits in (8, 4) if "qk" not in name])
def test_numpy_and_torch_compute_the_same_bits(name, bits):
    network, spec = family(name, time_steps=1 + len(name) % 4)
    images, folded = batch(spec, 3), fold(network)
    about, tensors = integer_graph(folded, spec, bits)
    logits, spikes = IntegerNetwork(about, tensors).run(images)
    assert_numpy_equals_torch(about, tensors, images, spikes, logits)
    expected = layer_spikes(folded, Prepare(spec)(images))
    for layer, counts in spikes.items():
        mean = expected[layer].double().mean().item()
        assert counts.double().mean().item() == pytest.approx(mean, abs=0.08 if bits == 8 else 0.25)


@pytest.mark.parametrize("bits", [8, 4])
def test_digits_in_integers_predict_what_the_network_predicts(tmp_path, bits):
    network, spec = read_folded(TRAINED / "digits-resnet18" / "network.safetensors")
    test = Digits().load().test
    images, labels = test.fetch(np.arange(120)), test.labels[:120]
    path, agreement = export_network(network, spec, images, Integer(bits), tmp_path)
    assert agreement.agree >= 116
    predicted = integer_logits(path)(images).argmax(1)
    assert int((predicted == network_logits(network, spec, images).argmax(1)).sum()) == agreement.agree
    assert (predicted == labels).float().mean() > 0.97
    about, tensors = reference.read(path)
    logits, spikes = reference.run(about, tensors, images[:6].numpy())
    assert np.array_equal(logits.argmax(1), predicted[:6])
    for layer, (before, after) in about["firing_rates"].items():
        assert after == pytest.approx(before, abs=0.02), layer
        assert set(np.unique(spikes[layer])) == {0, 1}
    weights = sum(tensor.nbytes for name, tensor in tensors.items() if name.endswith("weight"))
    assert weights < (0.51 if bits == 4 else 1.01) * sum(p.numel() for p in network.parameters())


def test_the_interpreter_runs_alone(tmp_path):
    network, spec = small()
    path, _ = export_network(network, spec, batch(spec), "integer", tmp_path)
    script = shutil.copy(reference.__file__, tmp_path)
    np.save(tmp_path / "images.npy", batch(spec, 3).numpy())

    def outputs(*arguments):
        command = [sys.executable, "-I", script, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")[:-1]

    assert outputs(path) == ["4 test vectors: equal"]
    labels = integer_logits(path)(torch.from_numpy(np.load(tmp_path / "images.npy"))).argmax(1)
    assert outputs(path, tmp_path / "images.npy") == [str(int(label)) for label in labels]
    # The vectors find a threshold that is off by a few units.
    content, (_, tensors) = bytearray(path.read_bytes()), reference.read(path)
    at = content.index(tensors["layer1.0.spike1.threshold"].tobytes())
    content[at + 2] ^= 255
    path.write_bytes(content)
    assert outputs(path) == ["4 test vectors: DIFFERENT"]


@pytest.mark.parametrize(
    ("weight", "remedy"),
    [
        (0.12, "2 bits: use --bits [3-5]"),
        (0.003, "8 bits or fewer: train with method.weight_bits=8, or export to onnx"),
    ],
)
def test_a_layer_that_falls_silent_names_what_mends_it(weight, remedy):
    network, spec = small()
    folded, x = fold(network), Prepare(spec)(batch(spec))
    conv = folded.layer1[0].conv1
    with torch.no_grad():
        # With few bits, the small weights are 0 next to the large negative one; the bias has their mean alone.
        conv.weight.fill_(weight)
        conv.weight[:, 0, 0, 0] = -1.0
    for bias in torch.linspace(1.0, -3.0, 81).tolist():
        nn.init.constant_(conv.bias, bias)
        if layer_spikes(folded, x)["layer1.0.spike1"].mean() < 0.02:
            break
    assert layer_spikes(folded, x)["layer1.0.spike1"].any()
    with pytest.raises(ValueError, match=rf"layer1\.0\.spike1 fires with float weights, but never with {remedy}"):
        Integer(2).rounded(folded, spec, x)
    if weight == 0.12:
        assert Integer(8).rounded(folded, spec, x).about["firing_rates"]["layer1.0.spike1"][1] > 0


def changed(change):
    network, spec = small()
    folded = fold(network)
    change(folded)
    return folded, spec


def set_conv(**options):
    def change(network):
        network.layer1[0].conv1 = nn.Conv2d(4, 4, 3, **{"padding": 1} | options)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_conv(groups=2), r"layer1\.0\.conv1 has groups"),
        (set_conv(dilation=2, padding=2), r"layer1\.0\.conv1 has groups or a dilation"),
        (set_conv(padding="same"), r"layer1\.0\.conv1 pads with"),
        (set_conv(padding_mode="circular"), r"layer1\.0\.conv1 pads with"),
        (lambda network: setattr(network.stem, "conv", nn.Identity()), r"stem\.conv is a Identity"),
        (lambda network: setattr(network.layer1[0].spike1, "neuron", CLIF()), r"layer1\.0\.spike1 has neurons of CLIF"),
        (lambda network: setattr(network.layer1[0], "spike1", nn.ReLU()), r"layer1\.0\.spike1 is a ReLU"),
        (lambda network: network.layer2.append(nn.Identity()), r"layer2\.1 is a Identity"),
        (lambda network: setattr(network.layer2[0], "project", nn.Flatten()), r"layer2\.0\.project is a Flatten"),
        (lambda network: setattr(network, "stem", nn.Flatten()), "stem is a Flatten"),
        (lambda network: setattr(network.stem, "pool", nn.MaxPool2d(3, dilation=2)), r"stem\.pool is a MaxPool2d"),
        (lambda network: setattr(network.stem, "pool", nn.AvgPool2d(3)), r"stem\.pool is a AvgPool2d"),
        (lambda network: setattr(network, "readout", "sequence"), "classifier returns logits of every step"),
        (lambda network: network.layer2[0].conv2.weight.mul_(1e12), r"layer2\.0\.conv2 has sums"),
    ],
)
def test_what_integers_do_not_represent_is_refused_by_name(change, message):
    network, spec = changed(change)
    with pytest.raises(ValueError, match=message) as refusal:
        integer_graph(network, spec, 8)
    assert len(str(refusal.value).split()) <= 30


def test_other_families_are_refused():
    network, spec = family("qkformer")
    with pytest.raises(ValueError, match="ResNets and VGGs, not SpikingTransformer"):
        integer_graph(fold(network), spec, 8)


def test_counts_that_overflow_are_refused():
    network, _ = small()
    with pytest.raises(ValueError, match="features may need 17 bits for its values, but integer files have 16"):
        integer_graph(fold(network), make_spec(image_size=[400, 400]), 8)


def test_speck_names_the_layer_that_it_cannot_run():
    network = activated(nets.SpikingVGG([[1], [1]], "average", CLASSES, 2, width=2, make_neuron=IF))
    spec = make_spec(image_size=[8, 8])
    about, _ = integer_graph(fold(network), spec, 8)
    assert list(speck_refusals(about)) == []
    deep, deep_spec = family("basic")
    refusals = list(speck_refusals(integer_graph(fold(deep), deep_spec, 8)[0]))
    for part in (
        "classifier is layer 10 of 10",
        "layer1.0.conv2 multiplies its sums",
        "stem.spike leaks by a factor",
        "stem.spike has a threshold of 2",
    ):
        assert any(refusal.startswith(part) for refusal in refusals), part
    wide = [("size", [17, 17], "kernel"), ("stride", [3, 3], "stride"), ("padding", [8, 8], "padding")]
    for (key, value, word), node in itertools.product(wide, [about["nodes"][0]]):
        (refusal,) = speck_refusals({**about, "nodes": [{**node, key: value}, *about["nodes"][1:]]})
        assert refusal.startswith("stage1.0.conv has")
        assert word in refusal


def test_weights_are_nearest_in_the_sense_of_least_squares():
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    for bits in (2, 4, 8):
        integers, scale = quantise(weight, bits)
        assert integers.abs().max() <= 2 ** (bits - 1) - 1
        largest = weight.abs().amax(1) / (2 ** (bits - 1) - 1)
        rounded = (weight / largest[:, None]).round() * largest[:, None]
        error = (integers * scale[:, None] - weight).square().sum(1)
        assert (error <= (rounded - weight).square().sum(1)).all()
    assert torch.equal(quantise(weight * 3, 4)[0], quantise(weight, 4)[0])


def test_four_bits_share_a_byte():
    integers = torch.randint(-7, 8, (3, 5, 2, 2))
    packed = pack(integers)
    assert packed.nbytes == 3 * 3 * 2 * 2
    assert np.array_equal(reference.unpacked(packed.numpy(), 5), integers.numpy())


def test_a_count_is_as_many_binary_spikes():
    network = activated(nets.SpikingResNet([1], CLASSES, 2, width=4, make_neuron=lambda: ILIF(max_spikes=3)))
    spec, images = make_spec(), batch(make_spec(), 2)
    about, tensors = integer_graph(fold(network), spec, 4)
    interpreter = reference.Interpreter(about, {name: tensor.numpy() for name, tensor in tensors.items()})
    node = next(node for node in about["nodes"] if node["name"] == "layer1.0.conv1")
    counts = interpreter.run(images.numpy())[1]["stem.spike"]
    assert counts.max() > 1
    binary = unrolled_spikes(torch.from_numpy(counts), 3).numpy()
    for step in range(2):
        parts = [interpreter._sums(node, each) for each in binary[3 * step : 3 * step + 3]]
        assert np.array_equal(sum(parts), interpreter._sums(node, counts[step]))


@pytest.mark.parametrize("block", ["basic", "ms"])
def test_training_sees_the_weights_of_the_file(block):
    network = activated(nets.SpikingResNet([1, 1], CLASSES, 2, width=4, block=block))
    for module in network.modules():
        # Folding multiplies a channel's weights by a factor, which may be negative: the file's integers are the same.
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[::2] *= -1
    about, tensors = integer_graph(fold(network), make_spec(), 4)
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    before = {path: layer.weight.detach().clone() for path, layer in layers.items()}
    images = torch.rand(2, 3, 16, 16)
    with quantised_weights(network, 4):
        seen = {path: layer.weight.detach() for path, layer in layers.items()}
        loss = network(images).square().sum()
    loss.backward()
    bits = {node["name"]: node["bits"] for node in (*about["nodes"], about["readout"]) if node["op"] == "conv"}
    assert bits.keys() == layers.keys()
    for path, layer in layers.items():
        assert torch.equal(layer.weight, before[path])
        assert torch.equal(seen[path], before[path]) == (bits[path] == 8), path
        assert layer.weight.grad.abs().sum() > 0, path
        if bits[path] == 4:
            stored = torch.from_numpy(reference.unpacked(tensors[f"{path}.weight"].numpy(), layer.in_channels))
            scale = (seen[path] * stored).sum((1, 2, 3)) / stored.square().sum((1, 2, 3))
            assert torch.allclose(stored * scale.view(-1, 1, 1, 1), seen[path], atol=1e-5), path
    round_weights(network, 4)
    assert all(torch.equal(layer.weight, seen[path]) for path, layer in layers.items())
    again = integer_graph(fold(network), make_spec(), 4)[1]
    assert all(torch.equal(again[name], tensors[name]) for name in tensors if name.endswith("weight"))


def test_a_learned_decay_is_a_fraction():
    network = activated(nets.SpikingResNet([1], CLASSES, 3, width=4, make_neuron=lambda: PLIF(0.3)))
    about, _ = integer_graph(fold(network), make_spec(network={"time_steps": 3}), 8)
    numerator, digits = next(node["decay"] for node in about["nodes"] if node["op"] == "neuron")
    assert numerator / 2**digits == pytest.approx(0.3, abs=2**-16)


def test_bytes_of_images_are_restored_from_normalised_ones():
    spec = load("digits-resnet18").spec
    network, _ = read_folded(TRAINED / "digits-resnet18" / "network.safetensors")
    images = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    integers = IntegerNetwork(*integer_graph(network, spec, 8))
    assert torch.equal(integers.restored(Prepare(spec)(images)), images)
