"""The judge of research/studies/attach_trial.py finds what is wrong: its verdicts with right and with wrong notes."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

attach_trial = pytest.importorskip("research.studies.attach_trial", reason="the networks need pip install '.[peers]'")


@pytest.mark.parametrize(
    ("name", "notes", "verdict"),
    [
        ("SpikingUNet", {}, "right in one call"),
        ("TwoHeads", {}, "right after one question"),
        ("NodeClassifier", {}, "refused rightly"),
        ("TwoHeads", {"answers": {}}, "refused wrongly"),
        ("in_place", {"authors": lambda net, x: 2 * attach_trial.call(net, x)}, "silently wrong (numbers)"),
        ("in_place", {"loss": "mse_loss"}, "silently wrong (numbers)"),
        ("in_place", {"places": {"stage1": 8}}, "silently wrong (places)"),
        ("in_place", {"places": {"stage1": 9, "stage2": 12}}, "silently wrong (numbers)"),
    ],
)
def test_verdicts(name: str, notes: dict[str, Any], verdict: str) -> None:
    assert attach_trial.attempt(dataclasses.replace(attach_trial.TRIALS[name], **notes)).verdict == verdict


def test_table_is_that_of_the_page(tmp_path: Path) -> None:
    attach_trial.main(["in_place", "--csv", str(tmp_path / "trial.csv")])
    page = (Path(__file__).parents[3] / "docs/results/attach-unseen.csv").read_text().splitlines()
    head, row = (tmp_path / "trial.csv").read_text().splitlines()
    assert head == page[0]
    assert row in page
