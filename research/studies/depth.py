"""Measure what fades with depth before the first step, and whether it predicts what is learned.

    python -m research.studies.depth figure OUT.png
    python -m research.studies.depth time
    python -m research.studies.depth size --data cifar100_32.npz [--width 64]
    python -m research.studies.depth rank OUT.csv --data cifar10_16.npz [--table docs/results/claim-depth.csv]

``figure`` draws the input that is kept and the gradient's norm over the layers of a ResNet-34 with basic blocks, on
digits, for four starts. It takes 15 seconds.

``time`` prints how well the gradient of each time step keeps its direction over the blocks of an initialised
ResNet-110: the cosine between the gradient at the first and at the last block of each stage. It prints it with and
without a gradient through the membranes of the neurons that pass on spikes.

``size`` measures new networks of 18 and 34 layers at another width and resolution, as they are and initialised.

``rank`` measures the networks of ``research/studies/claim.py depth`` on one batch before the first step: without
branches, with ``loss_sum`` and initialised. It prints Spearman's rank correlation of each measure with the test
accuracy in TABLE, for the settings of 18 and 34 layers that were trained alike, and for all.
"""

import argparse
import csv
import itertools
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from research.studies import claim, claim_tables
from shortcut_snn import LossSum, Shortcut, initialise, nets, wrap
from shortcut_snn._utils.files import write_csv
from shortcut_snn.cli.gradients import examine_new_network
from shortcut_snn.diagnosis import judge
from shortcut_snn.initialisation import set_surrogates
from shortcut_snn.measurement import examine
from shortcut_snn.measurement.layers import chain
from shortcut_snn.nets import SpikingNetwork
from shortcut_snn.neurons import LIF, Triangle
from shortcut_snn.plots import COLOURS, finish_axes, new_figure, save_figure
from shortcut_snn.recipes import Recipe, build, changed, recipe_of

MEASURES = ("kept_last", "kept_mean", "lost", "gradient")


def batch_of_digits(samples: int = 64) -> tuple[Tensor, Tensor]:
    """Return normalised digits and labels."""
    task, data = build(recipe_of("digits-deep", {"data": {"batch_size": samples}}))
    inputs, labels = task.prepare_batch(next(iter(data.loaders(0).train)))
    return inputs, labels


def usual(make: Any = nets.spiking_resnet34) -> SpikingNetwork:
    """Return a new network, a ResNet-34 by default."""
    torch.manual_seed(0)
    network: SpikingNetwork = make(
        10, 2, width=8, in_channels=1, make_neuron=lambda: LIF(0.25, surrogate=Triangle()), classifier_std="1/inputs"
    )
    return network


def with_even_surrogates(net: nn.Module, batch: tuple[Tensor, Tensor]) -> nn.Module:
    """Scale the surrogates alone, until the gradient keeps its norm from neuron to neuron."""
    factors: dict[str, float] = {}
    for _ in range(6):
        for layer, after in pairwise(chain(examine(net, [batch]).layers)):
            factors[layer.layer] = factors.get(layer.layer, 1.0) * after.norm / layer.norm
        set_surrogates(net, {name: {"factor": factor} for name, factor in factors.items()})
    return net


def wrapped(network: SpikingNetwork) -> Shortcut:
    """Return a network with a branch at every block."""
    return wrap(network, network.layout("blocks"), log=len)


def figure(out: Path) -> None:
    """Draw the two measures over the layers for four starts."""
    batch = batch_of_digits()
    initialised = usual()
    print(initialise(initialised, *batch))
    branches = wrapped(usual())
    starts: dict[str, tuple[nn.Module, Any]] = {
        "baseline": (usual(), None),
        "baseline, a loss at every block": (branches, lambda output, labels: LossSum()(output, labels, 0.25)),
        "initialised": (initialised, None),
        "baseline, scaled surrogates": (with_even_surrogates(usual(), batch), None),
    }
    picture = new_figure(7, 5.5)
    plots = picture.subplots(2, 1, sharex=True)
    for index, (name, (model, loss)) in enumerate(starts.items()):
        network = getattr(model, "network", model)
        layers = chain(examine(model, [batch], loss or F.cross_entropy, network=network).layers)
        layers = [layer for layer in layers if not layer.layer.endswith("spike1")]
        # Three starts keep the same input; dashes and marks at different blocks show every curve.
        style: Any = {"color": COLOURS[index], "marker": "osvD"[index], "markevery": (index, 4), "label": name}
        style["linestyle"] = "-" if index in (0, 2) else (4 * (index == 3), (4, 6))
        plots[0].plot([layer.kept for layer in layers], **style)
        plots[1].plot([layer.norm / layers[-1].norm for layer in layers], **style)
        print(f"{name}: kept {layers[-1].kept:.2f}, gradient {layers[0].norm / layers[-1].norm:.3g}")
    plots[0].set(ylabel="share of the input kept", ylim=(0, 1))
    plots[1].set(ylabel="gradient norm, last block = 1", xlabel="residual block, from the stem (0)")
    finish_axes(plots[0], legend=True)
    finish_axes(plots[1], log=True)
    save_figure(picture, out)


