import io
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from shortcut_snn.data.events.event_set import file_recording
from shortcut_snn.data.events.formats import _READERS
from shortcut_snn.data.reading import DataFileError

from . import recordings
from .recordings import Sample, structured, synthetic, write

with recordings.without_torchaudio():
    from spikingjelly.datasets.cifar10_dvs import _load_origin_data
    from spikingjelly.datasets.utils import load_aedat_v3

DVS128 = (128, 128)


def read(path: Path, sensor: tuple[int, int], turned: bool = False) -> Sample:
    events = file_recording(path, path.parent, turned).read(sensor)
    return Sample(events.t, events.x, events.y, events.p)


def npy(sample: Sample) -> bytes:
    file = io.BytesIO()
    np.save(file, structured(sample))
    return file.getvalue()


def in_seconds(sample: Sample) -> bytes:
    array, file = structured(sample), io.BytesIO()
    kinds = [(name, float if name == "t" else array.dtype[name]) for name in array.dtype.names]
    seconds = array.astype(kinds)
    seconds["t"] /= 1e6
    np.save(file, seconds)
    return file.getvalue()


# Of each format: the extension, how it is written, and the sensor.
FORMATS: dict[str, tuple[str, Callable[[Sample], bytes], tuple[int, int]]] = {
    "N-MNIST": (".bin", recordings.atis_bin, (34, 34)),
    "AEDAT 2, DVS128": (".aedat", recordings.aedat2, DVS128),
    "AEDAT 3": (".aedat", recordings.aedat3, DVS128),
    "AEDAT 4": (".aedat4", lambda sample: recordings.aedat4(sample, DVS128), DVS128),
    "AEDAT 4, short name": (".aedat", lambda sample: recordings.aedat4(sample, DVS128), DVS128),
    "EVT 2": (".raw", recordings.prophesee_evt2, (720, 1280)),
    "Prophesee": (".dat", recordings.prophesee_dat, (240, 304)),
    "numpy": (".npy", npy, (720, 1280)),
    "numpy, seconds": (".npy", in_seconds, (180, 240)),
}


WITHOUT_EVT3 = pytest.mark.skipif(find_spec("evt3") is None, reason="evt3 is not installed: pip install '.[events]'")
EVERY = [*FORMATS, pytest.param("EVT 3", marks=WITHOUT_EVT3)]
FORMATS["EVT 3"] = (".raw", recordings.prophesee_evt3, (720, 1280))


@pytest.mark.parametrize("name", EVERY)
def test_events_are_read_as_written(tmp_path: Path, name: str) -> None:
    extension, content, sensor = FORMATS[name]
    for seed, count in ((0, 1), (1, 500), (2, 1777)):
        sample = synthetic(seed, count, sensor)
        path = write(tmp_path / f"{seed}{extension}", content(sample))
        assert sample.equals(read(path, sensor))


@pytest.mark.parametrize("name", EVERY)
def test_cut_and_foreign_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    extension, content, sensor = FORMATS[name]
    whole = content(synthetic(0, 600, sensor))
    lengths = (0, 1, 9, len(whole) // 2 | 1, len(whole) - 3)
    random = np.random.default_rng(0).integers(0, 256, 4000).astype(np.uint8).tobytes()
    english = b"It is a truth universally acknowledged, that a single man in possession of a good fortune" * 50
    path = tmp_path / f"recording{extension}"
    for wrong in (*(whole[:length] for length in lengths), random, english, b"\x89PNG\r\n\x1a\n" + random):
        write(path, wrong)
        with pytest.raises(DataFileError, match=f"^{path} ") as caught:
            read(path, sensor)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in EVERY if not str(name).startswith("AEDAT 4")])
def test_damage_raises_only_data_file_errors(tmp_path: Path, name: str) -> None:
    extension, content, sensor = FORMATS[name]
    whole, rng = content(synthetic(0, 300, sensor)), np.random.default_rng(0)
    path = tmp_path / f"recording{extension}"
    for trial in range(20):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole) if trial % 2 else 200, 4):
            damaged[position] = rng.integers(256)
        write(path, bytes(damaged))
        # Any other error fails the test.
        with suppress(DataFileError):
            read(path, sensor)


