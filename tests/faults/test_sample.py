"""A sample of the faults that `python -m faults` tries by the hundred."""

import random
from itertools import islice
from pathlib import Path

import pytest

from faults.bench import ERROR, Answer, Bench
from faults.case import families
from faults.damage import damaged, odd_csv, odd_json

# Those that cost little: nothing of them trains, or for a moment.
SAMPLE = {"recipes": 12, "lines": 6, "npz": 4, "images": 4, "events": 4}


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample(name: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for case in islice(families()[name].cases(random.Random(7)), SAMPLE[name]):
        if "many steps" in case.name or "RUN" in case.name:
            continue
        with bench.case():
            assert case.act(bench) == "", case.name


def test_two_processes_with_different_recipes(tmp_path: Path) -> None:
    bench, cases = Bench(tmp_path), families()["distributed"].cases(random.Random(0))
    case = next(case for case in cases if case.name == "another recipe in each: network.width")
    with bench.case():
        assert case.act(bench) == ""


def test_the_same_seed_makes_the_same_cases() -> None:
    for name, family in families().items():
        once, again, other = (
            [case.name for case in islice(family.cases(random.Random(seed)), 60)] for seed in ("0", "0", "1")
        )
        assert once == again, name
        assert other != once or name in ("distributed", "concurrency"), name


@pytest.mark.parametrize(
    ("answer", "must", "wrong"),
    [
        (Answer(0, "done", ""), "work", ""),
        (Answer(2, "", f"{ERROR}no\n"), "refuse", ""),
        (Answer(1, "", f"{ERROR}no\n"), "work", "refused: no"),
        (Answer(0, "done", ""), "refuse", "accepted without a word"),
        (Answer(None, "", ""), "either", "hangs"),
        (Answer(1, "", "Traceback (most recent call last)\nKeyError: 'x'\n"), "either", "traceback: KeyError: 'x'"),
        (Answer(-9, "", "x"), "either", "exit status -9: x"),
        (Answer(1, "", f"{ERROR}a\n{ERROR}b\n"), "either", "2 lines of error with status 1: "),
        (Answer(1, "", ""), "either", "0 lines of error with status 1: "),
        (Answer(1, "", f"{ERROR}{'x' * 9999}\n"), "either", "a line of "),
    ],
)
def test_the_rule(answer: Answer, must: str, wrong: str) -> None:
    found = answer.wrong(must)
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


def test_damage_is_damage() -> None:
    chance, content = random.Random(0), bytes(range(256)) * 4
    assert sum(damaged(chance, content)[1] != content for _ in range(200)) > 190
    assert all(odd_json(chance, '{"a": {"b": [1, 2]}}')[1] != '{"a": {"b": [1, 2]}}' for _ in range(50))
    assert any(odd_csv(chance, "a,b\n1,2\n3,4\n")[1] != "a,b\n1,2\n3,4\n" for _ in range(50))
