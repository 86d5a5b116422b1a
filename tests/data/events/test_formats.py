import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shortcut_snn.data.events.formats.aedat import read_aedat3
from shortcut_snn.data.events.formats.files import read_file
from shortcut_snn.data.events.recording import RecordingError

from . import recordings
from .recordings import Sample, nmnist, structured, synthetic, write

with recordings.without_torchaudio():
    from spikingjelly.datasets.cifar10_dvs import _load_origin_data
    from spikingjelly.datasets.utils import load_aedat_v3

DVS128 = (128, 128)


def npy(sample: Sample) -> bytes:
    file = io.BytesIO()
    np.save(file, structured(sample))
    return file.getvalue()


def text(sample: Sample) -> bytes:
    return "".join(f"{t} {x} {y} {p}\n" for t, x, y, p in zip(*sample, strict=True)).encode()


def csv(sample: Sample) -> bytes:
    lines = [f"{x},{y},{2 * p - 1},{t / 1e6:.6f}\n" for t, x, y, p in zip(*sample, strict=True)]
    return ("# x, y, p, t\n" + "".join(lines)).encode()


def spreadsheet(sample: Sample) -> bytes:
    lines = [f"{t},{x},{y},{p}\n" for t, x, y, p in zip(*sample, strict=True)]
    return ('\ufeff"timestamp","x","y","polarity"\n' + "".join(lines)).encode()


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
    "AEDAT 2, DAVIS346": (".aedat", recordings.aedat2_davis346, (260, 346)),
    "AEDAT 3": (".aedat", recordings.aedat3, DVS128),
    "AEDAT 4": (".aedat4", lambda sample: recordings.aedat4(sample, DVS128), DVS128),
    "AEDAT 4, short name": (".aedat", lambda sample: recordings.aedat4(sample, DVS128), DVS128),
    "Prophesee": (".dat", recordings.prophesee_dat, (240, 304)),
    "numpy": (".npy", npy, (720, 1280)),
    "text": (".txt", text, (180, 240)),
    "csv": (".csv", csv, (180, 240)),
    "csv of a spreadsheet": (".csv", spreadsheet, (180, 240)),
    "numpy, seconds": (".npy", in_seconds, (180, 240)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_events_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    extension, content, sensor = FORMATS[name]
    for seed, count in ((0, 1), (1, 500), (2, 1777)):
        sample = synthetic(seed, count, sensor)
        path = write(tmp_path / f"{seed}{extension}", content(sample))
        assert sample.equals(read_file(path, sensor))


def test_real_recordings_come_back_as_they_were(tmp_path: Path) -> None:
    for number, sample in enumerate(nmnist(30)[0]):
        path = write(tmp_path / f"{number}.bin", recordings.atis_bin(sample))
        assert sample.equals(read_file(path, (34, 34)))


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_cut_short_is_named(tmp_path: Path, name: str) -> None:
    extension, content, sensor = FORMATS[name]
    whole = content(synthetic(0, 600, sensor))
    path = tmp_path / f"recording{extension}"
    # A text that ends within a line of numbers may end within a number, which nobody can tell.
    lengths = (0, 1, 9, len(whole) // 2 | 1, len(whole) - 3) if name not in ("text", "csv") else (0, 1, 5)
    for length in lengths:
        write(path, whole[:length])
        with pytest.raises(RecordingError, match=f"^{path} ") as caught:
            read_file(path, sensor)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_foreign_file_is_named(tmp_path: Path, name: str) -> None:
    extension, _, sensor = FORMATS[name]
    random = np.random.default_rng(0).integers(0, 256, 4000).astype(np.uint8).tobytes()
    english = b"It is a truth universally acknowledged, that a single man in possession of a good fortune" * 50
    picture = b"\x89PNG\r\n\x1a\n" + random
    for content in (random, english, picture):
        path = write(tmp_path / f"foreign{extension}", content)
        with pytest.raises(RecordingError, match=f"^{path} ") as caught:
            read_file(path, sensor)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_refused_or_does_not_matter(tmp_path: Path, name: str) -> None:
    extension, content, sensor = FORMATS[name]
    whole, rng = content(synthetic(0, 300, sensor)), np.random.default_rng(0)
    path = tmp_path / f"recording{extension}"
    for trial in range(40):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole) if trial % 2 else 200, 4):
            damaged[place] = rng.integers(256)
        write(path, bytes(damaged))
        messages = []
        try:
            read_file(path, sensor)
        except RecordingError as error:
            messages.append(str(error))
        assert all(message.startswith(str(path)) and "\n" not in message for message in messages)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("AEDAT 3", "text")])
