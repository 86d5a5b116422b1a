"""Try `attach` on networks as researchers write them, and judge its answers by passes of the networks alone.

    python -m research.studies.attach_trial --csv runs/attach_trial.csv

The networks and the right answers are in `attach_networks.py`. A question is answered from these notes.
`pip install sinabs timm` adds four networks.
"""

import argparse
import contextlib
import copy
import csv
import math
import re
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.studies.attach_networks import TRIALS, Trial, call
from shortcut_snn import attach

QUESTIONS = (
    "loop", "batch_axis", "readout", "reset", "num_classes", "criterion", "step_axis", "taps", "time_axis", "extract",
)  # fmt: skip
"""Keywords by which a question can be answered."""
RIGHT = ("right in one call", "right after one question", "right after two", "more than two questions")
COLUMNS = ["trial", "repository", "path", "class", "library", "example", "labels", "questions", "verdict", "note"]
"""Of docs/results/attach-unseen.csv."""
NUMBERS, PLACES = "silently wrong (numbers)", "silently wrong (places)"


@dataclass
class Result:
    verdict: str
    notes: list[str]
    """Messages, answers and faults in their order."""
    summary: str = ""


def make(entry: Trial) -> tuple[nn.Module, Any, Tensor]:
    torch.manual_seed(0)
    net = entry.build()
    torch.manual_seed(1)
    return net, entry.example(), entry.labels()


def alter(x: Any, axis: int, sample: int, count: int) -> Any:
    """Copy a batch with other values in one sample."""
    if isinstance(x, Mapping):
        return {key: alter(value, axis, sample, count) for key, value in x.items()}
    if isinstance(x, list):
        return [value.flip(0) + 1 if index == sample else value for index, value in enumerate(x)]
    if isinstance(x, tuple):
        return tuple(alter(value, axis, sample, count) for value in x)
    if x is None:
        return None
    x = x.clone()
    part = x.select(axis if x.ndim > axis and x.shape[axis] == count else 0, sample)
    if x.dtype == torch.uint8:
        part.copy_(255 - part)
    elif x.dtype == torch.long:
        part.copy_(part - 1 if x.ndim == 1 else (part + 7) % 20)
    else:
        part.copy_(2 * part.flip(-1) + 4 * torch.rand_like(part))
    return x


def batch_size(x: Any, axis: int) -> int:
    if isinstance(x, list):
        return len(x)
    while not isinstance(x, Tensor):
        x = next(iter(x.values())) if isinstance(x, Mapping) else x[0]
    return x.shape[axis]


def describe(x: Any) -> str:
    if isinstance(x, Mapping):
        return ", ".join(f"{key} {describe(value)}" for key, value in x.items())
    if isinstance(x, list | tuple):
        return ", ".join(map(describe, x))
    return "None" if x is None else f"{list(x.shape)}".replace(" ", "")


def same(a: Tensor, b: Tensor) -> bool:
    tolerance = 1e-2 if a.dtype == torch.bfloat16 else 1e-4
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), tolerance, tolerance, equal_nan=True)


def snapshot(net: nn.Module) -> dict[str, Any]:
    state = {k: v for k, v in net.state_dict().items() if not nn.parameter.is_lazy(v)}
    return {
        "tensors": {key: value.detach().clone() for key, value in state.items()},
        "modes": [m.training for m in net.modules()],
        "hooks": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()),
        "random": torch.get_rng_state(),
    }


def untouched(net: nn.Module, before: dict[str, Any]) -> bool:
    now, old = snapshot(net), before["tensors"]
    if now["tensors"].keys() != old.keys() or now["modes"] != before["modes"]:
        return False
    tensors = [(now["tensors"][key], value) for key, value in old.items() if value.layout == torch.strided]
    return all(map(torch.equal, *zip(*tensors, (now["random"], before["random"]), strict=True)))


def width(branch: nn.Module) -> int:
    first = next(m for m in branch.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d))
    return first.in_features if isinstance(first, nn.Linear) else first.in_channels


