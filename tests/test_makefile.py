"""``make`` removes only what it made, and announces that it installs."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make")


def make(target: str, run: Path, environment: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-C", str(ROOT), target, f"RUN={run}", f"VENV={environment}"], capture_output=True, text=True
    )


@pytest.fixture
def installed(tmp_path):
    """An environment whose programs print their arguments."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "pip", "pytest", "shortcut-snn", "../pyvenv.cfg", "../.train"):
        (folder / "bin" / name).write_text('#!/bin/sh\necho "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    return folder


def a_run(folder: Path) -> Path:
    folder.mkdir()
    for name in ("demo.png", "comparison.csv"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("target", ["demo", "clean"])
def test_a_run_is_removed(tmp_path, installed, target):
    run = a_run(tmp_path / "my run")
    assert make(target, run, installed).returncode == 0
    assert not run.exists()
    assert make(target, run, installed).returncode == 0, "nothing is there"
    assert installed.exists() == (target == "demo")


@pytest.mark.parametrize("target", ["demo", "clean"])
@pytest.mark.parametrize("name", ["thesis.tex", "comparison.csv"])
def test_other_folders_are_kept(tmp_path, installed, target, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).touch()
    done = make(target, tmp_path / "mine", installed)
    assert done.returncode != 0
    assert f"{tmp_path / 'mine'} is not removed: it holds no" in done.stdout
    assert (tmp_path / "mine" / name).exists()


def test_a_folder_that_is_not_an_environment_is_kept(tmp_path):
    (tmp_path / "mine").mkdir()
    done = make("clean", a_run(tmp_path / "run"), tmp_path / "mine")
    assert "it holds no pyvenv.cfg" in done.stdout
    assert (tmp_path / "mine").exists()


def test_half_an_environment_is_made_again(tmp_path):
    """Debian's Python without python3-venv leaves an environment that has a Python and no pip."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] || { mkdir -p "$3/bin"; ln -s /bin/true "$3/bin/python"; exit 1; }\n')
    python.chmod(0o755)
    command = ["make", "-C", str(ROOT), "setup", f"PYTHON={python}", f"VENV={tmp_path / 'environment'}"]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode != 0
        assert "-m venv" in done.stdout


def test_an_installation_is_announced(tmp_path, installed):
    for is_announced in (True, False):
        done = make("test", tmp_path / "run", installed)
        assert done.returncode == 0, done.stderr
        assert (f"into {installed}" in done.stdout) == is_announced


@pytest.mark.parametrize(("name", "value"), [("WITH", "torch==2.9.*"), ("LOCK", "requirements.lock")])
def test_versions_that_are_asked_for_are_installed_over_others(tmp_path, installed, name, value):
    assert make("setup", tmp_path / "run", installed).returncode == 0
    command = ["make", "-C", str(ROOT), "setup", f"VENV={installed}", f"{name}={value}"]
    assert value in subprocess.run(command, capture_output=True, text=True).stdout
