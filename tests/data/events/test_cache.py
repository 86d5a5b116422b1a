import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcut_snn.data.events import cache as cache_module
from shortcut_snn.data.events.cache import FrameCache, cache_folder
from shortcut_snn.data.events.event_images import FrameMaker
from shortcut_snn.data.events.formats.files import FileRecording, read_file
from shortcut_snn.data.events.frames import frame_size, to_frames
from shortcut_snn.data.events.recording import FileState

from .recordings import aedat2, aedat3, atis_bin, nmnist, synthetic, write

WAYS = st.tuples(
    st.integers(1, 30),
    st.sampled_from([None, 12, 34]),
    st.sampled_from(["time", "count"]),
    st.sampled_from([(34, 34), (34, 40), (40, 34)]),
    st.integers(0, 3),
)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.frames"))


def name_of(folder: Path, way: tuple[int, int | None, str, tuple[int, int], int]) -> Path:
    """Where the frames of a recording, made in some way, are kept."""
    time_steps, size, slicing, sensor, number = way
    maker = FrameMaker.of(sensor, time_steps, size, slicing, str(folder))  # type: ignore[arg-type]
    assert maker.cache
    return maker.cache._path(maker.cache._key(("recording", number)))


@given(WAYS, WAYS)
def test_whatever_changes_the_frames_changes_their_name(
    tmp_path_factory: pytest.TempPathFactory, first: tuple, second: tuple
) -> None:
    folder = tmp_path_factory.getbasetemp() / "ways"
    # No size means the sensor's, which may be what the other asks for.
    same = [(t, size or min(sensor), slicing, sensor, number) for t, size, slicing, sensor, number in (first, second)]
    assert (name_of(folder, first) == name_of(folder, second)) == (same[0] == same[1])


def test_another_version_gives_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way = (10, None, "time", (34, 34), 0)
    before = name_of(tmp_path, way)
    monkeypatch.setattr(cache_module, "VERSION", cache_module.VERSION + 1)
    assert name_of(tmp_path, way) != before


def test_the_version_stands_for_these_frames(tmp_path: Path) -> None:
    """Where this fails, other frames are made of the same recording: raise VERSION, and write the new sum beside it."""
    checksum = hashlib.sha256()
    for seed, (extension, content) in enumerate(((".bin", atis_bin), (".aedat", aedat2), (".aedat", aedat3))):
        sensor = (34, 34) if extension == ".bin" else (128, 128)
        path = write(tmp_path / f"{seed}{extension}", content(synthetic(seed, 3000, sensor)))
        for slicing in ("time", "count"):
            frames = to_frames(read_file(path, sensor), sensor, frame_size(sensor, 20), 5, slicing)
            checksum.update(frames.tobytes())
    assert (cache_module.VERSION, checksum.hexdigest()[:16]) == (1, "b6a46dc6c6bd7dde")


def identity(path: Path) -> tuple[str | int, ...]:
    return FileRecording("r", FileState.of(path)).identity()


def test_another_recording_gives_another_name_even_with_the_same_size_and_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", b"12345")
    before, stamp = identity(path), path.stat()
    assert identity(path) == before
    time.sleep(0.02)
    path.write_bytes(b"54321")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_mtime_ns == stamp.st_mtime_ns
    assert identity(path) != before
    assert identity(write(tmp_path / "b.bin", b"12345")) != before


def maker(folder: Path, time_steps: int = 10) -> FrameMaker:
    return FrameMaker.of((34, 34), time_steps, cache=str(folder))


@pytest.fixture
def recordings(tmp_path: Path) -> list[FileRecording]:
    made = []
    for number, sample in enumerate(nmnist(8)[0]):
        path = write(tmp_path / "raw" / f"{number}.bin", atis_bin(sample))
        made.append(FileRecording.of(str(path), tmp_path))
    return made


def test_what_was_made_once_is_not_read_again(tmp_path: Path, recordings: list[FileRecording]) -> None:
    first = [maker(tmp_path / "cache")(recording) for recording in recordings]
    for recording in recordings:
        os.unlink(recording.state.path)
    again = [maker(tmp_path / "cache")(recording) for recording in recordings]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        maker(tmp_path / "cache", time_steps=9)(recordings[0])


