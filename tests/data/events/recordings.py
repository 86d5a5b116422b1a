"""Event recordings on disk, in the layouts that users have, made of real recordings where there are any."""

import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from unittest.mock import MagicMock

import h5py
import numpy as np

ARCHIVE = Path(__file__).parents[3].parent / "shared" / "data" / "nmnist_small.npz"
"""1,100 recordings of N-MNIST; expected next to the repository."""


class Sample(NamedTuple):
    """Events as four arrays, in order of time."""

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    def equals(self, other: object) -> bool:
        """Whether other events, which start at any time, are these."""
        return all((getattr(other, name) == getattr(self, name)).all() for name in "txyp") and len(self.t) == len(
            other.t  # type: ignore[attr-defined]
        )


Data = tuple[list[Sample], list[int]]
"""Recordings and their labels."""


def nmnist(count: int) -> Data:
    """Return recordings of N-MNIST and their labels 0, 1, ..., 9, 0, ...: real ones if the archive is there."""
    labels = [number % 10 for number in range(count)]
    if not ARCHIVE.is_file():
        return [synthetic(number, 4000, (34, 34)) for number in range(count)], labels
    with np.load(ARCHIVE, allow_pickle=False) as archive:
        bounds, of = list(pairwise(archive["offsets"].tolist())), archive["labels"]
        columns = [archive[name].astype(np.int64) for name in "txyp"]
    members = [np.flatnonzero(of == label) for label in range(10)]
    chosen = [bounds[members[label][number // 10]] for number, label in enumerate(labels)]
    return [Sample(*(column[a:b] for column in columns)) for a, b in chosen], labels


def long_recordings(count: int) -> list[Sample]:
    """Return recordings of a DVS128 of some 20,000 events, ``count`` of each of two objects; real ones if there are."""
    path = ARCHIVE.with_name("dvs_objects.npz")
    if not path.is_file():
        return [synthetic(number, 20_000, (128, 128)) for number in range(2 * count)]
    with np.load(path, allow_pickle=False) as archive:
        offsets, labels = archive["offsets"], archive["labels"]
        columns = [archive[name].astype(np.int64) for name in "txyp"]
    made = []
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        for number in range(count):
            parts = [slice(offsets[each], offsets[each + 1]) for each in members[3 * number : 3 * number + 3]]
            # The times of a part begin at 0.
            starts = np.cumsum([0, *(columns[0][part][-1] + 1 for part in parts)])
            t = np.concatenate([columns[0][part] + start for part, start in zip(parts, starts, strict=False)])
            made.append(Sample(t, *(np.concatenate([column[part] for part in parts]) for column in columns[1:])))
    return made


def write_folder(root: Path, samples: Sequence[Sample]) -> None:
    """Write recordings as arrays into the class folders a and b, three into each."""
    for number, sample in enumerate(samples):
        path = root / "ab"[number // 3] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, structured(sample))


def synthetic(seed: int, count: int, sensor: tuple[int, int]) -> Sample:
    """Return random events of a sensor of height x width, in order of time, over 0.3 s."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 300_000, count))
    return Sample(t, rng.integers(0, sensor[1], count), rng.integers(0, sensor[0], count), rng.integers(0, 2, count))


def structured(sample: Sample) -> np.ndarray:
    """Return the events as an array with columns."""
    array = np.empty(len(sample.t), [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)])
    for name in "xytp":
        array[name] = getattr(sample, name)
    return array


def write(path: Path, content: bytes) -> Path:
    """Write a file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def atis_bin(sample: Sample) -> bytes:
    """N-MNIST's official layout: x, y, then polarity in the first bit of a time of 23 bits."""
    columns = [sample.x, sample.y, sample.p << 7 | sample.t >> 16, sample.t >> 8 & 0xFF, sample.t & 0xFF]
    return np.stack(columns, 1).astype(np.uint8).tobytes()


def write_nmnist(root: Path, data: Data, train: int) -> Path:
    """Write the first ``train`` recordings to Train/ and the others to Test/, in the official layout."""
    for number, (sample, label) in enumerate(zip(*data, strict=True)):
        part = "Train" if number < train else "Test"
        write(root / part / str(label) / f"{number:05d}.bin", atis_bin(sample))
    return root


def aedat2(sample: Sample) -> bytes:
    """jAER's file of a DVS128: a header, then address and time, big-endian."""
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Creation time: a Tuesday\r\n"
    address = (127 - sample.y) << 8 | (127 - sample.x) << 1 | (1 - sample.p)
    return header + np.stack([address, sample.t], 1).astype(">u4").tobytes()


def aedat2_turned(sample: Sample) -> bytes:
    """CIFAR10-DVS's layout: jAER's, but x has changed places with y."""
    return aedat2(sample._replace(x=sample.y, y=sample.x))


AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"


def aedat3_packet(
    sample: Sample, valid: np.ndarray | int = 1, overflow: int = 0, spare: int = 0, kind: int = 1
) -> bytes:
    """One packet of events as cAER writes it, with room for some more."""
    count = len(sample.t)
    head = struct.pack("<hhiiiiii", kind, 1, 8, 4, overflow, count + spare, count, count)
    word = sample.x << 17 | sample.y << 2 | sample.p << 1 | valid
    return head + np.stack([word, sample.t], 1).astype("<u4").tobytes() + bytes(8 * spare)


def aedat3(sample: Sample, per_packet: int = 500) -> bytes:
    """DVS128 Gesture's layout: packets of events, and between them others that tell of other things."""
    packets = []
    for start in range(0, len(sample.t), per_packet):
        packets.append(aedat3_packet(Sample(*(column[start : start + per_packet] for column in sample))))
        special = struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + struct.pack("<II", 0xFFFFFFFF, 7)
        imu = struct.pack("<hhiiiiii", 3, 1, 36, 4, 0, 2, 2, 2) + bytes([0xFF] * 72)
        packets += [special, imu]
    return AEDAT3_HEADER + b"".join(packets)


def aedat4(sample: Sample, sensor: tuple[int, int], per_packet: int = 500) -> bytes:
    """The DV software's layout: flat buffers, without compression."""
    description = (
        '<dv version="2.0"><node name="outInfo" path="/outInfo/"><node name="0" path="/outInfo/0/">'
        '<attr key="typeIdentifier" type="string">EVTS</attr><node name="info" path="/outInfo/0/info/">'
        f'<attr key="sizeX" type="int">{sensor[1]}</attr><attr key="sizeY" type="int">{sensor[0]}</attr>'
        "</node></node></node></dv>"
    ).encode()
    packets = []
    for start in range(0, len(sample.t), per_packet):
        events = np.zeros(min(per_packet, len(sample.t) - start), "<i8, <i2, <i2, ?, V3")
        for name, column in zip(("f0", "f1", "f2", "f3"), sample, strict=True):
            events[name] = column[start : start + per_packet]
        # Root, identifier; a table of one field whose vector of structs begins at a multiple of 8, counting the size.
        table = struct.pack("<I4sHHHHiII", 16, b"EVTS", 6, 8, 4, 0, 8, 8, 0) + struct.pack("<I", len(events))
        body = struct.pack("<I", len(table) + 16 * len(events)) + table + events.tobytes()
        packets.append(struct.pack("<II", 0, len(body)) + body)
    data = b"".join(packets)

    def header(end: int) -> bytes:
        # Fields: compression (left at none), where the data end, description.
        table = struct.pack("<I4sHHHHH2x", 20, b"IOHE", 10, 20, 0, 8, 4)
        table += struct.pack("<iIqI", 12, 16, end, 0) + struct.pack("<I", len(description)) + description + b"\0"
        return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(table)) + table

    return header(len(header(0)) + len(data)) + data


def prophesee_dat(sample: Sample) -> bytes:
    """Prophesee's layout, version 2."""
    header = b"% Data file containing Event2D events.\n% Version 2\n% Date 2024-01-01 00:00:00\n"
    word = sample.p << 28 | sample.y << 14 | sample.x
    return header + bytes([0x0C, 8]) + np.stack([sample.t, word], 1).astype("<u4").tobytes()


RAW_HEADER = "% camera_integrator_name Prophesee\n% date 2023-03-29 16:37:46\n% evt {0}\n% geometry 1280x720\n% end\n"


def prophesee_evt2(sample: Sample) -> bytes:
    """Prophesee's raw file in EVT 2.0: a trigger, then events, and the clock's 28 high bits wherever they change."""
    high = sample.t >> 6
    words = [0xA << 28 | 1]
    for number, (t, x, y, p) in enumerate(zip(*(column.tolist() for column in sample), strict=True)):
        if number == 0 or high[number] != high[number - 1]:
            words.append(8 << 28 | int(high[number]) & 0xFFFFFFF)
        words.append(p << 28 | (t & 0x3F) << 22 | x << 11 | y)
    return RAW_HEADER.format("2.0").encode() + np.array(words, "<u4").tobytes()


def prophesee_evt3(sample: Sample) -> bytes:
    """Prophesee's raw file in EVT 3.0: 16-bit words for the clock's halves, the row, and the column of an event."""
    words = []
    for t, x, y, p in zip(*(column.tolist() for column in sample), strict=True):
        words += [8 << 12 | t >> 12 & 0xFFF, 6 << 12 | t & 0xFFF, y, 2 << 12 | p << 11 | x]
    return RAW_HEADER.format("3.0").encode() + np.array(words, "<u2").tobytes()


def write_npz(
    path: Path, samples: Sequence[Sample], labels: Sequence[int], changes: dict[str, np.ndarray | None]
) -> Path:
    """Write all recordings into one archive, with some of its arrays changed, added or (None) left out."""
    arrays = {name: np.concatenate([getattr(sample, name) for sample in samples]) for name in "txyp"}
    arrays = {name: array.astype(np.uint32 if name == "t" else np.uint8) for name, array in arrays.items()}
    arrays["offsets"] = np.cumsum([0, *(len(sample.t) for sample in samples)])
    arrays["labels"] = np.array(labels, np.uint8)
    kept = {name: array for name, array in (arrays | changes).items() if array is not None}
    with path.open("wb") as file:
        np.savez(file, **kept)
    return path


def spoken(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return times in seconds, as the 16-bit floats of SHD, and cochlear channels of one word."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.random(300)).astype(np.float16), rng.integers(0, 700, 300).astype(np.uint16)


def write_words(path: Path, labels: Sequence[int], classes: int) -> Path:
    """Write a file of SHD or SSC: spikes/times, spikes/units, labels and extra/keys, as the authors publish them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for column, (name, kind) in enumerate((("times", np.float16), ("units", np.uint16))):
            arrays = file.create_dataset(f"spikes/{name}", (len(labels),), h5py.vlen_dtype(np.dtype(kind)))
            for number in range(len(labels)):
                arrays[number] = spoken(number)[column]
        file["labels"] = np.array(labels, np.uint16)
        file["extra/keys"] = np.array([f"word {label}" for label in range(classes)], "S10")
    return path


@contextmanager
def without_torchaudio() -> Iterator[None]:
    """Let SpikingJelly's readers be imported where torchaudio, which some of its sets of sounds need, does not load."""
    sys.modules["torchaudio"] = MagicMock()
    yield
    del sys.modules["torchaudio"]


CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_cifar10dvs(root: Path) -> Path:
    """Write synthetic files of CIFAR10-DVS, 10 of each class, in the order of nobody's liking."""
    for label, name in reversed(list(enumerate(CIFAR))):
        for number in (3, 9, 1, 0, 7, 8, 2, 4, 6, 5):
            sample = synthetic(100 * label + number, 300, (128, 128))
            write(root / name / f"cifar10_{name}_{number}.aedat", aedat2_turned(sample))
    return root