def test_events_outside_the_sensor_are_refused(tmp_path: Path, name: str) -> None:
    extension, content, sensor = FORMATS[name]
    path = write(tmp_path / f"recording{extension}", content(synthetic(0, 300, sensor)))
    with pytest.raises(RecordingError, match=r"is no recording of a sensor of 12x12|not of 12x12"):
        read_file(path, (12, 12))


def test_a_recording_without_events_is_refused(tmp_path: Path) -> None:
    nothing = synthetic(0, 0, DVS128)
    for extension, content in ((".npy", npy(nothing)), (".aedat", recordings.aedat2(nothing))):
        path = write(tmp_path / f"recording{extension}", content)
        with pytest.raises(RecordingError, match=f"^{path} is empty: it holds no events$"):
            read_file(path, DVS128)


def test_a_few_late_events_are_put_in_their_place(tmp_path: Path) -> None:
    sample = synthetic(0, 500, DVS128)
    late = Sample(*(np.concatenate([c[:100], c[110:200], c[100:110], c[200:]]) for c in sample))
    assert (read_file(write(tmp_path / "late.npy", npy(late)), DVS128).t == sample.t).all()
    mixed = Sample(np.random.default_rng(0).permutation(sample.t), *sample[1:])
    with pytest.raises(RecordingError, match=r"time runs backwards in (4|5)\d % of its events"):
        read_file(write(tmp_path / "mixed.npy", npy(mixed)), DVS128)


def test_bin_files_are_read_by_hand(tmp_path: Path) -> None:
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
    events = read_file(write(tmp_path / "a.bin", content), (34, 34))
    assert events.t.tolist() == [258, 65_536, 8_388_607 + 8192, 8_388_607 + 2 * 8192]
    assert (events.x.tolist(), events.y.tolist()) == ([3, 33, 9, 1], [7, 0, 33, 2])
    assert events.p.tolist() == [True, False, True, False]


def test_aedat_2_reads_as_spikingjelly_reads_cifar10_dvs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", recordings.aedat2_turned(synthetic(0, 900, DVS128)))
    theirs = _load_origin_data(path)
    assert Sample(*(theirs[name] for name in "txyp")).equals(read_file(path, DVS128, turned=True))


def test_aedat_2_of_a_dvs128_is_read_by_hand(tmp_path: Path) -> None:
    """As jAER shows it: x is the bits from 1, from the right, y those from 8, from below; bit 0 says that it fell."""
    one = np.array([[20 << 8 | 10 << 1, 77], [50 << 8 | 100 << 1 | 1, 78]], ">u4").tobytes()
    events = read_file(write(tmp_path / "a.aedat", b"#!AER-DAT2.0\r\n" + one), DVS128)
    assert (events.x.tolist(), events.y.tolist(), events.p.tolist()) == ([117, 27], [107, 77], [True, False])


def test_what_a_set_turns_is_aedat_2_of_a_dvs128_alone(tmp_path: Path) -> None:
    for name in ("AEDAT 2, DAVIS346", "AEDAT 3", "AEDAT 4", "AEDAT 4, short name", "numpy"):
        extension, content, sensor = FORMATS[name]
        sample = synthetic(0, 200, sensor)
        assert sample.equals(read_file(write(tmp_path / f"a{extension}", content(sample)), sensor, turned=True))


