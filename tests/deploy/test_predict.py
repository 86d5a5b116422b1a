"""``shortcut-snn predict`` on files, with networks of the package, of runs and of exports."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from shortcut_snn import load
from shortcut_snn.cli import main
from shortcut_snn.deploy import card, export_network, predict
from shortcut_snn.recipes import open_run

from ..data.events.recordings import atis_bin, long_recordings, nmnist, write, write_folder
from ..training.small import error_line, train


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image of each digit, as PNG files of 8 x 8 grey levels."""
    folder = tmp_path_factory.mktemp("digits")
    for digit, pixels in enumerate(load_digits().images[:10]):
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(folder / f"{digit}.png")
    return folder


def test_a_digit_by_a_network_of_the_package(digits, capsys):
    assert main(["predict", "digits-resnet18", str(digits / "3.png")]) == 0
    heading, _, row = capsys.readouterr().out.splitlines()
    names = [name.strip() for name in heading.strip("|").split("|")]
    assert names == ["file", "class", "probability", "spikes", "energy", "with memory"]
    file, name, probability, spikes, *energies = [cell.strip() for cell in row.strip("|").split("|")]
    assert (file, name) == (str(digits / "3.png"), "3")
    assert 50 < float(probability.removesuffix(" %")) <= 100
    assert 1000 < int(spikes.replace(",", "")) < 100_000
    measured = card("digits-resnet18").energy
    for energy, key in zip(energies, ("energy_pj", "total_energy_pj"), strict=True):
        # The card has the mean over many inputs.
        number, unit = energy.split()
        assert unit == "µJ"
        assert float(number) == pytest.approx(measured[key] / 1e6, rel=0.2)


def test_a_network_in_bfloat16(digits):
    files = [digits / "3.png"]
    (exact,), (rounded,) = (predict(load("digits-resnet18", precision), files) for precision in ("float32", "bfloat16"))
    assert rounded.label == exact.label
    assert rounded.energy_pj == pytest.approx(exact.energy_pj, rel=0.1)


def test_a_folder_as_json(digits, capsys):
    assert main(["predict", "digits-resnet18", str(digits), "--json", "--top", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["class"] for each in found] == [str(digit) for digit in range(10)]
    network = load("digits-resnet18")
    for each in found:
        pixels = torch.from_numpy(np.array(Image.open(each["file"])))
        expected = network.logits(pixels[None]).softmax(-1)[0].topk(3)
        assert [one["probability"] for one in each["top"]] == pytest.approx(expected.values.tolist())
        assert [one["class"] for one in each["top"]] == [network.classes[label] for label in expected.indices]
        assert each["probability"] == each["top"][0]["probability"]
        assert each["label"] == int(each["class"])


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(digits, tmp_path, capsys):
    shutil.copy(digits / "5.png", tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    assert main(["predict", "digits-resnet18", str(tmp_path), str(tmp_path / "gone.png")]) == 1
    said = capsys.readouterr()
    assert said.out.count(".png") == 1
    assert "5.png" in said.out
    first, second = said.err.splitlines()
    assert first.startswith(f"shortcut-snn: {tmp_path / 'broken.png'} is damaged")
    assert second == f"shortcut-snn: {tmp_path / 'gone.png'}: the file does not exist"
    with pytest.raises(ValueError, match=r"broken\.png is damaged"):
        list(predict(load("digits-resnet18"), [tmp_path]))


def test_a_run_on_images_as_it_was_evaluated(trained, tmp_path):
    task, data, _ = open_run(trained)
    images, labels = data.test.fetch(range(25)), data.test.labels[:25]
    for number, pixels in enumerate(images[:, 0].numpy()):
        Image.fromarray(pixels).save(tmp_path / f"{number:03}.png")
    task.eval()
    with torch.no_grad():
        expected = task.model(task.prepare_batch((images, labels))[0]).main.softmax(-1).max(-1)
    found = list(predict(load(trained), [tmp_path]))
    assert [each.label for each in found] == expected.indices.tolist()
    assert [each.top[0][1] for each in found] == pytest.approx(expected.values.tolist(), abs=1e-4)


def test_a_run_on_recordings(trained_on_events, tmp_path, capsys):
    samples, _ = nmnist(80)
    for number in (60, 61, 62):
        write(tmp_path / f"{number}.bin", atis_bin(samples[number]))
    expected = load(trained_on_events).predict(open_run(trained_on_events)[1].test.fetch([0, 1, 2]))
    for folder in (trained_on_events, tmp_path / "export"):
        if folder.name == "export":
            assert main(["export", str(trained_on_events), "--to", "safetensors", "--out", str(folder)]) == 0
            capsys.readouterr()
        assert main(["predict", str(folder), str(tmp_path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [Path(each["file"]).name for each in found] == ["60.bin", "61.bin", "62.bin"]
        assert [each["label"] for each in found] == expected.tolist()


def test_pieces_of_a_long_recording_vote(tmp_path, capsys):
    write_folder(tmp_path / "set", long_recordings(3))
    options = {"kind": "events", "root": tmp_path / "set", "sensor": "[128, 128]", "size": 16, "cut_events": 900,
               "cache": tmp_path / "cache", "validation": 0}  # fmt: skip
    options = {f"data__{name}": value for name, value in options.items()}
    assert train(tmp_path / "run", **options, network__time_steps=3, training__epochs=1) == 0
    network, test = load(tmp_path / "run"), open_run(tmp_path / "run")[1].test
    name = test.names()[0].split("#")[0]
    members = [position for position, piece in enumerate(test.names()) if piece.startswith(name)]
    expected = network.logits(test.fetch(members)).softmax(-1)
    (found,) = predict(network, [tmp_path / "set" / name], top=2)
    assert found.samples == len(members) > 16
    for (label, probability), votes in zip(found.top, found.votes, strict=True):
        index = network.classes.index(label)
        assert probability == pytest.approx(float(expected.mean(0)[index]), abs=1e-5)
        assert votes == int((expected.argmax(-1) == index).sum())
    assert sum(found.votes) == len(members)
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "set" / name)]) == 0
    heading, _, row = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in heading.split("|")][3:5] == ["probability", "votes"]
    assert f"{found.votes[0]} of {len(members)}" in row
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "set" / name), "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert (said["samples"], said["votes"]) == (len(members), found.votes[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits-resnet81", "x.png"], "no network 'digits-resnet81' (did you mean digits-resnet18?)"),
        (["digits-resnet18", "x.png", "--top", "0"], "--top: must be at least 1, got 0"),
        (["digits-resnet18"], "the following arguments are required: FILE"),
        ([".", "x.png"], "holds no network.safetensors"),
    ],
)
def test_bad_arguments(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", *words]) == (2 if "--top" in words or len(words) == 1 else 1)
    assert said in error_line(capsys)


def test_a_network_that_is_no_classifier(digits, monkeypatch):
    network = load("digits-resnet18")
    monkeypatch.setattr(network, "logits", lambda batch: torch.zeros(1, 10, 8, 8))
    with pytest.raises(ValueError, match=r"\[1, 10, 8, 8\]"):
        list(predict(network, [digits]))


def test_a_class_of_a_million_letters_is_cut(digits, tmp_path, capsys):
    network = load("digits-resnet18")
    data = network.spec.data | {"classes": [digit * 10**6 for digit in network.classes]}
    images, spec = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), replace(network.spec, data=data)
    export_network(network.spec.build(), spec, images, "safetensors", tmp_path)
    assert main(["predict", str(tmp_path), str(digits / "3.png")]) == 0
    assert len(capsys.readouterr().out) < 5000
