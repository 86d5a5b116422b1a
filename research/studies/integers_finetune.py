"""Fine-tune a network that comes with the package on the weights of an integer file, and test the integers.

    OMP_NUM_THREADS=2 python -m research.studies.integers_finetune digits-resnet18 --bits 2

The network is folded and learns the logits that it has without rounding. The same training images calibrate the file
before and after.
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from research.studies.integers import data_of
from shortcut_snn.deploy import export_network
from shortcut_snn.deploy.export import network_logits
from shortcut_snn.deploy.integer_export import Integer, integer_logits
from shortcut_snn.deploy.registry import TRAINED
from shortcut_snn.deploy.rounding import quantised_weights, round_weights
from shortcut_snn.deploy.safetensors_files import read_folded
from shortcut_snn.deploy.spec import Prepare


def main() -> None:
    """Fine-tune and test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of a network that comes with the package")
    parser.add_argument("--root", help="file of its data")
    parser.add_argument("--bits", type=int, default=4, help="bits of the weights")
    parser.add_argument("--steps", type=int, default=100, help="training steps")
    parser.add_argument("--batch", type=int, default=64, help="images of a step")
    parser.add_argument("--samples", type=int, default=1280, help="training images")
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate of Adam, which decays to 0")
    parser.add_argument("--images", type=int, default=1000, help="number of test images")
    options = parser.parse_args()
    network, spec = read_folded(TRAINED / options.name / "network.safetensors")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, labels, training = data_of(
            options.name, spec.time_steps, options.root, folder, options.images, options.samples
        )

        def accuracy(of: torch.nn.Module) -> float:
            path, _ = export_network(of, spec, training[:64], Integer(options.bits), folder)
            logits = torch.cat([integer_logits(path)(chunk) for chunk in images.split(64)])
            return float((logits.argmax(1) == labels).double().mean())

        right = float((network_logits(network, spec, images).argmax(1) == labels).double().mean())
        print(f"{options.name}, {len(images)} images: float {right:.2%}, {options.bits} bits {accuracy(network):.2%}")
        tuned, start = copy.deepcopy(network).requires_grad_(), time.perf_counter()
        optimizer = torch.optim.Adam(tuned.parameters(), options.lr)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, options.steps)
        prepare = Prepare(spec)
        for step in range(options.steps):
            chunk = training[torch.randperm(len(training))[: options.batch]]
            x: Tensor = prepare(chunk)
            with torch.no_grad():
                wanted = network(x).softmax(1)
            with quantised_weights(tuned, options.bits):
                loss = F.cross_entropy(tuned(x), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 10 == 9:
                print(f"step {step + 1}: loss {loss:.4f}, {time.perf_counter() - start:.0f} s", flush=True)
        round_weights(tuned, options.bits)
        print(f"{options.bits} bits after {options.steps} steps: {accuracy(tuned.requires_grad_(False)):.2%}")


if __name__ == "__main__":
    main()