def test_aedat_2_of_a_davis_is_read_without_its_pictures(tmp_path: Path) -> None:
    sensor = (260, 346)
    content = recordings.aedat2_davis346(synthetic(0, 900, sensor))
    path = tmp_path / "a.aedat"
    picture = np.array([[1 << 31 | 5 << 12, 7]] * 50, ">u4").tobytes()
    assert len(read_file(write(path, content + picture), sensor)) == 900
    # By hand: y is the bits from 22, x the 10 from 12, both from the far corner; bit 11 says that brightness rose.
    one = np.array([[258 << 22 | 340 << 12 | 1 << 11, 77]], ">u4").tobytes()
    event = read_file(write(path, b"#!AER-DAT2.0\r\n" + one), sensor)
    assert (event.t[0], event.x[0], event.y[0], event.p[0]) == (77, 5, 1, True)


def test_aedat_2_times_may_start_again_from_0(tmp_path: Path) -> None:
    sample = synthetic(0, 500, DVS128)
    late = Sample((sample.t + 2**32 - 100_000) % 2**32, *sample[1:])
    events = read_file(write(tmp_path / "a.aedat", recordings.aedat2(late)), DVS128)
    assert (np.diff(events.t) == np.diff(sample.t)).all()


def test_aedat_3_reads_as_spikingjelly_reads_dvs_gesture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", recordings.aedat3(synthetic(0, 900, DVS128)))
    theirs = load_aedat_v3(path)
    assert Sample(*(theirs[name] for name in "txyp")).equals(read_file(path, DVS128))


def test_aedat_3_drops_invalid_events_and_minds_overflows(tmp_path: Path) -> None:
    sample = synthetic(0, 100, DVS128)
    valid = np.arange(100) % 4 > 0
    packets = [recordings.aedat3_packet(sample, valid.astype(int), overflow, spare=5) for overflow in (0, 1)]
    events = read_file(write(tmp_path / "a.aedat", recordings.AEDAT3_HEADER + b"".join(packets)), DVS128)
    assert (events.x == np.tile(sample.x[valid], 2)).all()
    assert (events.t == np.concatenate([sample.t[valid], sample.t[valid] + 2**31])).all()


def test_a_part_of_aedat_3(tmp_path: Path) -> None:
    sample = synthetic(0, 3000, DVS128)
    path = write(tmp_path / "a.aedat", recordings.aedat3(sample, per_packet=70))
    for start, end in ((0, 10**9), (50_000, 200_000), (int(sample.t[700]), int(sample.t[1400]))):
        part = Sample(*(column[(sample.t >= start) & (sample.t < end)] for column in sample))
        assert part.equals(read_aedat3(path, start, end))
    assert len(read_aedat3(path, 10**9, 2 * 10**9)) == 0


