"""Labels of classification: which ones are accepted, and how the others are refused."""

import json
import sys

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from shortcut_snn.cli import main
from shortcut_snn.data import as_data
from shortcut_snn.training import Classification, RunFolder

from ..registered import forgetting
from .tiny import Sides, network, run, task


class Labelled(Dataset[tuple[Tensor, object]]):
    """The same images with the labels of a table."""

    classes = Sides.classes

    def __init__(self, count: int, labels: list[object]) -> None:
        self.images, self.labels = Sides(count, noise=0.0), labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, object]:
        image, side = self.images[index]
        return image, self.labels[side]


def data(labels: list[object]) -> object:
    return as_data((Labelled(40, labels), Labelled(12, labels)), batch_size=8)


PLAIN = [torch.tensor(0), torch.tensor(1)]


def test_labels_of_other_types_train_the_same(tmp_path):
    expected = run(tmp_path / "plain", task(epochs=1), data(PLAIN))
    probabilities = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    for name, labels in (("uint8", [label.to(torch.uint8) for label in PLAIN]), ("probabilities", probabilities)):
        found = run(tmp_path / name, task(epochs=1), data(labels))
        assert found["test_last"] == pytest.approx(expected["test_last"])
        assert (tmp_path / name / "confusion.csv").read_text() == (tmp_path / "plain" / "confusion.csv").read_text()


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        ([1, 2], r"int64 \[8\], 1 to 2"),
        ([-1, 0], r"int64 \[8\], -1 to 0"),
        ([0.0, 1.0], r"float64 \[8\]"),
        ([torch.tensor([0, 1]), torch.tensor([1, 0])], r"int64 \[8, 2\], 0 to 1"),
        ([torch.tensor([0.0, 1.0, 0.0])] * 2, r"float32 \[8, 3\]"),
        ([torch.tensor([1.0, 1.0])] * 2, r"float32 \[8, 2\]"),
    ],
    ids=["from 1", "below 0", "floats", "one-hot integers", "of three", "of sum 2"],
)
def test_values_that_are_not_classes_are_refused(tmp_path, labels, got):
    with pytest.raises(ValueError, match=rf"^labels of 2 classes are integers \[N\] from 0 to 1, .*; got {got}$"):
        run(tmp_path / "run", task(), data(labels))


def test_wrong_labels_in_the_command_are_one_line(tmp_path, capsys):
    (tmp_path / "pair.py").write_text(
        "import torch\nfrom dataclasses import dataclass\nfrom shortcut_snn import components\n"
        "from torch.utils.data import TensorDataset\n"
        "@components.data('pair')\n@dataclass(frozen=True)\nclass Pair:\n"
        "    batch_size: int = 4\n"
        "    def load(self, time_steps=None):\n"
        "        part = TensorDataset(torch.rand(8, 1, 8, 8), torch.arange(8) % 3 + 1)\n"
        "        part.classes = ['a', 'b', 'c']\n"
        "        return part, part\n"
    )
    given = ["train", "--import", str(tmp_path / "pair.py"), "--data.kind", "pair", "--preset", "vanilla"]
    small = ["--network.kind", "resnet8", "--network.width", "2", "--network.time_steps", "2", "--training.epochs", "1"]
    with forgetting():
        assert main([*given, *small, "--out", str(tmp_path / "run")]) == 1
    del sys.modules["pair"]
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("shortcut-snn: error: labels of 3 classes are integers [N] from 0 to 2")
    assert error.endswith("got int64 [4], 1 to 3")


def test_unlabelled_samples_count_nowhere(tmp_path):
    what = task(epochs=1)
    target = torch.tensor([0, 1, -100, -100])
    assert float(what.metrics(torch.tensor([[2.0, 0.0]] * 4), target)["accuracy"]) == 0.5
    assert int(what.count_labels(target)) == 2
    parts = Labelled(16, PLAIN), Labelled(12, [torch.tensor(-100)] * 2)
    result = run(tmp_path / "run", what, as_data(parts, batch_size=8))
    assert result["test_last"] == {"loss": None, "accuracy": None}
    text = (tmp_path / "run" / "result.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == result == RunFolder(tmp_path / "run").read_result()


@pytest.mark.parametrize("outputs", [1, 5])
def test_a_network_with_more_or_fewer_outputs_than_classes_is_refused_before_the_first_step(tmp_path, outputs):
    net = network()
    net.head = torch.nn.Linear(4 * 16, outputs)
    what = task(net=net)
    with pytest.raises(ValueError, match=f"returns {outputs} logits, but .* 2 classes: give its last layer 2 outputs"):
        run(tmp_path / "run", what, data(PLAIN))
    assert what.global_step == 0


def test_a_batch_that_is_not_a_pair_is_refused():
    with pytest.raises(ValueError, match=r"\(input, target\)"):
        task().prepare({"image": 1, "label": 2})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("described", [{"mean": [0.5, 0.5], "std": [2.0, 2.0]}, {}], ids=["mean", "no mean"])
def test_time_becomes_the_first_axis_of_event_frames(dtype, described):
    what = Classification(network(), description={"kind": "events"} | described)
    frames = torch.randint(0, 5, (3, 4, 2, 6, 6)).to(dtype)
    found, _ = what.prepare((frames, torch.zeros(3)))
    expected = frames.transpose(0, 1)
    assert torch.equal(found, (expected.float() - 0.5) / 2 if described else expected)


class Bytes(Sides):
    """Images as a camera stores them."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return (255 * image).clamp(0, 255).to(torch.uint8), label


def test_bytes_without_mean_and_std_are_refused(tmp_path):
    with pytest.raises(ValueError, match="mean and std"):
        run(tmp_path / "run", task(), as_data((Bytes(40), Bytes(12)), batch_size=8))


def test_labels_must_make_a_tensor(tmp_path):
    with pytest.raises(ValueError, match="labels must be a tensor, got a tuple"):
        run(tmp_path / "run", task(), data(["left", "right"]))
