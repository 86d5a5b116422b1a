"""A run that is killed in the middle of what it does ends as one left alone (studies/kill_runs.py does more)."""

from studies.kill_runs import kill_repeatedly


def test_killed_in_the_middle_of_everything(tmp_path):
    points = ("cache:30", "save:1", "text:5", "before rename:7")
    kills, different = kill_repeatedly(tmp_path / "runs", points)
    assert kills == len(points)
    assert different == []
