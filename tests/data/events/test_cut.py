"""Long recordings are cut into samples."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcut_snn.data import EventFolder, EventSet, RecordingArchive
from shortcut_snn.data.events.event_images import to_frames
from shortcut_snn.data.events.recording import Events, piece_bounds
from shortcut_snn.data.inputs import InputFiles

from .recordings import Sample, long_recordings, write_folder, write_npz

SENSOR = (128, 128)


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(1, 1500))
def test_pieces_are_whole_and_in_order(gaps: list[int], length: int) -> None:
    t = np.cumsum(gaps) + 5
    by_count = piece_bounds(t, length, None)
    assert (np.diff(by_count) == length).all() or by_count.tolist() == [[0, len(t)]]
    assert len(by_count) == max(1, len(t) // length)
    by_time = piece_bounds(t, None, length)
    # An end of 95 % of the duration is a piece.
    total = t[-1] - t[0] + 1 + length // 20
    expected = [(t >= t[0] + i * length) & (t < t[0] + (i + 1) * length) for i in range(total // length)]
    kept = [chosen.nonzero()[0] for chosen in expected if chosen.any()] or [np.arange(len(t))]
    assert [np.arange(a, b).tolist() for a, b in by_time] == [each.tolist() for each in kept]
    assert piece_bounds(t, None, None).tolist() == [[0, len(t)]]


@pytest.fixture(scope="module")
def recordings() -> list[Sample]:
    """Three long recordings of each of two objects."""
    return long_recordings(3)


@pytest.fixture(params=["files", "archive"])
def source(request: pytest.FixtureRequest, tmp_path: Path, recordings: list[Sample]) -> Path:
    if request.param == "archive":
        return write_npz(tmp_path / "set.npz", recordings, [0, 0, 0, 1, 1, 1], {})
    write_folder(tmp_path / "set", recordings)
    return tmp_path / "set"


def data_set(source: Path, **options: object) -> EventSet:
    made = RecordingArchive if source.suffix else EventFolder
    return made(source, sensor=SENSOR, size=32, validation=0, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("cut", [{"cut_events": 4000}, {"cut_duration": 90_000}], ids=str)
def test_samples_are_the_pieces_of_recordings_and_stay_in_one_part(
    source: Path, tmp_path: Path, recordings: list[Sample], cut: dict
) -> None:
    loaded = data_set(source, cache="off", **cut).load(3)
    whole = data_set(source, cache="off").load(3)
    for part in ("train", "test"):
        pieces, uncut = getattr(loaded, part), getattr(whole, part)
        position = 0
        for name, label in zip(uncut.names(), uncut.labels.tolist(), strict=True):
            events = Events.of(*recordings[int(Path(name).stem)])
            bounds = piece_bounds(events.t, cut.get("cut_events"), cut.get("cut_duration"))
            assert len(bounds) > 2
            for number, (first, last) in enumerate(bounds):
                frames, found = pieces[position]
                assert (frames.numpy() == to_frames(events[first:last], SENSOR, (32, 32), 3, "time")).all()
                assert (pieces.names()[position], found) == (f"{name}#{number:04d}", label)
                position += 1
        assert position == len(pieces)
    cached = data_set(source, cache=str(tmp_path / "cache"), **cut)
    for _ in range(2):
        again = cached.load(3)
        assert again.split == loaded.split
        assert again.fingerprint() == loaded.fingerprint()
    assert {**loaded.description, **cut} == again.description != whole.description


def test_a_cut_file_is_read_once(tmp_path: Path, recordings: list[Sample]) -> None:
    write_folder(tmp_path / "set", recordings)
    whole = data_set(tmp_path / "set", cache=str(tmp_path / "cache"), cut_events=4000).read(3)
    pieces = whole.train.cut()
    file = InputFiles(data_set(tmp_path / "set", cut_events=4000).load(3).description, 3)
    frames = [file.read(Path(recording.file.path)) for recording in whole.train.recordings]
    for recording in whole.train.recordings:
        Path(recording.file.path).unlink()
    assert whole.train.cut().recordings == pieces.recordings
    assert (pieces.fetch(range(len(pieces))).numpy() == np.concatenate(frames)).all()


def test_one_kind_of_cut(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cut_events or by cut_duration"):
        EventFolder(tmp_path, sensor=SENSOR, cut_events=5, cut_duration=5)
