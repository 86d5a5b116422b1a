import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shortcut_snn.data.safe_pickle import read_pickle

from .files import python2_pickle

CONTENT = {
    "data": np.arange(600, dtype=np.uint8).reshape(2, 300),
    "labels": [3, 300, -1],
    "text": "a" * 300,
    "on": True,
}


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return list(first) == list(second) and all(np.array_equal(first[key], second[key]) for key in first)


def test_plain_data_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_bytes(python2_pickle(CONTENT))
    assert equal(read_pickle(path), CONTENT)
    # The same bytes as Python reads them when it trusts them.
    assert equal(pickle.loads(path.read_bytes(), encoding="latin1"), CONTENT)
    for protocol in (3, 4):
        path.write_bytes(pickle.dumps(CONTENT, protocol))
        assert equal(read_pickle(path), CONTENT)


class Malice:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_not_run(tmp_path: Path, protocol: int) -> None:
    path, target = tmp_path / "malice", tmp_path / "owned"
    path.write_bytes(pickle.dumps({"data": Malice(target)}, protocol))
    with pytest.raises(ValueError, match=r"malice is cut short, damaged or not plain data \(it asks for"):
        read_pickle(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1], "it holds no dictionary"),
        ({"data": np.zeros(3)}, "it holds an array that is not uint8, row by row"),
        ({"data": np.zeros((3, 2), np.uint8, order="F")}, "it holds an array that is not uint8, row by row"),
        ({"data": np.array([None])}, "it holds an array that is not uint8, row by row"),
        ({"data": {1, 2}, "more": 1 + 2j}, "it asks for builtins.complex"),
    ],
)
def test_other_data_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "other"
    path.write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(ValueError, match=reason):
        read_pickle(path)


def test_any_damage_is_refused_in_one_line_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    whole = python2_pickle({"labels": [1, 2], "data": CONTENT["data"]})
    for place in range(len(whole)):
        for change in (0x01, 0x10, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            try:
                content = read_pickle(path)
            except ValueError as error:
                message = str(error)
                assert message.startswith(str(path))
                assert "\n" not in message
            else:
                assert all(not isinstance(value, np.ndarray) or value.dtype == np.uint8 for value in content.values())