def judge_output(entry: Trial, model: Any, x: Any, before: dict[str, Any]) -> list[str]:
    """Compare the main output with the authors', also after another batch, and alter samples."""
    faults = []
    model.eval()
    model.training = True  # Branches are computed in training mode alone; norms and dropout stay in evaluation mode.
    count = batch_size(x, entry.batch_axis)

    def run(batch: Any) -> dict[str, Tensor]:
        torch.manual_seed(3)
        output = call(model, copy.deepcopy(batch), entry.single)
        return {"main": output.main.detach()} | {f"branch {i}": b.detach() for i, b in enumerate(output.branches)}

    clone = make(entry)[0].eval()
    with contextlib.suppress(RuntimeError):  # Lazy parameters got their shapes.
        clone.load_state_dict(before["tensors"], strict=False)
    torch.manual_seed(3)
    copied = copy.deepcopy(x)
    expected = (clone(copied) if entry.single else entry.authors(clone, copied)).detach()
    outputs = run(x)
    main = outputs["main"]
    every_step = entry.method == "tet" and main.ndim == expected.ndim + 1
    rows = entry.rows + every_step
    if not same(main.mean(0) if every_step else main, expected):
        ratio = main.float().mean().item() / (expected.float().mean().item() or math.nan)
        faults.append(f"main {tuple(main.shape)} is not the authors' {tuple(expected.shape)} (means {ratio:.3g} : 1)")
    samples = [0, count - 1] if count > 1 else []
    for sample in samples:
        altered = run(alter(x, entry.batch_axis, sample, count))
        for name, old in outputs.items():
            axis = rows if old.ndim == main.ndim and old.shape[rows] == count else list(old.shape).index(count)
            pairs = zip(old.unbind(axis), altered[name].unbind(axis), strict=True)
            changed = [index for index, pair in enumerate(pairs) if not same(*pair)]
            if changed not in ([sample], []):
                faults.append(f"altering sample {sample} changes {name} at {changed}")
    again = run(x)
    if not all(same(again[name], old) for name, old in outputs.items()):
        faults.append("another result after another batch")
    return faults


def judge_training(entry: Trial, model: Any, net: nn.Module, x: Any, labels: Tensor) -> tuple[list[str], list[str]]:
    """Take the branches' gradient, and four steps; faults in numbers, and of places."""
    faults, places = [], []
    model.train()

    def run() -> Any:
        return call(model, copy.deepcopy(x), entry.single)

    named = {key.removeprefix("module."): p for key, p in net.named_parameters()}
    first = named[entry.first] if entry.first else next(p for p in named.values() if p.requires_grad and p.ndim > 1)
    if model.branches:
        total = torch.stack([branch.float().square().sum() for branch in run().branches]).sum()
        (gradient,) = torch.autograd.grad(total, first, allow_unused=True)
        if gradient is None or not gradient.any():
            places.append("no gradient of the branches at the first layer")
    elif entry.method != "tet":
        places.append("no branches")
    if entry.method == "tet":  # As docs/related-methods.md has it.
        output = run()
        steps = torch.stack([F.cross_entropy(step, labels) for step in output.main])
        wanted = 0.999 * steps.mean() + 0.001 * (output.main - 1).square().mean()
        if not math.isclose(model.loss(output, labels, 0, 100).item(), wanted.item(), rel_tol=1e-6):
            faults.append("the loss is not TET's")
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for step in range(4):
        loss = model.loss(run(), labels, step, 100)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    if not all(map(math.isfinite, losses)):
        faults.append(f"losses {losses}")
    elif min(losses[1:]) >= losses[0]:
        print(f"    the loss does not fall: {losses[0]:.4g} to {losses[-1]:.4g}")
    return faults, places


def judge(
    entry: Trial, model: Any, net: nn.Module, x: Any, labels: Tensor, before: dict[str, Any], summary: str
) -> tuple[list[str], list[str]]:
    """Faults in numbers, and faults of places."""
    faults, places = [], []
    if not untouched(net, before):
        faults.append("the network, its modes or the random numbers are not as before")
    for name, branch in zip(model.taps.names, model.branches, strict=True):
        widths = [value for pattern, value in entry.places.items() if re.fullmatch(pattern, name)]
        if not widths:
            places.append(f"a branch at {name}")
        elif width(branch) not in widths:
            faults.append(f"the branch at {name} has width {width(branch)}, not {widths[0]}")
    if model.layout.batch_axis != entry.batch_axis:
        faults.append(f"batch axis {model.layout.batch_axis}, not {entry.batch_axis}")
    if f"loop={entry.loop!r}," not in summary:
        faults.append(f"the time loop is not {entry.loop!r}")
    printed = re.search(r"^loss: +(.*)$", summary, re.M)
    if not printed or (entry.loss != "custom" and entry.loss not in printed[1]):
        faults.append(f"loss: {printed[1] if printed else 'not printed'}, not {entry.loss}")
    faults += judge_output(entry, model, x, before)
    trained = judge_training(entry, model, net, x, labels)
    modes = [m.training for m in net.modules()]
    stripped, after = model.strip(check=copy.deepcopy(x)), snapshot(net)
    if stripped is not net or after["hooks"] != before["hooks"] or after["modes"] != modes:
        faults.append("strip leaves another network")
    if after["tensors"].keys() != before["tensors"].keys():
        faults.append("strip leaves other keys")
    return faults + trained[0], places + trained[1]


