"""Run folders whose files have been damaged, edited or removed, given to every command that takes one."""

import random
from collections.abc import Iterator
from functools import partial

from ..bench import NETWORKS, Bench, differences, state
from ..case import Case
from ..damage import damaged, odd_csv, odd_json

BEFORE = (194, 39)
JSON = ("result.json", "environment.json", "surrogates.json", "checksums.json")
TABLES = ("metrics.csv", "layers.csv", "gradients.csv", "energy.csv", "timing.csv")
OTHERS = ("recipe.yaml", *NETWORKS)
COMMANDS = ("evaluate", "report", "resume", "export", "energy")


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield a damaged file and a command, without end."""
    while True:
        run = chance.choice(("whole", "whole calibrated", "half calibrated"))
        name = chance.choice((*JSON, *TABLES, *OTHERS))
        command = chance.choice(COMMANDS)
        seed = chance.randrange(2**32)
        yield Case(f"{run} {name} {command} {seed}", partial(_try, run, name, command, seed))


def _try(run: str, name: str, command: str, seed: int, bench: Bench) -> str:
    chance, folder = random.Random(seed), bench.copy(run)
    path = folder / name
    how = "not there"
    if path.is_file():
        if chance.random() < 0.1:
            path.unlink()
            how = "removed"
        elif name in JSON and chance.random() < 0.6:
            how, text = odd_json(chance, path.read_text())
            path.write_text(text)
        elif name in TABLES and chance.random() < 0.6:
            how, text = odd_csv(chance, path.read_text())
            path.write_text(text)
        else:
            how, content = damaged(chance, path.read_bytes())
            path.write_bytes(content)
    before = state(folder)
    changed = path.is_file() and path.read_bytes() != (bench.template(run) / name).read_bytes()
    if command == "resume":
        answer = bench.resume(folder)
        found = answer.wrong()
        sealed = name in ("recipe.yaml", "result.json", "surrogates.json", "environment.json") and changed
        if not found and answer.status == 0 and sealed:
            found = "gone on with"
        if not found and answer.status and state(folder) != before:
            found = f"refused ({answer.line[:80]}), but files were touched"
        if not found and answer.status == 0 and run.startswith("half"):
            whole = bench.template("whole calibrated")
            found = f"ends otherwise: {different}" if (different := differences(folder, whole)) else ""
    elif command == "export":
        answer = bench.run("export", folder, "--to", "safetensors")
        left = list((folder / "export").glob("*")) if (folder / "export").is_dir() else []
        found = answer.wrong() or (f"half an export is left: {left}" if answer.status and left else "")
    else:
        answer = bench.run(command, folder)
        found = answer.wrong()
        if not found and answer.status == 0 and command == "evaluate" and name == NETWORKS[0] and changed:
            found = "a damaged network was evaluated"
    return f"{how}: {found}" if found else ""
