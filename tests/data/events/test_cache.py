import hashlib
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from shortcut_snn.data.events import FileRecording, FrameMaker
from shortcut_snn.data.events import cache as cache_module
from shortcut_snn.data.events.cache import FrameCache, cache_folder

from .recordings import aedat2, aedat3, atis_bin, nmnist, synthetic, write

NMNIST = (34, 34)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.frames"))


def maker(folder: Path, time_steps: int = 10) -> FrameMaker:
    return FrameMaker(NMNIST, time_steps, cache=str(folder))


@pytest.fixture
def recordings(tmp_path: Path) -> list[FileRecording]:
    paths = [write(tmp_path / "raw" / f"{i}.bin", atis_bin(sample)) for i, sample in enumerate(nmnist(8)[0])]
    return [FileRecording.of(str(path), tmp_path) for path in paths]


@pytest.mark.parametrize(
    "options",
    [
        {"time_steps": 9},
        {"size": 12},
        {"slicing": "count"},
        {"sensor": (34, 40)},
    ],
)
def test_every_option_of_the_frames_changes_the_entry(
    tmp_path: Path, recordings: list[FileRecording], options: dict
) -> None:
    plain = {"sensor": NMNIST, "time_steps": 10}
    for each in (plain, plain | {"size": 34}, plain | options):
        FrameMaker(**each, cache=str(tmp_path))(recordings[0])
    assert len(entries(tmp_path)) == 2


def test_the_version_stands_for_these_frames(tmp_path: Path) -> None:
    """If this fails, the same recording gives other frames: raise VERSION, and write the new sum next to it."""
    checksum = hashlib.sha256()
    for seed, (extension, content) in enumerate(((".bin", atis_bin), (".aedat", aedat2), (".aedat", aedat3))):
        sensor = NMNIST if extension == ".bin" else (128, 128)
        path = write(tmp_path / f"{seed}{extension}", content(synthetic(seed, 3000, sensor)))
        for slicing in ("time", "count"):
            frames = FrameMaker(sensor, 5, 20, slicing, "off")(FileRecording.of(str(path), tmp_path))  # type: ignore[arg-type]
            checksum.update(frames.tobytes())
    assert (cache_module.VERSION, checksum.hexdigest()[:16]) == (2, "b6a46dc6c6bd7dde")


def test_cached_frames_are_read_without_the_recording(tmp_path: Path, recordings: list[FileRecording]) -> None:
    first = [maker(tmp_path / "cache")(recording) for recording in recordings]
    for recording in recordings:
        os.unlink(recording.state.path)
    make = maker(tmp_path / "cache")
    assert all((a == make(recording)).all() for a, recording in zip(first, recordings, strict=True))
    assert make.cache
    assert make.cache.size() == (8, sum(path.stat().st_size for path in entries(tmp_path)))
    assert '"time_steps": 10' in (make.cache.folder / "about.json").read_text()
    with pytest.raises(ValueError, match="cannot be read"):
        maker(tmp_path / "cache", time_steps=9)(recordings[0])


def test_off_stores_nothing(tmp_path: Path, recordings: list[FileRecording], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    off = FrameMaker(NMNIST, 10, cache="off")
    assert (off(recordings[0]) == maker(tmp_path / "cache")(recordings[0])).all()
    assert not (tmp_path / "home").exists()


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder(None) == Path("/somewhere/shortcut-snn/frames")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(None) == Path.home() / ".cache" / "shortcut-snn" / "frames"
    assert cache_folder("~/frames") == Path.home() / "frames"


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path, {})
    cache.put(["r"], np.arange(16, dtype=np.uint8).reshape(2, 2, 2, 2))
    (path,) = entries(tmp_path)
    content = path.read_bytes()
    damaged = [content[:i] + bytes([content[i] ^ (1 << i % 8)]) + content[i + 1 :] for i in range(len(content))]
    for wrong in (b"", content[: len(content) // 2], *damaged):
        path.write_bytes(wrong)
        with pytest.warns(UserWarning, match="made again"):
            assert cache.get(["r"]) is None


def test_a_damaged_entry_is_replaced(tmp_path: Path, recordings: list[FileRecording]) -> None:
    make = maker(tmp_path / "cache")
    frames = make(recordings[0])
    (path,) = entries(tmp_path / "cache")
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.warns(UserWarning, match=str(path)):
        assert (make(recordings[0]) == frames).all()
    assert path.read_bytes() == content


def test_an_unusable_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path / "file", b"")
    with pytest.raises(ValueError, match=r"data\.cache: .*file/below"):
        FrameCache(tmp_path / "file" / "below", {})


def test_a_full_disk_is_warned_about_once(
    tmp_path: Path, recordings: list[FileRecording], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    make = maker(tmp_path / "cache")
    monkeypatch.setattr(cache_module, "replacing", full)
    with pytest.warns(UserWarning, match="No space left") as caught:
        frames = [make(recording) for recording in recordings]
    assert (len(caught), len(frames)) == (1, len(recordings))


def test_old_temporary_files_are_removed(tmp_path: Path) -> None:
    folder = FrameCache(tmp_path, {}).folder
    names = (".shortcut-snn-old-00000000.frames", ".shortcut-snn-young-00000000.frames")
    old, young = (write(folder / name, b"half a recor") for name in names)
    os.utime(old, (0, 0))
    FrameCache(tmp_path, {})
    assert (old.exists(), young.exists()) == (False, True)


FRAMES = """
import numpy as np
def frames(number):
    return np.random.default_rng(number).integers(0, 256, (40, 2, 64, 64)).astype(np.uint8)
"""
WRITER = f"""
import sys
from pathlib import Path
from shortcut_snn.data.events.cache import FrameCache
{FRAMES}
cache = FrameCache(Path(sys.argv[1]), {{"slicing": "time"}})
print("ready", flush=True)
for round in range(10**6):
    for number in range(20):
        cache.put([number], frames(number))
"""


def test_killed_writers_leave_no_damaged_entry(tmp_path: Path) -> None:
    """Two processes write the same entries again and again, and are killed after some of them."""
    made: dict[str, object] = {}
    exec(FRAMES, made)
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    for writer in writers:
        assert writer.stdout
        writer.stdout.readline()
    cache = FrameCache(tmp_path / "cache", {"slicing": "time"})
    while cache.size()[0] < 10:
        assert writers[0].poll() is None
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert writer.stdout
        writer.stdout.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored = {number: cache.get([number]) for number in range(20)}
    for number, frames in stored.items():
        assert frames is None or (frames == made["frames"](number)).all()  # type: ignore[operator]
    assert sum(frames is not None for frames in stored.values()) == cache.size()[0]


STAGES = {
    "half written": "Path.write_bytes = lambda path, content: (open(path, 'wb').write(content[:50]), stop())",
    "not renamed": "Path.replace = lambda old, new: stop()",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_at_any_stage_leaves_no_entry(tmp_path: Path, stage: str) -> None:
    code = f"""
import os, sys, numpy
from pathlib import Path
from shortcut_snn.data.events.cache import FrameCache
def stop():
    os.kill(os.getpid(), 9)
cache = FrameCache(Path(sys.argv[1]), {{}})
{STAGES[stage]}
cache.put(["r"], numpy.ones((1, 2, 3, 4), numpy.uint8))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    cache = FrameCache(tmp_path, {})
    assert cache.get(["r"]) is None
    assert cache.size() == (0, 0)
    cache.put(["r"], np.ones((1, 2, 3, 4), np.uint8))
    assert cache.get(["r"]) is not None
