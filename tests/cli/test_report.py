"""Pages: what they state about runs of any task, and that they need no network."""

import json
import re
import shutil
from pathlib import Path

import pytest

from shortcut_snn._utils.files import write_csv
from shortcut_snn.cli import main
from shortcut_snn.cli.report import write_page

LAYERS = [f"layer{stage}.{block}.spike{half}" for stage in (1, 2) for block in range(2) for half in (1, 2)]
SEEDS = {"vanilla": [0.5, 0.51], "evolutionary taps=blocks": [0.81, 0.83]}
ACCURACY = {"metric": "accuracy", "higher_is_better": True, "fraction": True}
ERROR = {"metric": "mean_squared_error", "higher_is_better": False, "fraction": False}


def write_run(
    folder: Path, last: float, task: dict[str, object], chance: float, branches: str = "{taps: stages}"
) -> dict:
    """Write a finished run of three epochs, as training leaves it; return its result."""
    name, epochs = task["metric"], range(1, 4)
    folder.mkdir(parents=True)
    scores = [last * share for share in (0.5, 0.8, 1.0)]
    write_csv(
        folder / "metrics.csv",
        [
            {
                "epoch": epoch, "step": 40 * epoch, "train_loss": 13.0 - epoch, "train_main_loss": 3.0 - epoch,
                f"train_{name}": scores[epoch - 1], "validation_loss": 2.5 - 0.5 * epoch,
                f"validation_{name}": scores[epoch - 1], "lambda": 0.25 - 0.1 * epoch, "lr": 0.01, "firing_rate": 0.2,
            }
            for epoch in epochs
        ],
    )  # fmt: skip
    norms = {layer: 2.0 ** -(index / 4) for index, layer in enumerate(LAYERS)}
    write_csv(folder / "gradients.csv", [{"epoch": epoch} | norms for epoch in epochs])
    layer = {"rate": 0.2, "silent": 0.05, "saturated": 0.0, "weight_rms": 1e-3, "membrane_rms": 1e-5, "norm": 1.0}
    write_csv(
        folder / "layers.csv",
        [{"epoch": epoch, "layer": each} | layer | {"gain": ""} for epoch in epochs for each in LAYERS],
    )
    write_csv(folder / "timing.csv", [{"epoch": e, "seconds": 2.0, "seconds_per_step": 0.05} for e in epochs])
    numbers = dict.fromkeys(["acs", "macs", "relu_macs", "synapses", "inputs", "relu_inputs", "spikes", "updates"], 9.0)
    priced = {"bits": 2, "energy_pj": 1e3, "relu_energy_pj": 4e3, "break_even_rate": 0.0}
    write_csv(folder / "energy.csv", [{"layer": each} | numbers | priced for each in LAYERS])
    if task["fraction"]:
        pairs = {("cat", "cat"): 60, ("cat", "dog"): 4, ("dog", "dog"): 21, ("dog", "cat"): 15}
        write_csv(folder / "confusion.csv", [{"class": a, "predicted": b, "count": n} for (a, b), n in pairs.items()])
    (folder / "surrogates.json").write_text(json.dumps({LAYERS[0]: 1.25}))
    command = ["/x/bin/shortcut-snn", "train", "--config", "my digits"]
    environment = {
        "shortcut_snn": "0.1.0",
        "command": command,
        "commit": "0123456789abcdef",
        "date": "2026-01-02 03:04",
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "recipe.yaml").write_text(
        "data: {kind: digits, augment: [crop, flip]}\nnetwork: {kind: resnet20, width: 4}\n"
        f"task: {{kind: some_task}}\nmethod: {{branches: {branches}}}\nloggers: [{{kind: tensorboard}}]\n"
    )
    result = task | {
        "task": "some_task", "test_last": {"loss": 0.75, name: last}, "test_best": {"loss": 0.5, name: last},
        "validation_last": {"loss": 0.75, name: last}, "validation_best": None, "best_epoch": 3,
        "best_chosen_on": "validation", "epochs": 3, "firing_rate": 0.2, "gradient_ratio_first_epoch": 1.5,
        "gradient_ratio_last_epoch": 0.75, "seconds_per_epoch": 2.0, "seconds_per_step": 0.05,
        "peak_bytes_per_step": 3 * 2**20, "energy_pj": 8000.0, "relu_energy_pj": 32000.0, "parameters": 71234,
        "samples": {"train": 1300, "validation": 140, "test": 100}, "chance": chance,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    return result


def write_comparison(folder: Path, task: dict[str, object], scale: float, chance: float) -> Path:
    """Write two methods with two seeds each, as ``compare`` leaves them."""
    variants = {label: {"folder": re.sub(r"[^\w=.-]", "_", label), "seeds": [0, 1]} for label in SEEDS}
    for label, variant in variants.items():
        for seed, last in enumerate(SEEDS[label]):
            run = folder / variant["folder"] / f"seed{seed}"
            write_run(run, last * scale, task, chance * scale, "null" if label == "vanilla" else "{taps: blocks}")
    (folder / "comparison.json").write_text(json.dumps(task | {"variants": variants, "tuned": {}}))
    return folder


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("pages") / "comparison", ACCURACY, 1, 0.1)


