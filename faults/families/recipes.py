"""Recipes in YAML that are damaged, hostile, or say what makes no sense."""

import random
from collections.abc import Iterator
from functools import partial

from ..bench import Bench
from ..case import Case
from ..damage import ODD, damaged

BEFORE = (220, 14)
REFUSED = {
    "itself": "data: &d {events: *d}",
    "itself, deeper": "neuron: &n {surrogate: *n}",
    "all itself": "&x {training: *x}",
    "a bomb": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join('*' + chr(97 + i) for _ in range(10))}]\n" for i in range(9)),
    "a merge": "a: &a {epochs: 1}\ntraining: {<<: *a}",
    "a key twice": "training: {epochs: 1, epochs: 2}",
    "a group twice": "training: {epochs: 1}\ntraining: {epochs: 2}",
    "base 60": "training: {epochs: 1:30}",
    "octal": "training: {epochs: 0o17}",
    "underscores": "training: {epochs: 1_000}",
    "a word for a number": "training: {epochs: one}",
    "taps without branches": "presets: [vanilla]\nmethod: {taps: blocks}",
    "an old grid": "method: {name: vanilla}",
    "python": "training: !!python/object/apply:os.system ['true']",
    "binary": "training: {epochs: !!binary aGVsbG8=}",
    "a date": "training: {epochs: 2020-01-01}",
    "two documents": "training: {epochs: 1}\n---\ntraining: {epochs: 2}",
    "deep": "[" * 5000,
    "deep groups": "training: " + "{a: " * 2000 + "1" + "}" * 2000,
    "many workers": "data: {workers: 100000}",
    "many steps": "network: {time_steps: 100000000}",
    "huge": "network: {width: 10000000}",
    "fp16 on a CPU": "training: {precision: fp16, accelerator: cpu}",
    "spawn": "training: {strategy: ddp_spawn}",
    "notebook": "training: {strategy: ddp_notebook}",
    "xla": "training: {strategy: single_xla}",
    "a strategy": "training: {strategy: deepspeed}",
    "home of nobody": "data: {kind: npz, root: ~nouser/x}",
    "cache of nobody": "data: {kind: nmnist_npz, root: /x, cache: ~nouser/x}",
    "a zero byte": "training: {epochs: 1}\x00",
    "a tab": "training:\n\t- epochs",
    "empty": "",
    "a list": "[1, 2]",
}
KEYS = (
    "data.kind", "data.batch_size", "data.validation", "data.augment", "data.workers", "data.seed", "data.root",
    "network.kind", "network.width", "network.time_steps", "network.stem", "neuron.kind", "neuron.decay",
    "neuron.threshold", "neuron.surrogate", "neuron.surrogate.width", "task.kind", "task.label_smoothing",
    "method.branches", "method.branches.taps", "method.branches.schedule", "method.objective", "method.gradient",
    "method.calibrate", "optimizer.kind", "optimizer.lr", "optimizer.weight_decay", "lr_schedule.kind",
    "training.epochs", "training.seed", "training.precision", "training.warmup", "training.clip",
    "training.accumulate", "training.average", "training.decay", "training.accelerator", "training.devices",
    "training.strategy", "training.threads", "training.checkpoint_every", "training.non_finite", "loggers", "nothing",
)  # fmt: skip


TRIED = {
    # Whether they go wrong, and at which step, is the run's to say.
    "a lambda": "method: {branches: {schedule: {initial: 1.0e+300}}}",
    "a learning rate": "optimizer: {lr: 1.0e+38, kind: sgd}",
}
SMALLER = {
    "data": "--data.train_limit=20", "epochs": "--training.epochs=1", "width": "--network.width=2",
    "time_steps": "--network.time_steps=1", "name": "--network.kind=vgg11",
}  # fmt: skip


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield what is known to be wrong, then odd values at any entry and damaged files, without end."""
    for name, text in REFUSED.items():
        yield Case(name, partial(_try, text.encode(), "refuse", True))
    for name, text in TRIED.items():
        yield Case(name, partial(_try, text.encode(), "either", True))
    while True:
        if chance.random() < 0.7:
            key, value = chance.choice(KEYS), chance.choice(ODD)
            yield Case(f"{key} = {value!r:.30}", partial(_entry, key, value))
        else:
            how, content = damaged(chance, TEXT.encode())
            yield Case(f"{how} {chance.random():.6f}", partial(_try, content, "either", False))


TEXT = """presets: [evolutionary]
data: {kind: digits, batch_size: 10, train_limit: 40, test_limit: 20}
network: {kind: resnet8, width: 2, time_steps: 1}
neuron: {surrogate: {kind: triangle}}
training: {epochs: 1, threads: 1}
"""


def _entry(key: str, value: object, bench: Bench) -> str:
    import yaml

    entries: object = value
    for part in reversed(key.split(".")):
        entries = {part: entries}
    return _try(yaml.safe_dump(entries).encode(), "either", False, bench)


def _try(content: bytes, must: str, trains: bool, bench: Bench) -> str:
    path = bench.folder / "recipe.yaml"
    path.write_bytes(content)
    out = bench.folder / "out"
    # What is understood after all is small.
    small = [word for key, word in SMALLER.items() if key.encode() not in content] if trains else []
    arguments = ["train", "--config", path, "--out", out, *small] + ([] if trains else ["--print-recipe"])
    return bench.run(*arguments, limit=60).wrong(must) or (
        "files were left" if must == "refuse" and any(path.is_file() for path in out.rglob("*")) else ""
    )