def test_a_recording_without_events_is_refused(tmp_path: Path) -> None:
    nothing = synthetic(0, 0, DVS128)
    for extension, content in ((".npy", npy(nothing)), (".aedat", recordings.aedat2(nothing))):
        path = write(tmp_path / f"recording{extension}", content)
        with pytest.raises(DataFileError, match=f"^{path} is empty"):
            read(path, DVS128)


def test_a_few_late_events_are_sorted(tmp_path: Path) -> None:
    sample = synthetic(0, 500, DVS128)
    late = Sample(*(np.concatenate([c[:100], c[110:200], c[100:110], c[200:]]) for c in sample))
    assert (read(write(tmp_path / "late.npy", npy(late)), DVS128).t == sample.t).all()
    mixed = Sample(np.random.default_rng(0).permutation(sample.t), *sample[1:])
    with pytest.raises(DataFileError, match="backwards"):
        read(write(tmp_path / "mixed.npy", npy(mixed)), DVS128)


def test_bin_layout(tmp_path: Path) -> None:
    """Five bytes an event: x, y, then the polarity's bit and 23 bits of microseconds, the highest first."""
    rows = [
        [3, 7, 0b1_0000000, 0x01, 0x02],  # on, at 258
        [33, 0, 0b0_0000001, 0x00, 0x00],  # off, at 65,536
        [0, 240, 0b0_0000001, 0x10, 0x00],  # none: the clock overflowed
        [9, 33, 0b1_1111111, 0xFF, 0xFF],  # on, at 8,388,607 and one overflow
        [0, 240, 0, 0, 0],
        [1, 2, 0b0_1111111, 0xFF, 0xFF],  # off, at 8,388,607 and two
    ]
    content = b"".join(map(bytes, rows))
    events = read(write(tmp_path / "a.bin", content), (34, 34))
    assert events.t.tolist() == [258, 65_536, 8_388_607 + 8192, 8_388_607 + 2 * 8192]
    assert (events.x.tolist(), events.y.tolist()) == ([3, 33, 9, 1], [7, 0, 33, 2])
    assert events.p.tolist() == [True, False, True, False]


def test_aedat_2_reads_as_spikingjelly_reads_cifar10_dvs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", recordings.aedat2_turned(synthetic(0, 900, DVS128)))
    theirs = _load_origin_data(path)
    assert Sample(*(theirs[name] for name in "txyp")).equals(read(path, DVS128, turned=True))


def test_aedat_2_layout_of_a_dvs128(tmp_path: Path) -> None:
    """As jAER shows it: x is the bits from 1, from the right, y those from 8, from below; bit 0 says that it fell."""
    one = np.array([[20 << 8 | 10 << 1, 77], [50 << 8 | 100 << 1 | 1, 78]], ">u4").tobytes()
    events = read(write(tmp_path / "a.aedat", b"#!AER-DAT2.0\r\n" + one), DVS128)
    assert (events.x.tolist(), events.y.tolist(), events.p.tolist()) == ([117, 27], [107, 77], [True, False])


def test_aedat_2_of_another_camera_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", b"#!AER-DAT2.0\r\n" + bytes(8))
    with pytest.raises(DataFileError, match=r"128x128 pixels .*, not of 260x346; convert it to AEDAT 4"):
        read(path, (260, 346))


def test_aedat_3_reads_as_spikingjelly_reads_dvs_gesture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", recordings.aedat3(synthetic(0, 900, DVS128)))
    theirs = load_aedat_v3(path)
    assert Sample(*(theirs[name] for name in "txyp")).equals(read(path, DVS128))


def test_aedat_3_invalid_events_and_clock_overflows(tmp_path: Path) -> None:
    sample = synthetic(0, 100, DVS128)
    valid = np.arange(100) % 4 > 0
    packets = [recordings.aedat3_packet(sample, valid.astype(int), overflow, spare=5) for overflow in (0, 1)]
    events = read(write(tmp_path / "a.aedat", recordings.AEDAT3_HEADER + b"".join(packets)), DVS128)
    assert (events.x == np.tile(sample.x[valid], 2)).all()
    assert (events.t == np.concatenate([sample.t[valid], sample.t[valid] + 2**31])).all()


