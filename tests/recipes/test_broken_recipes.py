"""Recipes from strangers: damaged or malicious, each one clear error, no code run.

What is damaged at random may be whole all the same: a recipe with another number is a recipe.
"""

import os
from collections.abc import Iterator

from shortcut_snn.cli import main
from shortcut_snn.recipes.entries import built_in, read_recipe

from ..deploy.test_untrusted import mutated, refused


def broken_recipes() -> Iterator[str]:
    text = built_in()["digits"].read_text()
    for seed in range(40):
        yield mutated(text.encode(), seed).decode("latin-1")
    lines = text.splitlines()
    for i in range(len(lines)):
        yield "\n".join(lines[:i] + lines[i + 1 :])
        yield "\n".join([*lines[:i], " " + lines[i], *lines[i + 1 :]])
    victim = "!!python/object/apply:os.system ['touch victim']"
    yield f"training: {victim}"
    yield f"network:\n  kind: {victim}"
    yield "network: !!python/name:os.system"
    yield "training: " + "[" * 20_000
    yield "training: {epochs: 2020-99-99}"
    yield "data: /etc/passwd"
    yield "network: recipe.yaml"
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    yield bomb
    yield "\x00"
    yield "- training"
    yield "training:\n  epochs: .nan"
    yield "training:\n  seed: 99999999999999999999999"


def test_broken_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    outcomes = []
    for text in broken_recipes():
        path.write_text(text, encoding="utf-8")
        outcomes.append(refused(lambda: read_recipe(path), ""))
        assert os.listdir(tmp_path) == ["recipe.yaml"], text
    assert len(outcomes) > 80
    assert sum(each is not None for each in outcomes) > len(outcomes) // 2


def test_the_command_says_one_line_of_broken_recipes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    for text in list(broken_recipes())[-16:]:
        path.write_text(text, encoding="utf-8")
        status = main(["gradients", "--config", str(path), "--out", str(tmp_path / "out"), "--data.kind", "nothing"])
        said = capsys.readouterr().err
        assert status == 2, text
        assert said.startswith("shortcut-snn: error: "), said
        assert said.count("\n") == 1, said
        assert os.listdir(tmp_path) == ["recipe.yaml"], text
