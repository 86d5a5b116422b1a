r"""Measure the images or recordings per second of a recipe's loader, epoch by epoch.

With event recordings, the first epoch reads the files and fills the frame cache, and the second epoch reads the cache.
The arguments are entries of a recipe. ``--jpegs`` first writes class folders of JPEG files. Examples::

    python research/studies/loading.py data.kind=npz data.root=cifar10_10k.npz 'data.augment=[crop,flip]'
    python research/studies/loading.py data.kind=events_npz data.root=nmnist_small.npz network.time_steps=10
    python research/studies/loading.py --jpegs data.kind=folder data.root=jpegs \
        'data.augment=[resized_crop,flip]' data.image_size=224
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from shortcut_snn.data import EventSet
from shortcut_snn.recipes import Recipe, changed, parse_options, recipe_of


def make_jpegs(folder: Path, count: int = 200, width: int = 500, height: int = 375) -> None:
    """Write smooth random images (as quick to decode as photographs) of ImageNet's usual size to class folders."""
    random = np.random.default_rng(0)
    for index in range(count):
        small = random.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        path = folder / ("train" if index % 10 else "test") / f"class{index // 10 % 2}" / f"{index:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(recipe: Recipe, epochs: int, cache: Path | None) -> None:
    """Iterate over the training set and print the figures of each epoch."""
    torch.set_num_threads(1)
    begin = time.perf_counter()
    data = recipe.data.load(recipe.time_steps)
    print(f"{len(data.train)} for training, listed or read in {time.perf_counter() - begin:.2f} s")
    train = data.loaders(recipe.training.seed).train
    for epoch in range(epochs):
        train.sampler.set_epoch(epoch)
        begin, count, raw = time.perf_counter(), 0, 0
        for images, _ in train:
            count, raw = count + len(images), raw + images.nbytes
        seconds = time.perf_counter() - begin
        kept = f", cache {size(cache) / 1e6:.1f} MB of {raw / 1e6:.1f} MB of frames" if cache else ""
        print(f"epoch {epoch + 1}: {count} in {seconds:.2f} s, {count / seconds:.0f} a second{kept}")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", nargs="*", metavar="KEY=VALUE", help="of the recipe, as in data.kind=npz")
    parser.add_argument("--config", action="append", default=[], help="a recipe")
    parser.add_argument("--epochs", type=int, default=3, help="number of epochs")
    parser.add_argument("--jpegs", action="store_true", help="first write class folders of JPEG files to data.root")
    options = parser.parse_intermixed_args()
    recipe = recipe_of(*options.config, parse_options(options.entries))
    if options.jpegs:
        make_jpegs(recipe.data.path)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) if isinstance(recipe.data, EventSet) and recipe.data.cache is None else None
        if cache:
            recipe = changed(recipe, {"data": {"cache": folder}})
        measure(recipe, options.epochs, cache)


if __name__ == "__main__":
    main()