def test_off_keeps_nothing(tmp_path: Path, recordings: list[FileRecording], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    off = FrameMaker.of((34, 34), 10, cache="off")
    assert (off(recordings[0]) == maker(tmp_path / "cache")(recordings[0])).all()
    assert not (tmp_path / "home").exists()
    assert len(entries(tmp_path)) == 1


def test_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder(None) == Path("/somewhere/shortcut-snn/frames")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(None) == Path.home() / ".cache" / "shortcut-snn" / "frames"
    assert cache_folder("~/frames") == Path.home() / "frames"


@pytest.mark.parametrize("damage", ["empty", "half", "one byte", "end", "another's", "shape", "head"])
def test_damage_is_noticed_and_repaired(tmp_path: Path, recordings: list[FileRecording], damage: str) -> None:
    make = maker(tmp_path / "cache")
    whole = make(recordings[0])
    (path,) = entries(tmp_path / "cache")
    content = path.read_bytes()
    make(recordings[1])
    (other,) = set(entries(tmp_path / "cache")) - {path}
    damaged = {
        "empty": b"",
        "half": content[: len(content) // 2],
        "one byte": content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
        "end": content + b"\0",
        "another's": other.read_bytes(),
        "shape": content[:56] + bytes([content[56] ^ 7]) + content[57:],
        "head": b"\0" + content[1:],
    }[damage]
    path.write_bytes(damaged)
    with pytest.warns(UserWarning, match=re.escape(f"cached frames {path} are damaged and are made anew")):
        assert (maker(tmp_path / "cache")(recordings[0]) == whole).all()
    assert path.read_bytes() == content
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (make(recordings[0]) == whole).all()


def test_every_single_bit_counts(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path, {})
    cache.put(["r"], np.arange(16, dtype=np.uint8).reshape(2, 2, 2, 2))
    (path,) = entries(tmp_path)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
        with pytest.warns(UserWarning, match="damaged"):
            assert cache.get(["r"]) is None


def test_a_folder_that_takes_nothing_is_named_at_once(tmp_path: Path) -> None:
    write(tmp_path / "file", b"")
    with pytest.raises(ValueError, match=r"data.cache: .*file/below cannot be written to \(.*\); name another"):
        FrameCache(tmp_path / "file" / "below", {})


def test_a_full_disk_is_told_once(
    tmp_path: Path, recordings: list[FileRecording], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    make = maker(tmp_path / "cache")
    monkeypatch.setattr(cache_module, "replacing", full)
    with pytest.warns(UserWarning, match=r"takes no more frames \(No space left on device\)") as caught:
        frames = [make(recording) for recording in recordings]
    assert len(caught) == 1
    assert len(frames) == len(recordings)


def test_the_size_and_the_way_are_told(tmp_path: Path, recordings: list[FileRecording]) -> None:
    make = maker(tmp_path)
    for recording in recordings:
        make(recording)
    assert make.cache
    assert make.cache.size() == (8, sum(path.stat().st_size for path in entries(tmp_path)))
    about = (make.cache.folder / "about.json").read_text()
    assert '"time_steps": 10' in about
    assert '"slicing": "time"' in about


def test_old_strays_go_and_young_ones_stay(tmp_path: Path) -> None:
    folder = FrameCache(tmp_path, {}).folder
    old, young = (write(folder / name, b"half a recor") for name in (".old.frames", ".young.frames"))
    os.utime(old, (0, 0))
    FrameCache(tmp_path, {})
    assert (old.exists(), young.exists()) == (False, True)


WRITER = """
import sys
from pathlib import Path
from shortcut_snn.data.events.cache import FrameCache
from tests_recordings import frames
cache = FrameCache(Path(sys.argv[1]), {"way": 1})
print("ready", flush=True)
for round in range(10**6):
    for number in range(20):
        cache.put([number], frames(number))
"""
FRAMES = """
import numpy as np
def frames(number):
    return np.random.default_rng(number).integers(0, 256, (40, 2, 64, 64)).astype(np.uint8)
"""


def test_ten_kills_while_writing_leave_nothing_corrupt(tmp_path: Path) -> None:
    """Two processes write the same entries over and over and are killed at random moments."""
    write(tmp_path / "tests_recordings.py", FRAMES.encode())
    made: dict[str, object] = {}
    exec(FRAMES, made)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache")]
    rng = np.random.default_rng(0)
    for _ in range(5):
        writers = [
            subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE) for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout
            writer.stdout.readline()
        for writer in writers:
            time.sleep(rng.uniform(0.001, 0.08))
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            assert writer.stdout
            writer.stdout.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cache = FrameCache(tmp_path / "cache", {"way": 1})
            found = {number: cache.get([number]) for number in range(20)}
        for number, kept in found.items():
            assert kept is None or (kept == made["frames"](number)).all()  # type: ignore[operator]
        assert sum(kept is not None for kept in found.values()) == cache.size()[0] > 0


STOPS = {
    "half written": "Path.write_bytes = lambda path, content: (open(path, 'wb').write(content[:50]), wait())",
    "not yet on the disk": "os.fsync = lambda file: wait()",
    "not yet renamed": "Path.replace = lambda old, new: wait()",
}


@pytest.mark.parametrize("stop", STOPS)
def test_a_kill_at_any_stage_leaves_no_entry(tmp_path: Path, stop: str) -> None:
    code = f"""
import os, sys, time, numpy
from pathlib import Path
from shortcut_snn.data.events.cache import FrameCache
def wait():
    print("now", flush=True)
    time.sleep(60)
cache = FrameCache(Path(sys.argv[1]), {{}})
{STOPS[stop]}
cache.put(["r"], numpy.ones((1, 2, 3, 4), numpy.uint8))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"now\n"
        writer.kill()
    cache = FrameCache(tmp_path, {})
    assert cache.get(["r"]) is None
    assert cache.size() == (0, 0)
    cache.put(["r"], np.ones((1, 2, 3, 4), np.uint8))
    assert cache.get(["r"]) is not None


def test_processes_share_a_cache(tmp_path: Path) -> None:
    """What one process keeps, another finds."""
    code = (
        "import sys, numpy; from pathlib import Path; from shortcut_snn.data.events.cache import FrameCache;"
        "FrameCache(Path(sys.argv[1]), {}).put(['a', 1], numpy.full((1, 2, 3, 4), 7, numpy.uint8))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    kept = FrameCache(tmp_path, {}).get(["a", 1])
    assert kept is not None
    assert kept.tolist() == np.full((1, 2, 3, 4), 7).tolist()
