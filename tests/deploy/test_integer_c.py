"""C99 of integer networks: compiled by ``make check``, it computes the bits of NumPy and torch."""

import re
import shutil
import subprocess

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from shortcut_snn import nets
from shortcut_snn._utils.module_state import hooked
from shortcut_snn.cli import main
from shortcut_snn.deploy import card, export_network, fold
from shortcut_snn.deploy import integer_reference as reference
from shortcut_snn.deploy.integer_c import C
from shortcut_snn.deploy.integer_export import IntegerNetwork
from shortcut_snn.deploy.safetensors_files import read_network
from shortcut_snn.deploy.spec import Prepare
from shortcut_snn.neurons import IF, ILIF, LIF, PLIF

from .networks import CLASSES, activated, batch, make_spec

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not (shutil.which("cc") and shutil.which("make")), reason="needs a C compiler and make"),
]


def make(folder):
    return subprocess.run(["make", "-C", str(folder), "check"], capture_output=True, text=True, check=False)


def vgg(pooling):
    return lambda **options: nets.SpikingVGG([[1], [2, 1], [1]], pooling, CLASSES, **options)


def resnet(block, stem="small", kind=nets.SpikingResNet):
    return lambda **options: kind([2, 1], CLASSES, block=block, stem=stem, **options)


CASES = {
    "basic": (resnet("basic"), LIF, 8, False, 3),
    "basic, large, soft": (resnet("basic", "large"), lambda: LIF(0.3, reset="soft"), 4, True, 4),
    "sew": (resnet("sew"), IF, 4, True, 2),
    "sew, I-LIF": (resnet("sew"), lambda: ILIF(max_spikes=3), 8, False, 2),
    "ms": (resnet("ms"), lambda: IF(reset="soft"), 8, True, 3),
    "ms, large, I-LIF": (resnet("ms", "large"), ILIF, 3, False, 1),
    "plain": (resnet("plain"), lambda: PLIF(0.7), 5, False, 2),
    "hidden": (resnet("basic", kind=nets.resnet.SpikingResNet19), LIF, 4, False, 2),
    "vgg, max": (vgg("max"), LIF, 4, False, 2),
    "vgg, average, I-LIF": (vgg("average"), ILIF, 8, True, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_c_computes_the_same_bits(tmp_path, case):
    build, neuron, bits, events, steps = CASES[case]
    channels = 2 if events else 3
    network = activated(build(time_steps=steps, width=5, in_channels=channels, make_neuron=neuron), channels)
    # Odd numbers of pixels, of channels, and a mean that padding has to respect.
    mean = {"mean": [0.3, 0.7]} if events else {}
    spec = make_spec(events, network={"time_steps": steps}, image_size=[13, 11], **mean)
    images = batch(spec, 8)
    path, _ = export_network(network, spec, images, C(bits), tmp_path)
    made = make(path.parent)
    assert made.returncode == 0, made.stderr
    assert re.search(rf"4 test vectors, {steps} steps, \d+ layers: equal", made.stdout)
    (tmp_path / "images.raw").write_bytes(images.numpy().tobytes())
    command = [tmp_path / "snn-check", tmp_path / "images.raw"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    integers = IntegerNetwork(*reversed(read_network(tmp_path / "network-integer.safetensors")))
    logits, spikes = integers.run(images)
    assert [[int(number) for number in line.split()] for line in printed.splitlines()] == logits.tolist()
    assert sum(float(counts.double().mean()) > 0 for counts in spikes.values()) >= len(spikes) - 1


def test_additions_and_memory_are_counted(tmp_path):
    network = activated(nets.SpikingResNet([1, 1], CLASSES, 2, width=4, block="sew"))
    spec = make_spec()
    images = batch(spec, 4)
    path, _ = export_network(network, spec, images, "c", tmp_path)
    counted = re.search(r"per image (\d+) additions and (\d+) products", make(path.parent).stdout)
    additions = 0

    def count(name, conv, args, output):
        nonlocal additions
        if name != "stem.conv":
            reached = F.conv2d(args[0], torch.ones(1, *conv.weight.shape[1:]), None, conv.stride, conv.padding)
            additions += int(reached.sum()) * conv.out_channels

    integers = IntegerNetwork(*reversed(read_network(path.with_name("network-integer.safetensors"))))
    folded = fold(network)
    with torch.no_grad(), hooked({n: m for n, m in folded.named_modules() if isinstance(m, nn.Conv2d)}, count):
        folded(Prepare(spec)(images))
    # The float network's spikes differ a little.
    assert int(counted[1]) == pytest.approx(additions / 4, rel=0.05)
    assert int(counted[2]) <= 16 * 16 * 3 * 9 * 4 + 2 * 8 * CLASSES
    header = (tmp_path / "network.h").read_text()
    flash, ram = (int(re.search(rf"{name}_BYTES (\d+)", header)[1]) for name in ("FLASH", "RAM"))
    stored = sum(each.nbytes for name, each in integers.tensors.items() if not name.startswith("vectors"))
    assert flash == stored
    assert ram > 4 * sum(counts[0, 0].numel() for counts in integers.run(images)[1].values())


def test_files_of_the_user_are_not_replaced(tmp_path):
    network, spec = activated(nets.SpikingResNet([1], CLASSES, 2, width=4)), make_spec()
    (tmp_path / "Makefile").write_text("all: firmware.bin\n")
    with pytest.raises(ValueError, match="Makefile was not written by an export"):
        export_network(network, spec, batch(spec), "c", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]
    (tmp_path / "Makefile").unlink()
    for _ in range(2):
        export_network(network, spec, batch(spec), "c", tmp_path)


def test_a_wrong_weight_is_found_by_its_layer(tmp_path):
    network = activated(nets.SpikingResNet([1], CLASSES, 2, width=4))
    path, _ = export_network(network, make_spec(), batch(make_spec()), "c", tmp_path)
    text = path.read_text()
    start = text.index("layer1_0_conv1_bias[4] = {") + len("layer1_0_conv1_bias[4] = {")
    path.write_text(f"{text[:start]}123456{text[start:]}")
    made = make(tmp_path)
    assert made.returncode != 0
    assert "different spikes in layer1.0.spike1" in made.stdout


def test_the_command_exports_a_run_and_names_accuracy_and_rates(trained, tmp_path, capsys):
    assert main(["export", str(trained), "--to", "c", "--bits", "4", "--out", str(tmp_path), "--images", "60"]) == 0
    output, stated = capsys.readouterr().out, card(tmp_path)
    assert re.search(r"\d+ of 60 predictions agree", output)
    assert f"test accuracy in 4-bit integers: {100 * stated.accuracy['test']:.2f} %, before: " in output
    assert re.search(r"stem\.spike +0\.\d+ 0\.\d+\n", output)
    assert stated.files == {"c, weights of 4 bits": "network.c"}
    assert make(tmp_path).returncode == 0
    assert reference.read(tmp_path / "network-integer.safetensors")[0]["bits"] == 4
    assert main(["export", str(trained), "--to", "nir", "--bits", "4", "--out", str(tmp_path)]) == 2
    assert "bits" in capsys.readouterr().err


def test_the_card_does_not_list_the_integer_file_that_c_replaces(trained, tmp_path):
    accuracies = []
    for words in (["integer"], ["c", "--bits", "7"]):
        assert main(["export", str(trained), "--to", *words, "--out", str(tmp_path)]) == 0
        accuracies.append(card(tmp_path).accuracy)
    assert accuracies[0] == accuracies[1], "a card of another accuracy lists no earlier file"
    assert card(tmp_path).files == {"c, weights of 7 bits": "network.c"}