@pytest.fixture(scope="module")
def pages(comparison, tmp_path_factory):
    """A page of each kind; the metric of ``errors`` is an error, so its best value is its smallest."""
    errors = write_comparison(tmp_path_factory.mktemp("pages") / "errors", ERROR, 0.01, 1.0)
    run = comparison / "evolutionary_taps=blocks" / "seed0"
    folders = {"run": run, "comparison": comparison, "errors": errors, "error run": errors / "vanilla" / "seed1"}
    return {kind: write_page(folder) for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", ["run", "comparison", "errors"])
def test_a_page_refers_to_nothing_outside(pages, kind):
    text = pages[kind].read_text()
    fetches = (
        r'<(script|link|iframe|object|embed)\b|\b(src|href|srcset|data|action|poster)="(?!data:image/)|url\(|@import'
    )
    assert not re.search(fetches, text)
    assert not re.search(r"<[^>]*\son\w+=", text), "a script"
    assert text.count("<img src=") >= 2


def test_the_page_of_a_run(pages):
    text = pages["run"].read_text()
    for fact in ("<b>81.00 %</b>", "71,234", "1,300 / 140 / 100"):
        assert fact in text
    assert "between 72.22 % and 87.49 %" in text
    assert "<td>cat</td><td>64</td><td>93.8</td><td>dog (4)</td>" in text
    assert "<b>0:06</b>" in text, "three epochs of 2 s"
    assert "On test data the accuracy is 81.00 %; chance is 10.00 %." in text
    assert "healthy" in text
    assert "<h1>resnet20 on digits: seed0</h1>" in text
    assert "some_task" in text
    assert "<pre>shortcut-snn train --config &#39;my digits&#39;</pre>" in text
    for key in ("data.augment", "loggers.0.kind", "method.branches.taps"):
        assert f"<td>{key}</td>" in text
    assert "8 nJ (with ReLUs 32 nJ)" in text
    assert text.count("<td>never</td>") == len(LAYERS)
    for column in ("learning rate", "gradient norm at the spikes", "silent, %", "energy, µJ"):
        assert f'<th scope="col">{column}</th>' in text
    for name in ("validation_accuracy", "weight_rms", "None", "nan<"):
        assert name not in text


def test_a_metric_that_is_an_error(pages):
    text = pages["error run"].read_text()
    assert "On test data the mean squared error is 0.0051; chance is 0.01." in text
    assert "accuracy" not in text
    text = pages["errors"].read_text()
    assert "vanilla is best in mean squared error on test data: 0.0050" in text
    assert "<td>clearly worse</td>" in text
    assert "accuracy" not in text


def test_a_network_that_has_learned_nothing(tmp_path):
    # As a float32: a little above chance.
    write_run(tmp_path / "run", 0.10000000149, ACCURACY, 0.1)
    assert "the network has learned nothing." in write_page(tmp_path / "run").read_text()
    idle = write_comparison(tmp_path / "idle", ACCURACY, 0.1, 1.0)
    assert "No method is clearly better than chance" in write_page(idle).read_text()


def test_the_page_of_a_comparison(pages):
    text = pages["comparison"].read_text()
    assert (
        "evolutionary taps=blocks is best in accuracy on test data: 82.00 ± 12.71 % on average; against vanilla with "
        "the same seeds +31.50 ± 6.35: clearly better."
    ) in text
    for cell in ("vanilla", "baseline", "82.00 ± 12.71", "clearly better", "method.branches.taps"):
        assert f"{cell}</td>" in text or f"{cell}</th>" in text
    for column in ("accuracy, last epoch, %", "against vanilla, same seed", "MiB / step", "test, last epoch: accuracy"):
        assert f'<th scope="col">{column}</th>' in text
    assert "<b>82.00 ± 12.71 %</b>" in text
    # A row for each entry: an entry more does not make the table wider.
    assert '<th scope="col">entry</th><th scope="col">vanilla</th>' in text
    assert "<td>method.branches.taps</td><td>-</td><td>blocks</td>" in text
    assert "<td>method.branches</td>" not in text, "a row without a difference"
    for name in ("last_interval", "gradient_ratio", "None", "nan<"):
        assert name not in text


def test_a_method_without_a_clear_difference_is_not_called_best(tmp_path):
    folder = write_comparison(tmp_path / "c", ACCURACY, 1, 0.1)
    for label, seed, accuracy in (("vanilla", 0, 0.9), ("vanilla", 1, 0.91)):
        path = folder / label / f"seed{seed}" / "result.json"
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"test_last": {"loss": 0.1, "accuracy": accuracy}}))
    assert "vanilla is best in accuracy" in write_page(folder).read_text()
    path.write_text(json.dumps(result | {"test_last": {"loss": 0.1, "accuracy": 0.84}}))
    text = write_page(folder).read_text()
    assert "vanilla has the best mean accuracy on test data" in text
    assert "no clear difference from evolutionary taps=blocks" in text


