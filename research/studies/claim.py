"""Measure the gain of the method as docs/protocol.md says: each method at its own best learning rate, over seeds.

    python research/studies/claim.py TABLE OUT --data FILE.npz [--list] [--only SETTING ...] [--methods METHOD ...]

``research/studies/cifar10_npz.py --size 16`` writes FILE.npz from CIFAR-10 or CIFAR-100. The same command resumes:
each finished run is a line of OUT/TABLE.csv, and a stopped run has a checkpoint in OUT/TABLE. ``--list`` counts runs
and steps and trains nothing. On two cores, start two tables, or two parts of one in two OUTs, with ``--threads 1``
each. ``research/studies/claim_tables.py`` prints the tables and draws the picture.

``recipes`` (a ResNet-18 without branches, CIFAR-10) searches in stages on validation data; each stage starts from the
best of the previous one:

1. block (basic, sew, ms) times surrogate (rectangle, triangle, atan), each at its best learning rate with SGD;
2. optimizer (SGD with Nesterov momentum, AdamW, Muon), each at its best learning rate;
3. decay (0.25, 0.5) times threshold (0.5, 1), at that learning rate, and I-LIF neurons at one time step;
4. weight decay, label smoothing, cutout, average of weights, one after the other; a change stays if it gains at least
   half a point. T = 4 and twice the width are measured but not chosen, since they cost more;
5. over seeds, on all training data: the winner, the best of each block and optimizer, and the starting point.

``paper`` (CIFAR-100) is the paper's table at another scale: ResNet-18 and ResNet-34, with the paper's neuron and with
that of the authors' earlier code. ``depth`` (CIFAR-10) crosses depth, block and method; ``zero-*`` have basic blocks
with zero-initialised residuals and a threshold of 0.999. ``transformer`` compares QKFormer with a ResNet-18 with
membrane shortcuts, for equally many steps and for equal time. ``ablation`` leaves out one part of a measured
initialisation (``34-without-norms``), or all but one (``34-only-norms``).
"""

import argparse
import csv
import dataclasses
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
from torch import nn

from shortcut_snn import components, nets
from shortcut_snn._utils.files import write_csv, write_text
from shortcut_snn.cli.gradients import examine_new_network
from shortcut_snn.data.loading import hash_values
from shortcut_snn.initialisation import initialisation
from shortcut_snn.initialisation.norms import Norms
from shortcut_snn.initialisation.surrogates import RULES
from shortcut_snn.recipes import Recipe, changed, parse_options, recipe_of, train
from shortcut_snn.recipes.entries import merged
from shortcut_snn.training import Interrupted, NumericsError, RunFolder, read_rows
from shortcut_snn.training.provenance import flatten_entries

Entries = Mapping[str, Any]
Row = dict[str, str]

