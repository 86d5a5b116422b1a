"""Training for the integers of a file: weights that are rounded, from the weights of a finished run."""

import json
import re

import pytest
import torch

from shortcut_snn.cli import main
from shortcut_snn.deploy.rounding import quantised_weights
from shortcut_snn.deploy.safetensors_files import read_network
from shortcut_snn.method import FiringRatePenalty, Method
from shortcut_snn.nets import spiking_resnet8
from shortcut_snn.neurons import LIF
from shortcut_snn.recipes import recipe_of
from shortcut_snn.training import ShortcutCallback
from shortcut_snn.training.provenance import check_resumable
from shortcut_snn.wrapping import wrap

from .small import assert_resumes_bit_identically, train

WIDE = {"network__width": 8, "data__train_limit": 600, "data__test_limit": 200}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    assert train(folder, training__epochs=5, **WIDE) == 0
    return folder


def exported_accuracy(folder, capsys):
    """Return the accuracies of 2-bit integers and of the run's network, as the command prints them."""
    capsys.readouterr()
    assert main(["export", str(folder), "--to", "integer", "--bits", "2"]) == 0
    return [float(each) for each in re.findall(r"([\d.]+) %", capsys.readouterr().out)[:2]]


def test_the_command_trains_the_integers_that_it_exports(trained, tmp_path, capsys):
    before, _ = exported_accuracy(trained, capsys)
    tuned = tmp_path / "tuned"
    assert train(tuned, "--start-from", str(trained), method__weight_bits=2, training__epochs=2, **WIDE) == 0
    after, float_after = exported_accuracy(tuned, capsys)
    assert after > before + 3
    # The run's own test, of the file's weights.
    result = json.loads((tuned / "result.json").read_text())
    assert 100 * result["test_last"]["accuracy"] == pytest.approx(float_after, abs=0.01)
    weights, _ = read_network(tuned / "network.safetensors")
    integers, about = read_network(tuned / "export" / "network-integer.safetensors")
    assert about["bits"] == 2
    values = {name: int(weight[0].unique().numel()) for name, weight in weights.items() if weight.dim() == 4}
    assert {name for name, count in values.items() if count > 3} == {"stem.conv.weight"}
    for name in ("layer1.0.conv1", "layer3.0.conv2"):
        # Two of 4 bits are in a byte; zeros are zeros.
        low = integers[f"{name}.weight"] & 15
        assert torch.equal(low == 0, weights[f"{name}.weight"][:, ::2] == 0)


def test_resumes_bit_for_bit(trained, tmp_path, monkeypatch):
    given = WIDE | {"training__start_from": trained, "method__weight_bits": 3, "data__train_limit": 100}
    given |= {"training__ema_decay": 0.9, "method__branches__keep": "true"}
    files = ("network.safetensors", "metrics.csv", "gradients.csv")
    assert_resumes_bit_identically(tmp_path, monkeypatch, *files, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network__width": 4}, "network.safetensors does not fit the network: "),
        ({"method__initialise": True}, "began without a measured initialisation: leave method.initialise out"),
        ({"training__start_from": "nowhere"}, "training.start_from: the folder nowhere does not exist"),
        ({"neuron__kind": "clif", "method__weight_bits": 4}, "method.weight_bits: stem.spike has neurons of CLIF"),
        ({"network__kind": "qkformer", "method__weight_bits": 4}, "not SpikingTransformer; leave it out"),
        ({"method__weight_bits": 1}, "method.weight_bits"),
    ],
)
def test_refusals_are_one_sentence(trained, tmp_path, capsys, given, message):
    assert train(tmp_path / "run", **(WIDE | {"training__start_from": trained} | given)) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_other_loops_refuse_to_ignore_the_bits():
    method = Method(branches=None, weight_bits=4)
    assert "weights of 4 bits" in str(method)
    network = spiking_resnet8(2, 2, width=2, make_neuron=LIF)
    model = wrap(network, network.layout([]), method, log=lambda line: None)
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(ValueError, match="only tasks round weights"):
        model.loss(model(images), torch.tensor([0, 1]), 0, 1)
    with pytest.raises(ValueError, match="rounds weights"):
        ShortcutCallback("net", method=method)


def test_other_loops_refuse_to_ignore_a_penalty():
    method = Method(penalty=FiringRatePenalty())
    network = spiking_resnet8(2, 2, width=2, make_neuron=LIF)
    model = wrap(network, network.layout("stages"), method, log=lambda line: None)
    with pytest.raises(ValueError, match="only tasks add a penalty"):
        model.loss(model(torch.rand(2, 3, 8, 8)), torch.tensor([0, 1]), 0, 1)
    with pytest.raises(ValueError, match="has a penalty"):
        ShortcutCallback("net", method=method)


def test_runs_without_the_entries_resume():
    now = recipe_of("digits", "evolutionary").to_dict()
    before = {name: dict(entries) if isinstance(entries, dict) else entries for name, entries in now.items()}
    assert before["method"].pop("weight_bits") is before["training"].pop("start_from") is None
    check_resumable(before, now, "the run")


def test_the_surrogates_of_an_initialised_run_are_kept(tmp_path, capsys):
    given = {"preset": "initialised", "training__epochs": 1}
    assert train(tmp_path / "first", **given) == 0
    assert "initialised: " in capsys.readouterr().out
    assert train(tmp_path / "second", "--start-from", str(tmp_path / "first"), **given) == 0
    assert "initialised: " not in capsys.readouterr().out
    first, second = ((tmp_path / name / "surrogates.json").read_text() for name in ("first", "second"))
    assert first == second


def test_the_classifier_of_a_wrapped_network_keeps_its_weights():
    network = spiking_resnet8(4, 2, width=16)
    with quantised_weights(wrap(network, network.layout("stages"), "loss_sum"), 3):
        assert network.classifier.weight.unique().numel() == network.classifier.weight.numel()
        assert network.layer1[0].conv1.weight[0].unique().numel() <= 7