def test_evt_2_layout(tmp_path: Path) -> None:
    """Words of 32 bits by hand: 4 for the kind, 6 for the low bits of the time, 11 for x, 11 for y."""
    content = (
        b"% evt 2.0\n"
        + np.array(
            [
                0b0001_000001_00000000011_00000000111,  # before the first time
                0b1000_0000000000000000000000000010,  # 2 * 64 us
                0b0001_000101_00000000011_00000000111,  # rises at 133 us, x 3, y 7
                0b1010_000110_0000000000000_01000_0000,  # a trigger
                0b0000_111111_10011111111_01011001111,  # falls at 191 us, x 1279, y 719
                0b1000_1111111111111111111111111111,
                0b1000_0000000000000000000000000000,  # the clock overflowed
                0b0000_000001_00000000000_00000000000,
            ],
            "<u4",
        ).tobytes()
    )
    events = _READERS[".raw"](write(tmp_path / "a.raw", content))
    assert events.t.tolist() == [133, 191, 2**34 + 1]
    assert (events.x.tolist(), events.y.tolist()) == ([3, 1279, 0], [7, 719, 0])
    assert events.p.tolist() == [True, False, False]


@WITHOUT_EVT3
def test_evt_3_layout(tmp_path: Path) -> None:
    """Words of 16 bits by hand: rows, columns, vectors of 12 and 8 columns, and the two halves of the clock."""
    words = [0x8001, 0x6005, 0x0007, 0x2803, 0x3064, 0x4005, 0x5081, 0xA000, 0x8002, 0x6005, 0x2004]
    content = b"% format EVT3;height=720;width=1280\n% end\n" + np.array(words, "<u2").tobytes()
    events = read(write(tmp_path / "a.raw", content), (720, 1280))
    assert events.t.tolist() == [0x1005] * 5 + [0x2005]
    # Bits 0 and 2 of the first vector from 100 on, bits 0 and 7 of the second from 112 on.
    assert events.x.tolist() == [3, 100, 102, 112, 119, 4]
    assert (events.y.tolist(), events.p.tolist()) == ([7] * 6, [True, *[False] * 5])


def test_dat_layout(tmp_path: Path) -> None:
    """Time, then x (14 bits), y (14) and polarity (4) from the lowest on, little-endian."""
    content = b"% Version 2\n" + bytes([0, 8, 5, 0, 0, 0, 0x03, 0x40, 0x00, 0x10, 0, 1, 0, 0, 0x2F, 0x81, 0x3B, 0x00])
    events = read(write(tmp_path / "a.dat", content), (240, 304))
    assert events.t.tolist() == [5, 256]
    assert (events.x.tolist(), events.y.tolist()) == ([3, 0x12F], [1, 0xEE])
    assert events.p.tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "content", "keyword"),
    [
        ("a.aedat", b"#!AER-DAT1.0\r\n" + bytes(12), "version 1"),
        ("a.aedat", b"#!AER-DAT3.1\r\n" + bytes(12), "header"),
        ("a.aedat", recordings.AEDAT3_HEADER + bytes(12), "packet header"),
        ("a.aedat", recordings.AEDAT3_HEADER + bytes(28), "byte 61"),
        ("a.dat", b"% Version 1\n" + bytes(10), "version 1"),
        ("a.dat", b"% Version 2\n" + bytes([14, 8]), "type 14"),
        ("a.bin", bytes(11), "1 bytes"),
        ("a.raw", b"% evt 2.1\n% end\n" + bytes(8), r"EVT 2.1; .* metavision_file_to_dat -i a.raw$"),
        ("a.raw", b"% date 2024\n% end\n" + bytes(8), "unknown version"),
        ("a.raw", b"% evt 3.0\n% endianness big\n" + bytes(8), "little-endian"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "metavision_file_to_dat -i a.h5, others to .npy with np.save"),
    ],
)
def test_errors_name_what_is_wrong(tmp_path: Path, name: str, content: bytes, keyword: str) -> None:
    with pytest.raises(DataFileError, match=keyword):
        read(write(tmp_path / name, content), DVS128)


