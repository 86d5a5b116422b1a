"""Write recordings of N-MNIST to one ``.npz`` file for ``data.kind=events_npz``.

``source`` is the folder that ``shortcut-snn train --data.kind nmnist --data.download true`` fetches. Each class gets
equally many recordings. Example::

    python research/studies/nmnist_npz.py data/nmnist nmnist_small.npz --train 1000 --test 100
"""

import argparse
import warnings
from pathlib import Path

import numpy as np

from shortcut_snn._utils.files import replacing
from shortcut_snn.data import NMNIST
from shortcut_snn.data.counter_random import balanced_prefix
from shortcut_snn.data.events.event_images import EventImages
from shortcut_snn.data.events.published import NMNIST_SENSOR


def main() -> None:
    """Read the recordings and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of N-MNIST")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--train", type=int, default=1000, help="number of training recordings")
    parser.add_argument("--test", type=int, default=100, help="number of test recordings")
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # N-MNIST may be incomplete
        found = NMNIST(options.source).read(time_steps=1)
    events, labels, is_test = [], [], []
    for part, count, testing in ((found.train, options.train, False), (found.test, options.test, True)):
        assert isinstance(part, EventImages)
        chosen = part.subset(balanced_prefix(part.labels.numpy(), count))
        events += [recording.read(NMNIST_SENSOR) for recording in chosen.recordings]
        labels += chosen.labels.tolist()
        is_test += [testing] * len(chosen)
    with replacing(options.target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            x=np.concatenate([recording.x for recording in events]).astype(np.uint8),
            y=np.concatenate([recording.y for recording in events]).astype(np.uint8),
            p=np.concatenate([recording.p for recording in events]).astype(np.uint8),
            t=np.concatenate([recording.t for recording in events]).astype(np.uint32),
            offsets=np.cumsum([0, *map(len, events)]),
            labels=np.array(labels, np.int64),
            is_test=np.array(is_test),
        )
    print(f"{options.target}: {len(labels)} recordings, {sum(is_test)} of them for testing")


if __name__ == "__main__":
    main()