def test_control_characters_are_shown(tmp_path):
    write_run(tmp_path / "run", 0.5, ACCURACY, 0.1)
    rows = [{"class": "a\x1b[2J", "predicted": "\u202etxt", "count": 3}]
    write_csv(tmp_path / "run" / "confusion.csv", rows)
    text = write_page(tmp_path / "run").read_text()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"a\x1b[2J" in text


def test_optional_files_may_be_missing(tmp_path):
    folder = write_comparison(tmp_path / "c", ACCURACY, 1, 0.1)
    for path in folder.glob("*/*/*"):
        if path.name not in ("recipe.yaml", "metrics.csv", "result.json"):
            path.unlink()
    for path in folder.glob("*/*/metrics.csv"):
        write_csv(path, [{"epoch": epoch, "step": 1, "train_accuracy": 0.5} for epoch in range(1, 3)])
    assert "Over epochs" in write_page(folder).read_text()
    run = folder / "vanilla" / "seed0"
    assert "50.00 %" in write_page(run).read_text()
    (run / "result.json").unlink()
    assert "Not finished: 2 epochs so far" in write_page(run).read_text()
    assert "<td>vanilla</td><td>1</td>" in write_page(folder).read_text()


def test_names_that_look_like_html_are_text(comparison, tmp_path):
    run = tmp_path / "<script>alert(1)<"
    shutil.copytree(comparison / "vanilla" / "seed0", run)
    (run / "environment.json").write_text(json.dumps({"command": "<script>", "date": "<script>"}))
    (run / "recipe.yaml").write_text("network: {kind: <script>}")
    assert "<script" not in write_page(run, tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("name", "content", "keyword"),
    [
        ("result.json", "{", "result.json"),
        ("result.json", '{"test_accuracy_last": 1}', "result.json"),
        ("layers.csv", "\xff", "layers.csv"),
        ("layers.csv", "hello\nworld\n", "epoch"),
        ("recipe.yaml", "a: [", "recipe.yaml"),
        ("comparison.json", "{}", "comparison.json"),
    ],
)
def test_damaged_files_are_named(comparison, tmp_path, name, content, keyword):
    shutil.copytree(comparison, tmp_path / "c")
    folder = tmp_path / "c" if (tmp_path / "c" / name).exists() else tmp_path / "c" / "vanilla" / "seed0"
    (folder / name).write_text(content, encoding="latin-1")
    (folder / "report.html").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=keyword) as raised:
        write_page(folder)
    assert "\n" not in str(raised.value)
    assert not (folder / "report.html").exists()


def test_the_command_writes_a_page_or_says_why_not(comparison, tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "neither a run" in capsys.readouterr().err
    assert main(["report", str(comparison), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'page.html'}\n"
    assert main(["report", str(comparison), "--out", "."]) == 1
    assert ". is a folder: name a file for the page, as in report.html\n" in capsys.readouterr().err
    shutil.copytree(comparison / "vanilla" / "seed0", tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").unlink()
    with pytest.raises(FileNotFoundError, match="epoch"):
        write_page(tmp_path / "run")
