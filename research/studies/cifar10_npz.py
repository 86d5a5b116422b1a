"""Write CIFAR-10 or CIFAR-100, or a part of it, to an ``.npz`` file for ``data.kind=npz``.

``source`` is the folder that holds ``cifar-10-batches-py``, which ``shortcut-snn train`` fetches with
``--data.kind cifar10 --data.download true``, that of ``cifar-100-python``, or an archive of JPEG or PNG bytes. Of a
folder that holds both, ``--kind`` names one. An archive holds, for each of ``train`` and ``test``: ``jpeg_<part>`` or
``png_<part>`` (uint8, all files end to end), ``off_<part>`` (n + 1 offsets) and ``y_<part>`` (labels).
Example::

    python research/studies/cifar10_npz.py data cifar10_10k.npz --train 10000 --test 5000
"""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shortcut_snn._utils.files import replacing
from shortcut_snn.data import CIFAR10, CIFAR100
from shortcut_snn.data.images.images import Images


def decode(archive: np.lib.npyio.NpzFile, part: str, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the first ``limit`` images of a part, uint8 [n, H, W, 3], and their labels, int64 [n]."""
    key = f"png_{part}" if f"png_{part}" in archive else f"jpeg_{part}"
    files, offsets = archive[key].tobytes(), archive[f"off_{part}"]
    labels = archive[f"y_{part}"].astype(np.int64)
    count = counted(part, limit, len(labels))
    images = [Image.open(io.BytesIO(files[offsets[i] : offsets[i + 1]])).convert("RGB") for i in range(count)]
    return np.stack([np.asarray(image) for image in images]), labels[:count]


def official(images: Images, part: str, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the first ``limit`` images and labels of a part of the official files."""
    count = counted(part, limit, len(images))
    return images.fetch(range(count)).permute(0, 2, 3, 1).numpy(), images.labels[:count].numpy()


def shrunk(images: np.ndarray, size: int) -> np.ndarray:
    """Return images [n, H, W, 3] at ``size`` by ``size`` pixels."""
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX)) for image in images])


def counted(part: str, limit: int | None, there: int) -> int:
    """Return the number of images to take; end the program if the part has fewer."""
    count = there if limit is None else limit
    if not 0 < count <= there:
        raise SystemExit(f"--{part} {count}: this part has {there} images.")
    return count


KINDS: dict[str, tuple[str, Any]] = {
    "cifar10": ("cifar-10-batches-py", CIFAR10),
    "cifar100": ("cifar-100-python", CIFAR100),
}


def kind_in(source: Path) -> str:
    """Return which of the two a folder holds; end the program if it holds both."""
    there = [kind for kind, (folder, _) in KINDS.items() if (source / folder).is_dir()]
    if len(there) > 1:
        raise SystemExit(f"{source} holds {' and '.join(there)}: name one with --kind")
    return there[0] if there else "cifar10"


def main() -> None:
    """Read the images and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of CIFAR-10 or CIFAR-100, or archive of bytes")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--kind", choices=KINDS, help="which of the two a folder's images are of")
    parser.add_argument("--train", type=int, help="number of training images (default: all)")
    parser.add_argument("--test", type=int, help="number of test images (default: all)")
    parser.add_argument("--size", type=int, help="side in pixels to which images are reduced, by area means")
    arguments = parser.parse_args()
    if arguments.source.is_dir():
        _, data = KINDS[arguments.kind or kind_in(arguments.source)]
        found = data(str(arguments.source)).read()
        assert found.test is not None
        x_train, y_train = official(found.train, "train", arguments.train)
        x_test, y_test = official(found.test, "test", arguments.test)
        extra: dict[str, Any] = {"class_names": np.array(found.classes)}
    else:
        with np.load(arguments.source, allow_pickle=False) as archive:
            x_train, y_train = decode(archive, "train", arguments.train)
            x_test, y_test = decode(archive, "test", arguments.test)
            extra = {"class_names": archive["classes"]} if "classes" in archive else {}
    if arguments.size is not None:
        x_train, x_test = shrunk(x_train, arguments.size), shrunk(x_test, arguments.size)
    with replacing(arguments.target) as temporary, temporary.open("wb") as file:
        np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, **extra)
    print(f"{arguments.target}: {len(x_train)} training and {len(x_test)} test images of {x_train.shape[1:]}")


if __name__ == "__main__":
    main()
