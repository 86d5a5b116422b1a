"""Checkpoints that have been damaged or edited: refused before anything is touched, or gone on with to the same end."""

import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..bench import Bench, differences, state
from ..case import Case
from ..damage import ODD, damaged

BEFORE = (121, 49)


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield a damaged or edited checkpoint, with its hash, without any, or with a hash that has been made to fit."""
    while True:
        edited, hashed, seed = (
            chance.random() < 0.6,
            chance.choice(("kept", "removed", "fits")),
            chance.randrange(2**32),
        )
        yield Case(f"edited={edited} hash {hashed} {seed}", partial(_try, edited, hashed, seed))


def _try(edited: bool, hashed: str, seed: int, bench: Bench) -> str:
    chance, folder = random.Random(seed), bench.copy("half")
    path = folder / "checkpoint.ckpt"
    if edited:
        how, bad = _edit(chance, path)
    else:
        how, content = damaged(chance, path.read_bytes())
        bad = content != path.read_bytes()
        path.write_bytes(content)
    sums = folder / "checksums.json"
    if sums.is_file() and hashed == "removed":
        sums.unlink()
    elif sums.is_file() and hashed == "fits":
        from shortcut_snn.training.checksums import digest

        sums.write_text(json.dumps(json.loads(sums.read_text()) | {path.name: [digest(path)]}))
    before = state(folder)
    answer = bench.resume(folder)
    found = answer.wrong("refuse" if bad and hashed == "kept" else "either")
    # Numbers that went wrong in a step were looked at in time.
    if not found and answer.status and "not finite" not in answer.line and state(folder) != before:
        touched = [name for name, content in state(folder).items() if before.get(name) != content]
        found = f"refused ({answer.line[:80]}), but {touched} were touched"
    # What a person edits on purpose may end otherwise; what the disk has done may not.
    if not found and answer.status == 0 and not edited and hashed != "fits":
        found = f"ends otherwise: {different}" if (different := differences(folder, bench.template("whole"))) else ""
    return f"{how}: {found}" if found else ""


def _edit(chance: random.Random, path: Path) -> tuple[str, bool]:
    import torch

    content = torch.load(path, weights_only=True)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any, depth: int) -> None:
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in list(keys)[:20]:
            places.append((value, key))
            if depth < 5:
                walk(value[key], depth + 1)

    walk(content, 0)
    # As often at the top as anywhere else.
    owner, key = chance.choice(places) if chance.random() < 0.5 else (content, chance.choice(list(content)))
    if chance.random() < 0.5:
        del owner[key]
        how = f"without {key}"
    else:
        value = chance.choice((*ODD[:-1], torch.zeros(3), torch.full((2, 2), float("nan"))))
        owner[key] = value
        how = f"{key} = {value!r:.20}"
    torch.save(content, path)
    return how, True
