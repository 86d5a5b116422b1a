"""What no machine carries is refused in a sentence, before it is begun: a recipe or a file may come from a stranger."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image
from safetensors.torch import save_file

from shortcut_snn import load
from shortcut_snn.cli import main
from shortcut_snn.deploy import TRAINED, read_network
from shortcut_snn.diagnosis.memory import PeakMemory
from shortcut_snn.nets import size

from ..training.small import options, train

SMALL = {
    "training__epochs": 1, "data__train_limit": 20, "data__test_limit": 10, "network__time_steps": 1,
    "data__batch_size": 10, "network__width": 2,
}  # fmt: skip


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str], str], None]:
    def check(arguments: list[str], said: str) -> None:
        statuses: list[int] = []
        peak = PeakMemory("cpu").during(lambda: statuses.append(main(arguments)))
        error = capsys.readouterr().err
        assert statuses == [2], error
        assert said in error
        assert error.count("\n") == 1, error
        assert peak < 500 * 2**20

    return check


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network__time_steps": 10**8}, "network.time_steps: for 100,000,000 steps of 10 images at once: at least"),
        ({"network__time_steps": 10**18, "neuron__kind": "psn", "neuron__time_steps": 10**18}, "network.time_steps"),
        ({"network__width": 10**6}, "network.width: at least"),
        ({"network__kind": "vgg11", "network__width": 10**15}, "network.width: at least"),
        ({"network__width": 10**30}, "network.width should be a number of at most 64 bits"),
        ({"network__kind": "qkformer", "network__blocks": f"[{10**12}]"}, "network.blocks"),
        ({"data__workers": 10**5}, "data.workers: 100,000 loader processes are too many"),
        ({"training__devices": 4000, "training__strategy": "ddp"}, "training.devices: 4,000 processes are too many"),
    ],
    ids=str,
)
def test_a_recipe(tmp_path: Path, refused: Callable[[list[str], str], None], changes: dict[str, object], said: str):
    refused(["train", "--out", str(tmp_path / "run"), *options(**SMALL | changes)], said)
    assert not (tmp_path / "run" / "checkpoint.ckpt").exists()


def test_ten_thousand_time_steps(tmp_path: Path, refused: Callable[[list[str], str], None], monkeypatch) -> None:
    """As much of a usual network as a machine of 8 GiB has, many times over."""
    monkeypatch.setattr(size, "memory", lambda: 8 * 2**30)
    given = ["--config", "digits", "--network.time_steps", "10000"]
    for command in ("train", "gradients"):
        refused([command, "--out", str(tmp_path / "run"), *given], "network.time_steps: for 10,000 steps of 64 images")


def test_a_batch_is_no_larger_than_the_data(tmp_path: Path) -> None:
    assert train(tmp_path / "run", **SMALL | {"data__batch_size": 10**12}) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(folder, **SMALL) == 0
    return folder


@pytest.mark.parametrize("key", ["time_steps", "width"])
def test_a_run(run: Path, refused: Callable[[list[str], str], None], key: str) -> None:
    before = (run / "recipe.yaml").read_text()
    recipe = yaml.safe_load(before)
    recipe["network"][key] = 10**7
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for arguments in (["evaluate"], ["energy"], ["export", "--to", "onnx"]):
        refused([arguments[0], str(run), *arguments[1:]], f"network.{key}: ")
    (run / "recipe.yaml").write_text(before)


def test_a_network(tmp_path: Path, refused: Callable[[list[str], str], None], monkeypatch) -> None:
    path, image = tmp_path / "network.safetensors", tmp_path / "image.png"
    state, about = read_network(TRAINED / "digits-resnet18" / path.name)
    about["network"]["time_steps"] = 10_000
    save_file(state, path, metadata={"about": json.dumps(about)})
    Image.new("L", (8, 8)).save(image)
    # What may fit is looked at in no time, however many the steps are.
    assert load(path).spec.time_steps == 10_000
    about["data"]["image_size"] = [8192, 8192]
    save_file(state, path, metadata={"about": json.dumps(about)})
    refused(["predict", str(path), str(image)], "network.safetensors: network.time_steps: for 10,000 steps of 1 image")