def test_dat_files_are_read_by_hand(tmp_path: Path) -> None:
    """Time, then x (14 bits), y (14) and polarity (4) from the lowest on, little-endian."""
    content = b"% Version 2\n" + bytes([0, 8, 5, 0, 0, 0, 0x03, 0x40, 0x00, 0x10, 0, 1, 0, 0, 0x2F, 0x81, 0x3B, 0x00])
    events = read_file(write(tmp_path / "a.dat", content), (240, 304))
    assert events.t.tolist() == [5, 256]
    assert (events.x.tolist(), events.y.tolist()) == ([3, 0x12F], [1, 0xEE])
    assert events.p.tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.aedat", b"#!AER-DAT1.0\r\n" + bytes(12), "is of AEDAT version 1; versions 2, 3 and 4 are read"),
        ("a.aedat", b"#!AER-DAT3.1\r\n" + bytes(12), "its header has no end"),
        ("a.aedat", recordings.AEDAT3_HEADER + bytes(12), "it ends within the head of a packet"),
        ("a.aedat", recordings.AEDAT3_HEADER + bytes(28), "the head of a packet at byte 61 makes no sense"),
        ("a.dat", b"% Version 1\n" + bytes(10), "is of Prophesee version 1; version 2 is read"),
        ("a.dat", b"% Version 2\n" + bytes([14, 8]), "events of type 14 with 8 bytes, not changes of brightness"),
        ("a.txt", b"t x y\n1 2 3\n", "is no text of events: its first line names t, x, y, not x, y, t and p"),
        ("a.csv", b"when;x;y;p\n1;2;3;1\n", "its first line names when, x, y, p, not x, y, t and p"),
        ("a.txt", b"x x y p\n1 2 3 4\n", "its first line names x, x, y, p, not x, y, t and p"),
        ("a.txt", b"1 2 3\n4 5 6\n", "four numbers a line are needed, not 3"),
        ("a.txt", b"1 2.5 3 1\n", "x and y must be whole numbers"),
        ("a.txt", b"t x y p\n", "it has no lines of numbers"),
        ("a.bin", bytes(11), "1 bytes are left after the last whole event"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        read_file(write(tmp_path / name, content), DVS128)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 4)), r"with the columns x, y, t and p: it has float64 \[5, 4\]"),
        (np.zeros(5, [("x", int), ("y", int), ("t", int)]), "it has x, y, t$"),
        (np.zeros(5, [("x", float), ("y", int), ("t", int), ("p", bool)]), "has float64 for x, where whole numbers"),
        (np.full(5, np.nan, [("x", int), ("y", int), ("t", float), ("p", bool)]), "has a t that is no number"),
        (np.array([{}], object), "is cut short, damaged or no numpy array: Object arrays cannot be loaded"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(RecordingError, match=message):
        read_file(tmp_path / "a.npy", DVS128)


@pytest.mark.parametrize("name", ["AEDAT 2, DVS128", "Prophesee", "numpy"])
def test_a_clock_of_32_bits_that_starts_again_goes_on(tmp_path: Path, name: str) -> None:
    extension, content, sensor = FORMATS[name]
    sample = synthetic(0, 500, sensor)
    wrapped = Sample((sample.t + 2**32 - 100_000) % 2**32, *sample[1:])
    data = content(wrapped)
    if name == "numpy":
        file, array = io.BytesIO(), structured(wrapped)
        np.save(file, array.astype([(each, "<u4" if each == "t" else array.dtype[each]) for each in array.dtype.names]))
        data = file.getvalue()
    events = read_file(write(tmp_path / f"a{extension}", data), sensor)
    assert (np.diff(events.t) == np.diff(sample.t)).all()
    assert (events.x == sample.x).all()


def test_two_recordings_in_one_file_are_not_laid_on_top_of_each_other(tmp_path: Path) -> None:
    sample = synthetic(0, 500, DVS128)
    twice = Sample(*(np.concatenate([column, column]) for column in sample))
    with pytest.raises(RecordingError, match=r"than one recording: its clock goes back from \d+ to \d+ at event 500"):
        read_file(write(tmp_path / "twice.npy", npy(twice)), DVS128)


@pytest.mark.parametrize("length", range(8))
@pytest.mark.parametrize("ended", [True, False])
def test_aedat_2_has_a_header_of_any_text(tmp_path: Path, length: int, ended: bool) -> None:
    """As jAER writes it: the user's name in Latin-1, all preferences, and maybe a line that ends it."""
    sample = synthetic(0, 100, DVS128)
    lines = f"# User name: M\xfcller{'x' * length}\r\n".encode("latin-1") + b"#<entry key='a'/>\r\n" * 5000
    first, rest = recordings.aedat2(sample).split(b"\r\n", 1)
    content = first + b"\r\n" + lines + (b"#End Of ASCII Header\r\n" if ended else b"")
    events = rest[rest.index(b"Tuesday\r\n") + 9 :]
    assert sample.equals(read_file(write(tmp_path / "a.aedat", content + events), DVS128))


def test_aedat_2_leaves_out_what_is_no_change_of_brightness(tmp_path: Path) -> None:
    sample = synthetic(0, 100, DVS128)
    signals = np.array([[1 << 15, 7], [1 << 31, 8]], ">u4").tobytes()
    assert sample.equals(read_file(write(tmp_path / "a.aedat", recordings.aedat2(sample) + signals), DVS128))