LEAST_STEPS = 5000
GAIN = 0.005
"""Accuracy that a change has to gain in a stage of the search."""
OPTIMIZERS: dict[str, Entries] = {
    "sgd": {"kind": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    "adamw": {"kind": "adamw", "weight_decay": 0.02},
    "muon": {"kind": "muon", "momentum": 0.95, "weight_decay": 0.02},
}
RATES = {"sgd": (0.1, 0.3, 1.0), "adamw": (0.001, 0.003, 0.01), "muon": (0.003, 0.01, 0.03)}
COMMON: Entries = {
    "data": {"batch_size": 64, "augment": ["crop", "flip"]},
    "network": {"width": 16, "time_steps": 2, "classifier_std": "1/inputs"},
    "neuron": {"kind": "lif", "decay": 0.25, "surrogate": "triangle"},
    "task": {"label_smoothing": 0.1},
    "optimizer": OPTIMIZERS["sgd"],
    "training": {"precision": "bf16", "warmup": 0.1, "checkpoint_every": 200},
}
ILIF: Entries = {"neuron": {"kind": "ilif"}, "network": {"time_steps": 1}}
NEURONS: dict[str, Entries] = {
    "paper": {"decay": 0.5, "threshold": 1.0, "surrogate": {"kind": "rectangle", "width": 1.0}},
    "authors": {"decay": 0.25, "threshold": 0.5, "surrogate": {"kind": "rectangle", "width": 1.0}},
}

# The heads' initial logits are as small as those of the network, so that they do not dominate the sum.
_HEAD = {"method": {"branches": {"head": {"kind": "linear", "init_std": "1/n"}}}}
METHODS: dict[str, tuple[str | Entries, ...]] = {
    "vanilla": ("vanilla",),
    "shortcut": ("shortcut", _HEAD),
    "evolutionary": ("evolutionary", _HEAD),
    "loss_sum": ("loss_sum", _HEAD),
    "initialised": ("initialised",),
    "initialised_loss_sum": ("initialised_loss_sum", _HEAD),
    "initialised_evolutionary": ("evolutionary", _HEAD, {"method": {"initialise": True}}),
    "stages_and_steps": ("stages_and_steps", _HEAD),
}
EQUAL_TIME = "vanilla_equal_time"
"""Vanilla, for as many epochs as take as long as the slowest method."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the plan."""

    phase: Literal["tune", "final"]
    setting: str
    method: str
    recipe: Recipe

    @property
    def key(self) -> str:
        """A hash of the recipe, without entries that depend on the machine."""
        anywhere = ("data.root", "data.workers", "training.threads", "training.checkpoint_every", "loggers")
        entries = {key: value for key, value in flatten_entries(self.recipe.to_dict()) if key not in anywhere}
        # Starts with a letter, so that no reader of the table takes it for a number.
        return "r" + hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def rate(self) -> float:
        """Its learning rate."""
        return float(self.recipe.optimizer.lr)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The parts of a measured initialisation that it leaves out, by the kind of its network."""
        # The setting may have a suffix, as in 34-without-norms-muon.
        return ABLATION_SETTINGS.get(self.recipe.network.component.name.removeprefix("resnet"), ())

    def __str__(self) -> str:
        """Return the run in words."""
        training = self.recipe.training
        return f"{self.phase} {self.setting} {self.method}, lr {self.rate:g}, seed {training.seed}"


class Lab:
    """Train the runs of a table, unless its file has their results.

    Args:
        table: its name.
        options: of the command line.
        pretend: list the runs instead of training them; all have the same result.
    """

    def __init__(self, table: str, options: argparse.Namespace, pretend: bool = False) -> None:
        self.table, self.options, self.pretend = table, options, pretend
        self.file = options.out / f"{table}.csv"
        self.rows: list[Row] = []
        if self.file.is_file() and not pretend:
            with self.file.open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))
        self.planned: list[tuple[Run, int]] = []
        with np.load(options.data, allow_pickle=False) as archive:
            self.is_events = "offsets" in archive
            labels = archive["labels"][~archive["is_test"]] if self.is_events else archive["y_train"]
        self.images, self.classes = len(labels), int(labels.max()) + 1

    def check_data(self) -> None:
        """Raise ``ValueError`` if the table has runs on other data: a recipe's hash leaves the file's name out."""
        with np.load(self.options.data, allow_pickle=False) as archive:
            arrays = (archive[name] for name in sorted(archive))
            fingerprint = hash_values(array for array in arrays if array.dtype.kind in "biuf")
        path = self.options.out / self.table / "data.txt"
        if self.rows and path.is_file() and path.read_text(encoding="utf-8") != fingerprint:
            raise ValueError(f"{self.file} has runs on other data than {self.options.data}; name another folder")
        write_text(path, fingerprint)

    def steps(self, recipe: Recipe) -> int:
        """Return the optimizer steps of a run."""
        data = recipe.data
        images = min(self.images, data.train_limit or self.images)
        return math.ceil((images - round(images * data.validation)) / data.batch_size) * recipe.training.epochs

    def recipe(self, *layers: str | Entries, lr: float | None, epochs: int | None, **training: Any) -> Recipe:
        """Return a recipe on this data; ``None`` for the epochs that make at least 5,000 steps."""
        data: dict[str, Any] = {"root": str(self.options.data)}
        kind = "events_npz" if self.is_events else "npz"
        recipe = recipe_of(COMMON, {"data": {"kind": kind} | data}, *layers, {"data": data})
        training |= {} if self.options.threads is None else {"threads": self.options.threads}
        held = training.pop("validation", None)
        recipe = changed(
            recipe,
            {"training": training},
            {} if lr is None else {"optimizer": {"lr": lr}},
            {} if held is None else {"data": {"validation": held}},
            parse_options(self.options.set),
        )
        if epochs is None:
            one = self.steps(changed(recipe, {"training": {"epochs": 1}}))
            epochs = math.ceil(LEAST_STEPS / one)
        return changed(recipe, {"training": {"epochs": epochs}})

    def result(self, run: Run) -> Row:
        """Return the row of a run, trained now if the table has none of its recipe."""
        same = [row for row in self.rows if (row["phase"], row["recipe"]) == (run.phase, run.key)]
        names = {"phase": run.phase, "setting": run.setting, "method": run.method}
        for row in same:
            if all(row[key] == name for key, name in names.items()):
                return row
        if self.pretend:
            self.planned += [] if same else [(run, self.steps(run.recipe))]
            figures = {"recipe": run.key, "lr": str(run.rate), "validation_last": "0", "seconds_per_step": ""}
            row = names | figures
        else:
            # Stages share runs.
            row = same[0] | names if same else {key: _text(value) for key, value in self._train(run).items()}
        self.rows.append(row)
        if not self.pretend:
            write_csv(self.file, self.rows)
        return row

    def _train(self, run: Run) -> dict[str, Any]:
        print(run, flush=True)
        name = f"lr{run.rate:g}-seed{run.recipe.training.seed}-{run.key}"
        folder = RunFolder(self.options.out / self.table / run.phase / run.setting / run.method / name)
        row: dict[str, Any] = {
            "phase": run.phase, "setting": run.setting, "method": run.method, "lr": f"{run.rate:g}",
            "seed": run.recipe.training.seed, "epochs": run.recipe.training.epochs, "chance": 1 / self.classes,
            "precision": run.recipe.training.precision,
        }  # fmt: skip
        if not (self.options.dead or folder.is_run):
            check_alive(run.recipe)
        try:
            with left_out(run.left_out):
                result = train(run.recipe, folder.path, resume=True, log=_log)
        except NumericsError as error:
            print(f"  failed: {error}", flush=True)
            return row | {"failed": str(error).partition(";")[0], "recipe": run.key}
        metrics, timing = (read_rows(folder.table(name)) for name in ("metrics", "timing"))
        row |= {"steps": int(metrics[-1]["step"]), "train_last": metrics[-1]["train_accuracy"]}
        if result["validation_last"]:
            row |= {f"validation_{which}": result[f"validation_{which}"]["accuracy"] for which in ("last", "best")}
            row["best_epoch"] = result["best_epoch"]
        if run.phase == "final":
            row["test_last"] = result["test_last"]["accuracy"]
            row |= {"test_best": result["test_best"]["accuracy"]} if "best_epoch" in row else {}
        steps = [each["seconds_per_step"] for each in timing if each["seconds_per_step"] > 0]
        row |= {
            "seconds": round(sum(each["seconds"] for each in timing), 1),
            # The fastest epoch is disturbed least by other processes.
            "seconds_per_step": min(steps) if steps else None,
            **{name: result[name] for name in ("firing_rate", "parameters", "energy_pj")},
            **{f"gradient_ratio_{when}": result[f"gradient_ratio_{when}_epoch"] for when in ("first", "last")},
        }
        folder.checkpoint.unlink(missing_ok=True)
        return row | {"failed": "", "recipe": run.key}

    # The parts of the tables.

    def wanted(self, names: Iterable[str]) -> list[str]:
        """Return the settings that ``--only`` selects."""
        return [name for name in names if any(fnmatch(name, only) for only in self.options.only)]

    def tune(self, setting: str, method: str, entries: Entries, rates: Sequence[float] | None = None) -> Row:
        """Return the best of a method's learning rates: validation accuracy after the last epoch of a short run.

        If the best is the smallest or the largest, the next one beyond it is tried too.
        """
        kind = entries.get("optimizer", {}).get("kind", "sgd")
        rates = rates or self.options.rates or RATES[kind]
        tried = {rate: self._tuned(setting, method, entries, rate) for rate in sorted(rates)}
        for _ in range(0 if self.pretend or len(tried) < 2 else self.options.extend):
            best = max(tried, key=lambda rate: score(tried[rate]))
            if min(tried) < best < max(tried):
                break
            beyond = float(f"{best * 3 if best == max(tried) else best / 3:.1g}")
            tried[beyond] = self._tuned(setting, method, entries, beyond)
        return max(tried.values(), key=score)

    def _tuned(self, setting: str, method: str, entries: Entries, rate: float) -> Row:
        recipe = self.recipe(entries, *METHODS[method], lr=rate, epochs=self.options.tune_epochs, validation=0.1)
        return self.result(Run("tune", setting, method, recipe))

    def final(self, setting: str, method: str, entries: Entries, rate: float, seed: int, longer: float = 1) -> Row:
        """Return a row of the table: a method on all training data, ``longer`` times as long as the others."""
        layers = METHODS["vanilla" if method == EQUAL_TIME else method]
        held = self.options.validation
        recipe = self.recipe(entries, *layers, lr=rate, epochs=self.options.epochs, seed=seed, validation=held)
        recipe = changed(recipe, parse_options(self.options.set_final))
        recipe = changed(recipe, {"training": {"epochs": round(longer * recipe.training.epochs)}})
        return self.result(Run("final", setting, method, recipe))

    def compare(self, settings: Mapping[str, Entries], methods: Sequence[str]) -> None:
        """Tune each method in each setting; then all seeds of all, the first of everything first; equal time last."""
        methods = self.options.methods or methods
        optimizer, neuron = self.options.optimizer, self.options.neuron
        suffix = ("" if neuron == "lif" else f"-{neuron}") + ("" if optimizer == "sgd" else f"-{optimizer}")
        change = merged({"optimizer": OPTIMIZERS[optimizer]}, ILIF if neuron == "ilif" else {})
        settings = {f"{name}{suffix}": merged(settings[name], change) for name in self.wanted(settings)}
        names = list(settings)
        given = self.options.rates or []
        best = {
            # Of one rate there is nothing to choose.
            (name, method): {"lr": str(given[0])} if len(given) == 1 else self.tune(name, method, settings[name])
            for name in names
            for method in methods
        }
        seeds = range(self.options.first_seed, self.options.seeds)
        for seed in seeds:
            for (name, method), row in best.items():
                self.final(name, method, settings[name], float(row["lr"]), seed)
        for seed in seeds if {"vanilla"} < set(methods) else ():
            for name in names:
                longer = max(self._step_ratio(name, method) for method in methods)
                self.final(name, EQUAL_TIME, settings[name], float(best[name, "vanilla"]["lr"]), seed, longer)

    def _step_ratio(self, setting: str, method: str) -> float:
        """Return how much longer a method's step takes than the baseline's."""
        mine, base = (self._seconds_per_step(setting, name) for name in (method, "vanilla"))
        # Before there is a measurement, a guess for the number of steps. A method that failed has no time.
        return mine / base if mine and base else 1.1 if self.pretend else 1.0

    def _seconds_per_step(self, setting: str, method: str) -> float | None:
        rows = [row for row in self.rows if (row["setting"], row["method"]) == (setting, method)]
        # Of one learning rate there are no short runs.
        rows = [row for row in rows if row["phase"] == "tune"] or rows
        return min((float(row["seconds_per_step"]) for row in rows if row.get("seconds_per_step")), default=None)


def score(row: Row) -> float:
    """Return the validation accuracy, by which learning rates are chosen; -1 for a failed run."""
    return float(row.get("validation_last") or -1)


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _log(line: str) -> None:
    print(f"  {line}", flush=True)


def recipes(lab: Lab) -> None:
    """Search for a recipe, in stages."""
    first: dict[str, Entries] = {
        f"{block}-{surrogate}": {"network": {"block": block}, "neuron": {"kind": "lif", "surrogate": surrogate}}
        for block, surrogate in itertools.product(("basic", "sew", "ms"), ("rectangle", "triangle", "atan"))
    }
    first = {name: first[name] for name in lab.wanted(first)}
    found = {name: lab.tune(name, "vanilla", entries) for name, entries in first.items()}
    finals: dict[str, tuple[Entries, Row]] = {}
    for name in sorted(found, key=lambda name: score(found[name]), reverse=True):
        block = name.partition("-")[0]
        if f"best {block}" not in finals:
            finals[f"best {block}"] = first[name], found[name]
    start, base = next(iter(finals.values()))

    rivals = {name: merged(start, {"optimizer": optimizer}) for name, optimizer in OPTIMIZERS.items() if name != "sgd"}
    tuned = {name: (entries, lab.tune(f"optimizer {name}", "vanilla", entries)) for name, entries in rivals.items()}
    finals |= {f"best {name}": pair for name, pair in tuned.items()}
    best, row = max([(start, base), *tuned.values()], key=lambda pair: score(pair[1]))

    def better(name: str, change: Entries, keep: bool = True) -> None:
        nonlocal best, row
        entries = merged(best, change)
        tried = lab.tune(name, "vanilla", entries, [float(row["lr"])])
        if keep and score(tried) >= score(row) + GAIN:
            best, row = entries, tried

    for decay, threshold in itertools.product((0.25, 0.5), (1.0, 0.5)):
        if (decay, threshold) != (0.25, 1.0):
            better(f"decay {decay:g}, threshold {threshold:g}", {"neuron": {"decay": decay, "threshold": threshold}})
    better("I-LIF, T = 1", ILIF)
    weight_decay = lab.recipe(best, lr=None, epochs=1).optimizer.weight_decay
    for factor in (0.3, 3):
        better(f"weight decay {factor * weight_decay:g}", {"optimizer": {"weight_decay": factor * weight_decay}})
    better("no label smoothing", {"task": {"label_smoothing": 0.0}})
    better("cutout", {"data": {"augment": ["crop", "flip", "cutout"]}})
    better("average 0.998", {"training": {"ema_decay": 0.998}})
    better("T = 4", {"network": {"time_steps": 4}}, keep=False)
    better("twice as wide", {"network": {"width": 2 * lab.recipe(best, lr=None, epochs=1).network.width}}, keep=False)

    finals |= {"winner": (best, row)}
    if "basic-rectangle" in first:
        origin = merged(first["basic-rectangle"], {"optimizer": OPTIMIZERS["adamw"]})
        finals["basic-rectangle-adamw"] = origin, lab.tune("basic-rectangle-adamw", "vanilla", origin)
    for seed in range(lab.options.first_seed, lab.options.seeds):
        for name, (entries, chosen) in finals.items():
            lab.final(name, "vanilla", entries, float(chosen["lr"]), seed)
    if not lab.pretend:
        print(json.dumps(lab.recipe(best, lr=float(row["lr"]), epochs=None).to_dict(), indent=2), flush=True)


def paper(lab: Lab) -> None:
    """The paper's table 1, scaled down."""
    settings = {
        f"{network}-{whose}": {"network": {"kind": network, "block": "basic"}, "neuron": neuron}
        for network, (whose, neuron) in itertools.product(("resnet18", "resnet34"), NEURONS.items())
    }
    lab.compare(settings, ["vanilla", "shortcut", "evolutionary", "loss_sum", "initialised"])


class ZeroResidualResNet(nets.SpikingResNet):
    """A ResNet whose last norm of a block starts at scale 0, so that the block passes on its residual alone.

    Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017 (arXiv 1706.02677).
    """

    def _initialise(self, *options: Any) -> None:
        super()._initialise(*options)
        for name, module in self.named_modules():
            if name.endswith("spike2.norm"):
                nn.init.zeros_(module.weight)


for _name, _blocks in {"34": (3, 4, 6, 3), "110": (18, 18, 18), "1000": (166, 166, 167)}.items():
    components.network(f"resnet{_name}_zero_residual")(partial(ZeroResidualResNet, _blocks, width=16))


def check_alive(recipe: Recipe) -> None:
    """Raise an error for a network that is dead at the first step.

    Raises:
        ValueError: a layer never fires on the first batch, or no gradient reaches the first one.
    """
    layers = examine_new_network(recipe)
    silent = [layer.layer for layer in layers if not layer.rate]
    if silent:
        problem = f"{len(silent)} of {len(layers)} layers never fire at the first step, as {silent[0]}"
    elif not layers[0].norm:
        # Behind a scale of 0, as in zero-initialised residuals, a gradient of 0 is meant; at the first layer it is not.
        problem = f"the gradient of {layers[0].layer} is exactly 0 at the first step"
    else:
        return
    raise ValueError(f"{problem}: mend the network, or pass --dead to train it all the same")


def depth(lab: Lab) -> None:
    """Cross depth, block and method; the networks of three stages, of 20 and 110 layers, are half as wide."""
    lab.compare(DEPTH_SETTINGS, DEPTH_METHODS)


DEPTH_METHODS = ("vanilla", "loss_sum", "initialised")
_NETWORKS = {"18": ("resnet18", 16), "20": ("resnet20", 8), "34": ("resnet34", 16), "110": ("resnet110", 8)}
DEPTH_SETTINGS: dict[str, Entries] = {
    f"{layers}-{block}": {"network": {"kind": kind, "width": width, "block": block}}
    for (layers, (kind, width)), block in itertools.product(_NETWORKS.items(), ("basic", "sew", "ms", "plain"))
}
# A block whose branch gives 0 passes on a spike of 1, which fires only below a threshold of 1: neurons fire above it.
DEPTH_SETTINGS |= {
    f"zero-{layers}": {
        "network": {"kind": f"resnet{layers}_zero_residual", "width": width},
        "neuron": {"threshold": 0.999},
    }
    for layers, width in (("34", 16), ("110", 8), ("1000", 8))
}
DEPTH_SETTINGS["1000-basic"] = {"network": {"kind": "resnet1000_basic", "width": 8, "block": "basic"}}
components.network("resnet1000_basic")(partial(nets.SpikingResNet, (166, 166, 167), width=8))


PARTS = ("norms", "weights", "surrogates", "membranes", "fixed")
"""Scales and shifts of norms; larger weights; surrogates; detached membranes; norms that are not trained."""
ABLATION_SETTINGS: dict[str, tuple[str, ...]] = {
    f"{layers}-{which}-{part}": (part,) if which == "without" else tuple(other for other in PARTS if other != part)
    for layers, which, part in itertools.product(("34", "110"), ("without", "only"), PARTS)
    # At 34 layers all norms are trained.
    if (layers, part) != ("34", "fixed")
}
"""By setting, the parts of a measured initialisation that are left out."""
for _name in ABLATION_SETTINGS:
    # The kind of the network tells the recipes apart.
    _network: Any = nets.spiking_resnet34 if _name.startswith("34") else nets.spiking_resnet110
    components.network(f"resnet{_name}")(partial(_network))


@contextmanager
def left_out(parts: Collection[str]) -> Iterator[None]:
    """Leave parts out of each measured initialisation in the block. The others are measured without them."""
    steps = {"norms": (Norms, "set"), "weights": (Norms, "multiply"), "surrogates": (initialisation, "set_heights")}
    options: dict[str, dict[str, Any]] = {
        "surrogates": {"flat": False, "factor": None},
        "membranes": {"detach_membrane": False},
        "fixed": {"fixed_norm": False},
    }
    changes = {name: value for part in parts for name, value in options.get(part, {}).items()}
    with ExitStack() as stack:
        stack.enter_context(
            patch.dict(RULES, {key: dataclasses.replace(rule, **changes) for key, rule in RULES.items()})
        )
        for part in steps.keys() & set(parts):
            stack.enter_context(patch.object(*steps[part], lambda *args: None))
        yield


def ablation(lab: Lab) -> None:
    """Leave out one part of a measured initialisation, or all but one; the whole is a row of ``depth``."""
    settings: dict[str, Entries] = {
        name: {"network": {"kind": f"resnet{name}", "width": _NETWORKS[name.partition("-")[0]][1]}}
        for name in ABLATION_SETTINGS
    }
    lab.compare(settings, ["initialised"])


DYNAMIC_METHODS = ("vanilla", "evolutionary", "loss_sum", "initialised")
# Digits must not be flipped. N-MNIST's frames are those of three saccades.
_CAMERAS: dict[str, Entries] = {
    "dvs": {"data": {"sensor": [128, 128], "size": 32, "batch_size": 30}, "network": {"time_steps": 4}},
    "nmnist": {"data": {"sensor": [34, 34], "size": 17, "augment": ["affine"]}, "network": {"time_steps": 6}},
}


def dynamic(lab: Lab) -> None:
    """Compare the methods on recordings of event cameras: ``--only 'dvs-*'`` or ``'nmnist-*'``, as the data is."""
    settings = {
        f"{camera}-{layers}": merged(entries, {"network": {"kind": f"resnet{layers}", "width": 16, "block": "basic"}})
        for (camera, entries), layers in itertools.product(_CAMERAS.items(), ("18", "34"))
    }
    lab.compare(settings, DYNAMIC_METHODS)


def depth_recipe(setting: str, method: str, data: Path) -> Recipe:
    """Return the recipe of a row of the table ``depth``, whose setting may end in ``-ilif`` or an optimizer."""
    base = max(filter(setting.startswith, DEPTH_SETTINGS), key=len)
    return recipe_in(merged(DEPTH_SETTINGS[base], ILIF if "-ilif" in setting else {}), method, data)


def recipe_in(setting: Entries, method: str, data: Path) -> Recipe:
    """Return the recipe of a method in a setting, with an archive of images."""
    entries: Entries = {"data": {"kind": "npz", "root": str(data)}}
    return recipe_of(COMMON, entries, setting, *METHODS[method], entries)


def transformer(lab: Lab) -> None:
    """Compare a transformer with a ResNet, for equally many steps and for equal time."""
    networks: dict[str, Entries] = {"qkformer": {}, "resnet18": {"block": "ms"}}
    kinds = {"qkformer": ("sgd", "adamw"), "resnet18": ("sgd",)}
    best: dict[str, tuple[Entries, Row]] = {}
    for name in lab.wanted(networks):
        tuned = []
        for optimizer in kinds[name]:
            entries: Entries = {"network": {"kind": name, **networks[name]}, "optimizer": OPTIMIZERS[optimizer]}
            tuned.append((entries, lab.tune(f"{name}-{optimizer}", "vanilla", entries)))
        best[name] = max(tuned, key=lambda pair: score(pair[1]))
    costs = {name: float(row.get("seconds_per_step") or 1) for name, (_, row) in best.items()}
    for seed in range(lab.options.first_seed, lab.options.seeds):
        for name, (entries, row) in best.items():
            lab.final(name, "vanilla", entries, float(row["lr"]), seed)
            if costs[name] < max(costs.values()):
                lab.final(name, EQUAL_TIME, entries, float(row["lr"]), seed, max(costs.values()) / costs[name])


TABLES: dict[str, Callable[[Lab], None]] = {
    "recipes": recipes, "paper": paper, "depth": depth, "transformer": transformer, "dynamic": dynamic,
    "ablation": ablation,
}  # fmt: skip


def show_plan(planned: Sequence[tuple[Run, int]]) -> None:
    """Print how many runs and steps there are, by setting."""
    groups: dict[tuple[str, str], list[int]] = {}
    for run, steps in planned:
        groups.setdefault((run.phase, run.setting), []).append(steps)
    for (phase, setting), each in groups.items():
        print(f"{phase:5} {setting:28} {len(each):4} runs {sum(each):8} steps")
    print(f"in all {len(planned)} runs, {sum(steps for _, steps in planned)} steps")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("out", type=Path, help="folder for the table and its runs")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--list", action="store_true", help="count runs and steps, and train nothing")
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="SETTING", help="these settings, as in 'resnet18-*'"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="these methods")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="of the tables paper and depth")
    parser.add_argument("--neuron", choices=("lif", "ilif"), default="lif", help="of these tables; I-LIF at T = 1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--threads", type=int, help="threads of a run (default: all cores)")
    parser.add_argument("--epochs", type=int, help="of final runs (default: 5,000 steps)")
    parser.add_argument("--tune-epochs", type=int, default=2, help="of the short runs that choose learning rates")
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates, instead of each optimizer's own")
    parser.add_argument("--extend", type=int, default=2, help="how often to try beyond the learning rates")
    parser.add_argument("--validation", type=float, default=0.0, help="fraction held out in final runs (default: 0)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="entries to lay over every recipe")
    parser.add_argument(
        "--set-final", nargs="+", default=[], metavar="KEY=VALUE", help="over those of final runs alone"
    )
    parser.add_argument("--dead", action="store_true", help="train networks that are dead at the first step too")
    options = parser.parse_args(arguments)
    if not options.data.is_file():
        parser.error(f"--data: {options.data} does not exist")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run a table; return the exit status."""
    options = parse(arguments)
    lab = Lab(options.table, options, pretend=options.list)
    if options.list:
        TABLES[options.table](lab)
        show_plan(lab.planned)
        return 0
    try:
        with RunFolder(options.out / options.table).locked():
            lab.check_data()
            TABLES[options.table](lab)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"{stop}: the same command goes on", file=sys.stderr)
        return stop.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