def sensible(entry: Trial, net: nn.Module) -> list[str]:
    """The first module of each place."""
    names: dict[str, str] = {}
    for name, _ in net.named_modules():
        for pattern in entry.places:
            if re.fullmatch(pattern, name):
                names.setdefault(pattern, name)
    return list(names.values())[:2]


def find_answers(entry: Trial, net: nn.Module, message: str) -> dict[str, Any]:
    known = {"loop": entry.loop, "batch_axis": entry.batch_axis, "taps": sensible(entry, net), **entry.answers}
    answers = {key: known[key] for key in QUESTIONS if key in known and re.search(rf"\b{key}\b ?=", message)}
    if "time_axis" in answers:  # Offered as the alternative.
        answers.pop("taps", None)
    return answers


def attempt(entry: Trial) -> Result:
    """Call `attach`, answer its questions from the notes, and judge what it returns."""
    passed: dict[str, Any] = {}
    advised = False
    notes: list[str] = []
    for questions in range(4):
        net, x, labels = make(entry)
        if advised and entry.advised:
            net, x = entry.advised(net, x)
        before, given, lines = snapshot(net), copy.deepcopy(x), list[str]()
        try:
            model = attach(net, example=x, labels=labels, method=entry.method, log=lines.append, **passed)
        except Exception as error:
            message = re.sub(" at 0x[0-9a-f]+", "", f"{type(error).__name__}: {error}")
            notes.append(message)
            if not untouched(net, before):
                notes.append("the network was touched")
            raised_by_us = "shortcut_snn" in traceback.extract_tb(error.__traceback__)[-1].filename
            if not raised_by_us or not isinstance(error, ValueError | TypeError):
                return Result("crash", notes, traceback.format_exc(limit=-3))
            if entry.refuse:
                return Result("refused rightly", notes)
            answers = find_answers(entry, net, message)
            if answers.keys() <= passed.keys():
                if advised or not entry.advised:
                    return Result("refused wrongly", notes)
                advised = True
                notes.append("-> passed the module or the example of the message")
            else:
                notes.append(f"-> answered {', '.join(key for key in answers if key not in passed)}")
                passed |= answers
            continue
        summary = "\n".join(lines)
        try:
            faults, places = judge(entry, model, net, given, labels, before, summary)
        except Exception as error:
            notes.append(f"{type(error).__name__}: {error}")
            return Result("fails at the first step", notes, summary + "\n" + traceback.format_exc(limit=-4))
        if repr(given) != repr(x):
            faults.append("the example was changed")
        if entry.refuse:
            faults.append(f"returns, but {entry.refuse}")
        verdict = NUMBERS if faults else PLACES if places else RIGHT[questions]
        return Result(verdict, [*notes, *faults, *places], summary)
    return Result(RIGHT[-1], notes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks to try; all by default")
    parser.add_argument("--csv", type=Path, help="a table of verdicts")
    parser.add_argument("--verbose", action="store_true", help="print each summary and each question")
    options = parser.parse_args(arguments)
    rows = []
    for name in options.names or TRIALS:
        with warnings.catch_warnings(action="ignore"):
            result = attempt(TRIALS[name])
        print(f"{name:26}{result.verdict}", flush=True)
        if options.verbose:
            print("    " + "\n".join([*result.notes, result.summary]).replace("\n", "\n    "), flush=True)
        _, x, labels = make(TRIALS[name])
        questions = sum(note.startswith("->") for note in result.notes)
        notes = " | ".join(note if len(note) < 200 else note[:197] + "..." for note in result.notes).replace("\n", " ")
        where = ["7", "", "research/studies/attach_networks.py", name, TRIALS[name].library]
        rows.append([*where, describe(x), describe(labels), questions, result.verdict, notes])
    for verdict, count in Counter(row[-2] for row in rows).most_common():
        print(f"{count:4} {verdict}")
    if options.csv:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        with options.csv.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
