"""Files are written completely or not at all."""

import pytest

from shortcut_snn._utils.files import WriteError, replacing, write_csv, write_text
from shortcut_snn._utils.markdown import markdown_table
from shortcut_snn.training.tables import read_rows


@pytest.mark.parametrize(
    ("error", "raised"), [(RuntimeError("half way"), RuntimeError), (OSError(28, "No space left half way"), WriteError)]
)
def test_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path, error, raised):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(raised, match="half way"), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_folder_is_made_and_mode_is_ordinary(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "new")
    ordinary = tmp_path / "ordinary.txt"
    ordinary.write_text("x")
    assert path.read_text() == "new"
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_no_cell_of_a_table_is_a_formula_or_a_control_character(tmp_path):
    write_csv(tmp_path / "a.csv", [{"class": text} for text in ("=cmd|x", "@SUM(1)", "+a", "cat", "-1")])
    assert (tmp_path / "a.csv").read_text().split() == ["class", "'=cmd|x", "'@SUM(1)", "'+a", "cat", "-1"]
    assert [row["class"] for row in read_rows(tmp_path / "a.csv", ["class"])][:4] == ["=cmd|x", "@SUM(1)", "+a", "cat"]
    table = markdown_table(["class"], [["a\x1b[2J"], ["b\n| c"]])
    assert table.splitlines()[2:] == [r"| a\x1b[2J |", r"| b\n\| c  |"]