@pytest.mark.parametrize(
    ("array", "keyword"),
    [
        (np.zeros((5, 4)), "float64"),
        (np.zeros(5, [("x", int), ("y", int), ("t", int)]), "x, y, t$"),
        (np.zeros(5, [("x", float), ("y", int), ("t", int), ("p", bool)]), "float64 for x"),
        (np.full(5, np.nan, [("x", int), ("y", int), ("t", float), ("p", bool)]), "NaN, infinite or beyond 52 bits"),
        (np.array([(1, 1, 1e30, True)] * 5, [("x", int), ("y", int), ("t", float), ("p", bool)]), "beyond 52 bits"),
        (np.array([{}], object), "Object arrays"),
    ],
)
def test_arrays_without_integer_columns_are_refused(tmp_path: Path, array: np.ndarray, keyword: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataFileError, match=keyword):
        read(tmp_path / "a.npy", DVS128)


@pytest.mark.parametrize(("low", "refused"), [(-1, False), (0, False), (1, True)])
def test_polarities_are_0_and_1_or_minus_1_and_1(tmp_path: Path, low: int, refused: bool) -> None:
    array = structured(synthetic(0, 50, DVS128))
    array = array.astype([(each, "i1" if each == "p" else array.dtype[each]) for each in array.dtype.names])
    rose = array["p"] == 1
    array["p"] = np.where(rose, low + 1 if low >= 0 else 1, low)
    np.save(tmp_path / "a.npy", array)
    if refused:
        with pytest.raises(DataFileError, match=r"a\.npy has polarities p from 1 to 2: they must be 0 and 1"):
            read(tmp_path / "a.npy", DVS128)
    else:
        assert (read(tmp_path / "a.npy", DVS128).p == rose).all()


@pytest.mark.parametrize("name", ["AEDAT 2, DVS128", "Prophesee", "numpy"])
def test_an_overflow_of_a_32_bit_clock_is_undone(tmp_path: Path, name: str) -> None:
    extension, content, sensor = FORMATS[name]
    sample = synthetic(0, 500, sensor)
    wrapped = Sample((sample.t + 2**32 - 100_000) % 2**32, *sample[1:])
    data = content(wrapped)
    if name == "numpy":
        file, array = io.BytesIO(), structured(wrapped)
        np.save(file, array.astype([(each, "<u4" if each == "t" else array.dtype[each]) for each in array.dtype.names]))
        data = file.getvalue()
    events = read(write(tmp_path / f"a{extension}", data), sensor)
    assert (np.diff(events.t) == np.diff(sample.t)).all()
    assert (events.x == sample.x).all()


@pytest.mark.parametrize(("dtype", "overflow"), [(">u4", 2**32), ("<i4", 2**31)])
def test_an_overflow_of_other_32_bit_columns_is_undone(tmp_path: Path, dtype: str, overflow: int) -> None:
    sample = synthetic(0, 500, DVS128)
    late = Sample(sample.t + overflow - 100_000, *sample[1:])
    np.save(tmp_path / "a.npy", structured(late).astype([("x", "i2"), ("y", "i2"), ("t", dtype), ("p", "?")]))
    assert (np.diff(read(tmp_path / "a.npy", DVS128).t) == np.diff(sample.t)).all()


def test_two_recordings_in_one_file_are_refused(tmp_path: Path) -> None:
    sample = synthetic(0, 500, DVS128)
    twice = Sample(*(np.concatenate([column, column]) for column in sample))
    with pytest.raises(DataFileError, match="event 500"):
        read(write(tmp_path / "twice.npy", npy(twice)), DVS128)


@pytest.mark.parametrize("ended", [True, False])
def test_aedat_2_header_may_hold_any_text(tmp_path: Path, ended: bool) -> None:
    """As jAER writes it: the user's name in Latin-1, all preferences, and maybe a line that ends it."""
    sample = synthetic(0, 100, DVS128)
    lines = "# User name: M\xfcller\r\n".encode("latin-1") + b"#<entry key='a'/>\r\n" * 5000
    first, rest = recordings.aedat2(sample).split(b"\r\n", 1)
    content = first + b"\r\n" + lines + (b"#End Of ASCII Header\r\n" if ended else b"")
    events = rest[rest.index(b"Tuesday\r\n") + 9 :]
    assert sample.equals(read(write(tmp_path / "a.aedat", content + events), DVS128))
