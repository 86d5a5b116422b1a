"""The archives of research/studies/cifar10_npz.py are of the data set that was meant."""

import sys
from pathlib import Path

import pytest

from research.studies import cifar10_npz


def test_a_folder_with_both_data_sets_asks_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--data.root data --data.download true`` puts both into one folder."""
    for folder in ("cifar-10-batches-py", "cifar-100-python"):
        (tmp_path / folder).mkdir()
    read = []

    class Read(Exception):
        pass

    class Watched:
        def __init__(self, root: str) -> None:
            read.append(root)

        def read(self) -> None:
            raise Read

    monkeypatch.setitem(cifar10_npz.KINDS, "cifar10", ("cifar-10-batches-py", Watched))
    words = ["cifar10_npz.py", str(tmp_path), str(tmp_path / "cifar10.npz")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="holds cifar10 and cifar100: name one with --kind"):
        cifar10_npz.main()
    monkeypatch.setattr(sys, "argv", [*words, "--kind", "cifar10"])
    with pytest.raises(Read):
        cifar10_npz.main()
    assert read == [str(tmp_path)]
