"""A few of the faults that ``python -m tests.faults`` tries by the hundred."""

import doctest

import pytest
from hypothesis import strategies as st

from tests.faults import answers, strategies
from tests.faults.__main__ import main, try_family
from tests.faults.answers import ERROR, Answer
from tests.faults.families import FAMILIES, Family


@pytest.mark.parametrize(("name", "count"), [("recipes", 15), ("lines", 5), ("npz", 3), ("images", 3), ("events", 3)])
def test_faults_are_well_answered(name, count):
    assert try_family(FAMILIES[name], count, 0) == ""


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(0, "done", ""), ""),
        (Answer(2, "", f"{ERROR}no\n"), ""),
        (Answer(-9, "", "x"), "exit status -9"),
        (Answer(1, "", f"{ERROR}a\n{ERROR}b\n"), "2 lines of error"),
        (Answer(1, "", ""), "0 lines of error"),
        (Answer(1, "", f"{ERROR}{'x' * 9999}\n"), "a line of"),
    ],
)
def test_answers_are_judged_by_one_rule(answer, problem):
    assert answer.problem().startswith(problem)
    assert bool(answer.problem()) == bool(problem)
    assert answer.problem(must_fail=True) if answer.status == 0 else True


def test_the_simplest_bad_answer_is_reported(monkeypatch, capsys):
    family = Family("integers", st.integers(0, 1000), lambda fault, folder: "too large" if fault > 10 else "")
    monkeypatch.setitem(FAMILIES, "integers", family)
    assert main(["--families", "integers", "--count", "100"]) == 1
    assert "11: too large" in capsys.readouterr().out


@pytest.mark.parametrize("module", [answers, strategies])
def test_examples(module):
    assert doctest.testmod(module).failed == 0
