"""Integer forms of the networks that come with the package: accuracy, equality of bits, energy, and time of the C.

    OMP_NUM_THREADS=1 python research/studies/integers.py FOLDER digits-resnet18
    OMP_NUM_THREADS=1 python research/studies/integers.py FOLDER cifar10-resnet18 --root cifar10.npz --images 2000

Each number of bits is exported to C into the folder, compiled by ``make check`` and run on the same test images as
torch, whose logits have to be equal. NumPy runs the first of them, and has to compute the same spikes in every layer
and step. One line of Markdown is printed for each number of bits.
"""

import argparse
import copy
import re
import resource
import subprocess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from shortcut_snn.deploy import card, export_network
from shortcut_snn.deploy import integer_reference as reference
from shortcut_snn.deploy.export import network_logits
from shortcut_snn.deploy.integer_c import C
from shortcut_snn.deploy.integer_export import IntegerNetwork, integer_logits
from shortcut_snn.deploy.registry import TRAINED
from shortcut_snn.deploy.safetensors_files import read_folded, read_network
from shortcut_snn.energy.report import INTEGER_PRODUCT, INTEGER_SUM
from shortcut_snn.recipes import recipe_of

NUMPY_IMAGES = 32
NOISE = 1e-3


def data_of(
    name: str, steps: int, root: str | None, folder: Path, count: int, training: int = 64
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first test images of a network's data, as bytes, their labels, and some training images."""
    recipe = card(name).recipe
    data = recipe["data"] | ({"root": root} if root else {})
    data |= {"cache": str(folder / "cache")} if "cache" in data else {}
    loaded = recipe_of({**recipe, "data": data}).data.load(steps)
    indices = np.arange(min(count, len(loaded.test)))
    return loaded.test.fetch(indices), torch.as_tensor(loaded.test.labels)[indices], loaded.train.fetch(range(training))


def run_c(folder: Path, images: Tensor) -> tuple[Tensor, float, str]:
    """Return the logits of the C, its seconds for all images, and what ``make check`` prints."""
    checked = subprocess.run(["make", "-C", str(folder), "check"], capture_output=True, text=True, check=True).stdout
    # Without the counters of the check.
    command = ["cc", "-std=c99", "-O3", "-o", "classify", "check.c", "network.c"]
    subprocess.run(command, cwd=folder, check=True)
    (folder / "images.raw").write_bytes(images.numpy().tobytes())
    before = subprocess_seconds()
    printed = subprocess.run(
        ["./classify", "images.raw"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    logits = torch.tensor([[int(number) for number in line.split()] for line in printed.splitlines()])
    return logits, subprocess_seconds() - before, checked


def subprocess_seconds() -> float:
    """Return the processor time of ended child processes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


@torch.no_grad()
def with_noise(network: nn.Module) -> nn.Module:
    """Return a network whose weights are each off by about a thousandth, for comparison."""
    noisy, generator = copy.deepcopy(network), torch.Generator().manual_seed(0)
    for module in noisy.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.mul_(1 + NOISE * torch.randn(module.weight.shape, generator=generator))
    return noisy


def main() -> None:
    """Export, run and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the exports")
    parser.add_argument("name", help="name of a network that comes with the package")
    parser.add_argument("--root", help="file of its data")
    parser.add_argument("--images", type=int, default=10_000, help="number of test images")
    parser.add_argument("--bits", type=int, nargs="*", default=[8, 4], help="bits of the weights")
    options = parser.parse_args()
    network, spec = read_folded(TRAINED / options.name / "network.safetensors")
    images, labels, calibration = data_of(options.name, spec.time_steps, options.root, options.folder, options.images)
    expected = network_logits(network, spec, images).argmax(1)
    noisy = network_logits(with_noise(network), spec, images).argmax(1)
    images = images.clamp(0, 255).to(torch.uint8)
    energy = card(options.name).energy or {}
    accuracy = (expected == labels).double().mean()
    picojoules = energy["energy_pj"]
    print(
        f"| `{options.name}`, {len(images)} | float | {accuracy:.2%} | {int((noisy != expected).sum())} with noise | "
        f"| | | | | {picojoules / 1e6:.2f} | | | |",
        flush=True,
    )
    for bits in options.bits:
        folder = options.folder / f"{options.name}-{bits}"
        export_network(network, spec, calibration, C(bits), folder)
        path = folder / "network-integer.safetensors"
        logits = torch.cat([integer_logits(path)(chunk) for chunk in images.split(64)])
        c_logits, seconds, checked = run_c(folder, images)
        about, tensors = reference.read(path)
        assert torch.equal(c_logits, (logits / about["logit_scale"]).long()), "C and torch differ"
        numpy_logits, spikes = reference.run(about, tensors, images[:NUMPY_IMAGES].numpy())
        torch_logits, torch_spikes = IntegerNetwork(*reversed(read_network(path))).run(images[:NUMPY_IMAGES])
        assert np.array_equal(numpy_logits, torch_logits.numpy()), "NumPy and torch differ"
        assert all(np.array_equal(spikes[layer], torch_spikes[layer].numpy()) for layer in spikes), "spikes differ"
        rates = np.array(list(about["firing_rates"].values()))
        flash, ram = map(int, re.findall(r"(\d+) bytes", checked))
        additions, products = map(int, re.findall(r"per image (\d+) additions and (\d+)", checked)[0])
        picojoules = additions * INTEGER_SUM + products * (INTEGER_PRODUCT + INTEGER_SUM)
        predicted = logits.argmax(1)
        print(
            f"| `{options.name}` | {bits} | {(predicted == labels).double().mean():.2%} | "
            f"{int((predicted != expected).sum())} | {rates[:, 0].mean():.3f} | {rates[:, 1].mean():.3f} | "
            f"{abs(rates[:, 0] - rates[:, 1]).max():.3f} | {additions / 1e6:.2f} | {products / 1e6:.3f} | "
            f"{picojoules / 1e6:.2f} | {flash / 1e3:.0f} | {ram / 1e3:.0f} | {1e3 * seconds / len(images):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
