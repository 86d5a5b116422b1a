import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shortcut_snn.data.events import event_images as cache_module
from shortcut_snn.data.events.event_images import FrameCache, FrameMaker
from shortcut_snn.data.events.event_set import file_recording
from shortcut_snn.data.events.recording import Recording

from .recordings import aedat2, aedat3, atis_bin, nmnist, synthetic, write

NMNIST = (34, 34)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("[!.]*.frames"))


def maker(folder: Path, time_steps: int = 10) -> FrameMaker:
    return FrameMaker(NMNIST, time_steps, cache=str(folder))


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    paths = [write(tmp_path / "raw" / f"{i}.bin", atis_bin(sample)) for i, sample in enumerate(nmnist(8)[0])]
    return [file_recording(path, tmp_path) for path in paths]


@pytest.mark.parametrize(
    "options", [{"time_steps": 9}, {"size": 12}, {"slicing": "count"}, {"sensor": (34, 40)}], ids=str
)
def test_every_option_of_the_frames_changes_the_entry(
    tmp_path: Path, recordings: list[Recording], options: dict
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
            frames = FrameMaker(sensor, 5, 20, slicing, "off")(file_recording(path, tmp_path))  # type: ignore[arg-type]
            checksum.update(frames.tobytes())
    assert (cache_module.VERSION, checksum.hexdigest()[:16]) == (2, "b6a46dc6c6bd7dde")


def test_cached_frames_are_read_without_the_recording(tmp_path: Path, recordings: list[Recording]) -> None:
    first = [maker(tmp_path / "cache")(recording) for recording in recordings]
    for recording in recordings:
        os.unlink(recording.file.path)
    make = maker(tmp_path / "cache")
    assert all((a == make(recording)).all() for a, recording in zip(first, recordings, strict=True))
    assert len(entries(tmp_path)) == 8
    with pytest.raises(ValueError, match="cannot be read"):
        maker(tmp_path / "cache", time_steps=9)(recordings[0])


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


def test_a_damaged_entry_is_replaced(tmp_path: Path, recordings: list[Recording]) -> None:
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
    tmp_path: Path, recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    make = maker(tmp_path / "cache")
    monkeypatch.setattr(cache_module, "replacing", full)
    with pytest.warns(UserWarning, match="No space left") as caught:
        frames = [make(recording) for recording in recordings]
    assert (len(caught), len(frames)) == (1, len(recordings))


def frames_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (40, 2, 64, 64)).astype(np.uint8)


def forked(run: Callable[[], None]) -> int:
    """Start a process that runs a function and is then killed; return its number."""
    number = os.fork()
    if not number:
        try:
            run()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("stage", ["write_bytes", "replace"])
def test_a_kill_at_any_stage_leaves_no_entry(tmp_path: Path, stage: str) -> None:
    def put_and_stop() -> None:
        original = getattr(Path, stage)
        setattr(Path, stage, lambda path, content: stop(original, path, content))
        FrameCache(tmp_path, {}).put(["r"], frames_of(0))

    def stop(original: Callable[..., None], path: Path, content: object) -> None:
        if isinstance(content, bytes):
            original(path, content[:50])
        os.kill(os.getpid(), signal.SIGKILL)

    cache = FrameCache(tmp_path, {})
    os.waitpid(forked(put_and_stop), 0)
    assert cache.get(["r"]) is None
    assert entries(tmp_path) == []
    cache.put(["r"], frames_of(0))
    assert (cache.get(["r"]) == frames_of(0)).all()