def through_time() -> None:
    """Print the cosines between gradients of the first and the last block of each stage, by time step."""
    images, labels = batch_of_digits()
    network: Any = usual(nets.spiking_resnet110)
    print(initialise(network, images, labels))
    passing = [module for module in network.modules() if getattr(module, "detach_membrane", False)]
    for detach in (False, True):
        for neuron in passing:
            neuron.detach_membrane = detach
        outputs: list[Tensor] = []

        def keep(block: nn.Module, args: Any, output: Tensor, outputs: list[Tensor] = outputs) -> None:
            output.retain_grad()
            outputs.append(output)

        ends = [stage[index] for stage in (network.layer1, network.layer2, network.layer3) for index in (0, -1)]
        handles = [block.register_forward_hook(keep) for block in ends]
        F.cross_entropy(network(images), labels).backward()
        for handle in handles:
            handle.remove()
        gradients: Any = [output.grad.flatten(1) for output in outputs if output.grad is not None]
        for stage in range(3):
            cosines = F.cosine_similarity(gradients[2 * stage], gradients[2 * stage + 1])
            text = ", ".join(f"t = {step}: {cosine:.2f}" for step, cosine in enumerate(cosines.tolist(), 1))
            print(f"{'without' if detach else 'with'} a gradient through membranes, stage {stage + 1}: {text}")


def measure(recipe: Recipe) -> dict[str, float]:
    """Measure the new network of a recipe on its first batch."""
    layers = examine_new_network(recipe)
    kept, verdict = [layer.kept for layer in chain(layers)], judge(layers)
    return {
        # The last neuron may be in a branch, and its spikes added to what is kept.
        "kept_last": max(kept[-2:]),
        "kept_mean": sum(kept) / len(kept),
        "lost": verdict.lost,
        "gradient": verdict.distance,
    }


def size(data: Path, width: int) -> None:
    """Print what new networks keep of the input, and how their gradient grows, at a width."""
    for setting, method in itertools.product(("18-basic", "34-basic"), ("vanilla", "initialised")):
        recipe = changed(claim.depth_recipe(setting, method, data), {"network": {"width": width}})
        print_start(f"{setting}, {width} wide, {method}", recipe)


def print_start(name: str, recipe: Recipe) -> None:
    """Print what the new network of a recipe keeps of the input, and how its gradient grows."""
    layers = chain(examine_new_network(recipe))
    rates, kept = [layer.rate for layer in layers], max(layer.kept for layer in layers[-2:])
    print(
        f"{name}: last layers keep {kept:.0%} of the input, {judge(layers).lost:.0%} of {len(layers)} layers lost it; "
        f"gradient, first layer / last {layers[0].norm / layers[-1].norm:.3g}; firing rates {min(rates):.2f} to "
        f"{max(rates):.2f}",
        flush=True,
    )


def rank(out: Path, table: Path, data: Path) -> None:
    """Measure all settings of a table of accuracies, and print the rank correlations."""
    with table.open(newline="", encoding="utf-8") as file:
        found = claim_tables.grouped(list(csv.DictReader(file)), "final")
    rows: list[dict[str, Any]] = []
    for setting, methods in found.items():
        for method in claim.DEPTH_METHODS:
            if method in methods:
                recipe = claim.depth_recipe(setting, method, data)
                accuracy = fmean(claim_tables.accuracy(row) for row in methods[method])
                rows.append({"setting": setting, "method": method, **measure(recipe), "accuracy": accuracy})
                print(" | ".join(f"{value:.3g}" if isinstance(value, float) else value for value in rows[-1].values()))
    write_csv(out, rows)
    # Others differ in width, steps, optimizer or neuron.
    alike = [row for row in rows if row["setting"] in claim.DEPTH_SETTINGS and row["setting"][:2] in ("18", "34")]
    for name, (kind, chosen) in itertools.product(MEASURES, {"trained alike": alike, "in all": rows}.items()):
        correlation = spearmanr([row[name] for row in chosen], [row["accuracy"] for row in chosen]).statistic
        print(f"{name}: Spearman {correlation:+.2f} over {len(chosen)} settings {kind}")


def main() -> None:
    """Run one of the four."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("figure", "time", "size", "rank"))
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--table", type=Path, default=Path("docs/results/claim-depth.csv"), help="of accuracies")
    parser.add_argument("--data", type=Path, help="an archive of images; research/studies/cifar10_npz.py writes it")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage, of size")
    options = parser.parse_args()
    if options.study in ("size", "rank") and options.data is None:
        parser.error(f"{options.study} needs --data")
    if options.study == "time":
        through_time()
    elif options.study == "size":
        size(options.data, options.width)
    elif options.out is None:
        parser.error(f"{options.study} needs a file for its results")
    elif options.study == "figure":
        figure(options.out)
    else:
        rank(options.out, options.table, options.data)


if __name__ == "__main__":
    main()
