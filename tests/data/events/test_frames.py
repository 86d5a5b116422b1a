import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcut_snn.data.events.event_images import FrameMaker, frame_size, to_frames
from shortcut_snn.data.events.event_set import file_recording
from shortcut_snn.data.events.recording import Events

from .recordings import Sample, nmnist, structured, synthetic

NMNIST = (34, 34)


def events(sample: Sample) -> Events:
    return Events.of(*sample)


@pytest.fixture(scope="module")
def real() -> list[Sample]:
    return nmnist(20)[0]


@given(st.integers(1, 60), st.integers(1, 40), st.sampled_from(["time", "count"]), st.integers(0, 99))
def test_every_event_is_counted_once(size: int, time_steps: int, slicing: str, seed: int) -> None:
    sample = synthetic(seed, 700, (60, 80))
    frames = to_frames(events(sample), (60, 80), frame_size((60, 80), size), time_steps, slicing)
    assert frames.dtype == np.uint8
    assert frames.shape[:3] == (time_steps, 2, size)
    if frames.max() < 255:
        assert frames.sum((0, 2, 3)).tolist() == [(sample.p == 0).sum(), (sample.p == 1).sum()]


def test_position_of_single_events() -> None:
    sample = Sample(*(np.array(column) for column in ([0, 59, 60, 99], [3, 5, 5, 7], [2, 4, 4, 6], [0, 1, 1, 0])))
    frames = to_frames(events(sample), (8, 9), (8, 9), 5, "time")
    assert np.argwhere(frames).tolist() == [[0, 0, 2, 3], [2, 1, 4, 5], [3, 1, 4, 5], [4, 0, 6, 7]]
    halved = to_frames(events(sample), (8, 9), (4, 4), 2, "count")
    assert halved[0, 0, 1].sum() == halved[0, 1, 2].sum() == 1


def test_slicing_by_time_and_by_count(real: list[Sample]) -> None:
    for sample in real:
        by_count = to_frames(events(sample), NMNIST, NMNIST, 7, "count").sum((1, 2, 3))
        assert by_count.max() - by_count.min() <= 1
        by_time = to_frames(events(sample), NMNIST, NMNIST, 7, "time").sum((1, 2, 3))
        edges = sample.t[0] + np.arange(1, 7) * (sample.t[-1] - sample.t[0] + 1) / 7
        assert by_time.tolist() == np.diff(np.searchsorted(sample.t, edges), prepend=0, append=len(sample.t)).tolist()


@pytest.mark.parametrize(("cells", "each"), [(1, 1), (5, 10), (17, 40), (34, 40), (48, 40), (96, 40)])
def test_cells_of_a_coarser_grid_have_equal_weight(cells: int, each: int) -> None:
    side = 128
    y, x = (axis.flatten().repeat(each) for axis in np.indices((side, side)))
    order = np.random.default_rng(0).permutation(len(x))
    flat = Sample(np.arange(len(x)), x[order], y[order], np.zeros(len(x), int))
    counts = to_frames(events(flat), (side, side), (cells, cells), 128, "count")
    assert counts.max() < 255
    total = counts.sum((0, 1)).astype(float)
    expected = each * (side / cells) ** 2
    assert np.abs(total / expected - 1).max() < 6 / np.sqrt(expected)


def test_cells_of_whole_pixels_are_exact_sums() -> None:
    sample = synthetic(0, 500, (48, 64))
    whole = to_frames(events(sample), (48, 64), (48, 64), 3, "time")
    quarter = to_frames(events(sample), (48, 64), (12, 16), 3, "time")
    assert (whole.reshape(3, 2, 12, 4, 16, 4).sum((3, 5)) == quarter).all()


def test_counts_saturate_at_255() -> None:
    many = Sample(np.arange(1000), *(np.full(1000, value) for value in (3, 4, 1)))
    frames = to_frames(events(many), (8, 8), (8, 8), 2, "time")
    assert frames[:, 1, 4, 3].tolist() == [255, 255]
    assert frames.sum() == 510


def test_size_is_the_shorter_side() -> None:
    assert frame_size((260, 346), None) == (260, 346)
    assert frame_size((260, 346), 48) == (48, 64)
    assert frame_size((346, 260), 130) == (173, 130)
    assert frame_size((128, 128), 48) == (48, 48)
    with pytest.raises(ValueError, match=r"data\.size"):
        frame_size((34, 40), 48)


def test_saturated_cells_are_warned_about(tmp_path: Path) -> None:
    np.save(tmp_path / "busy.npy", structured(synthetic(0, 20_000, (64, 64))))
    recording = file_recording(tmp_path / "busy.npy", tmp_path)
    with pytest.warns(UserWarning, match=r"data\.size"):
        FrameMaker((64, 64), 2, size=4, cache="off")(recording)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FrameMaker((64, 64), 2, size=32, cache="off")(recording)
