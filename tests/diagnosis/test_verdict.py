"""Verdicts on networks made to vanish, explode, die; tips that help when measured again."""

import dataclasses
import math
import re

import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model import spiking_resnet
from torch import nn
from torch.nn import functional as F

from shortcut_snn import Shortcut, components, nets
from shortcut_snn.diagnosis.calibration import calibrate
from shortcut_snn.diagnosis.diagnosis import diagnose
from shortcut_snn.diagnosis.layers import LayerReport, examine
from shortcut_snn.diagnosis.remedies import of_neurons
from shortcut_snn.diagnosis.tips import Setup
from shortcut_snn.diagnosis.verdict import judge
from shortcut_snn.neurons import IF, ATan, Rectangle, Triangle

from .helpers import batch, network


def made(*norms: float, **entries: float) -> list[LayerReport]:
    """Layers with these gradients, input first."""
    layer = LayerReport("", 0.2, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0)
    return [dataclasses.replace(layer, layer=f"l{i}", norm=norm, **entries) for i, norm in enumerate(norms)]


def test_where_it_leaves_the_bounds():
    verdict = judge(made(400.0, 30.0, 9.0, 2.0, 1.0))
    assert (verdict.kind, verdict.layer, verdict.factor) == ("explodes", "l1", 400.0)
    assert verdict.sentence == (
        "explodes: from l4 back to l0 the gradient grows 400 times (4.47 times a layer), past 10 times from l1 on"
    )
    assert judge(made(1e-4, 0.01, 0.5, 1.0)).kind == "vanishes"
    assert judge(made(1e-4, 0.01, 0.5, 1.0)).layer == "l1"
    assert judge(made(9.0, 100.0, 1.0)).kind == "healthy"


@pytest.mark.parametrize(
    ("layers", "kind", "layer"),
    [
        (made(1.0, 0.0, 1.0), "no gradient", "l1"),
        (made(1.0, math.nan, 1.0), "no gradient", "l1"),
        (made(0.0, 0.0, 0.0), "no gradient", "l2"),
        (made(1.0, 1.0, silent=1.0), "silent", "l0"),
        (made(1.0, 1.0, saturated=0.995), "saturated", "l0"),
    ],
)
def test_dead(layers, kind, layer):
    verdict = judge(layers)
    assert (verdict.kind, verdict.layer) == (kind, layer)
    assert verdict.sentence.startswith(f"dead from {layer}")


@pytest.mark.parametrize(
    ("surrogate", "kind"), [(Rectangle(1.0), "explodes"), (Rectangle(4.0), "vanishes"), (Triangle(), "healthy")]
)
def test_a_real_network(surrogate, kind):
    net = network(surrogate)
    batches = [batch(), batch()]
    found = diagnose(net, batches)
    assert found.verdict.kind == kind
    assert bool(found.tips) == (kind != "healthy")
    texts = [tip.text for tip in found.tips]
    if found.tips:
        assert "calibrate" in texts[0]
        assert any("surrogate width" in text for text in texts)
        assert any("branches" in text for text in texts) == (kind == "vanishes"), "they add nothing to what explodes"
        # Done by hand, it has the figure that was told.
        calibrate(net, batches[:1])
        assert examine(net, batches).factors[0] == pytest.approx(found.tips[0].after.factor, rel=1e-3)
        assert str(found).count("\n") == 1 + len(found.tips)
    for tip in found.tips:
        assert tip.after.distance <= tip.before.distance / 2


def test_dead_neurons_live_again():
    found = diagnose(network(ATan(), threshold=20.0), [batch()])
    assert found.verdict.kind == "silent"
    assert found.verdict.layer == "stem.spike"
    assert [tip.text.split()[0] for tip in found.tips] == ["threshold"]


@pytest.mark.parametrize("kind", ["triangle", "atan", "rectangle", "sigmoid", "tanh"])
def test_the_options_in_brackets_give_what_was_measured(kind):
    surrogate = components.surrogate.make(kind)
    setup = Setup(network(surrogate), F.cross_entropy, None)
    (remedy,) = [each for each in of_neurons(setup, [batch()]) if each.text.startswith("surrogate width 1.25 ")]
    options = re.findall(r"--neuron\.surrogate\.(\w+) (\S+?)[ )]", remedy.text)
    given = components.surrogate.make(kind, **{name: float(value) for name, value in options})
    resized, v = surrogate.resized(1.25), torch.linspace(-2, 2, 81)
    torch.testing.assert_close(given(v), resized(v), rtol=1e-4, atol=1e-5)


def test_nothing_helps_is_said():
    net = network(Rectangle(), name="resnet18")
    torch.nn.init.zeros_(net.classifier.weight)
    found = diagnose(net, [batch()])
    assert found.verdict.kind == "no gradient"
    assert str(found).endswith("none helps")


def test_diagnosing_changes_nothing():
    net = network(Rectangle(4.0))
    before = [module.surrogate for module in net.modules() if hasattr(module, "surrogate")]
    state = {key: value.clone() for key, value in net.state_dict().items()}
    diagnose(net, [batch()])
    assert [module.surrogate for module in net.modules() if hasattr(module, "surrogate")] == before
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_a_spikingjelly_network_gets_tips_too():
    net = spiking_resnet.spiking_resnet18(
        spiking_neuron=neuron.LIFNode, surrogate_function=surrogate.ATan(alpha=0.2), num_classes=10
    )
    functional.set_step_mode(net, "m")
    batches = [(torch.rand(2, 4, 3, 32, 32), torch.tensor([1, 2, 3, 4]))]
    found = diagnose(net, batches, lambda y, labels: F.cross_entropy(y.mean(0), labels))
    assert found.verdict.kind == "vanishes"
    assert found.tips[0].text.startswith("calibrate each layer's surrogate")
    assert any(tip.text.startswith("alpha ") for tip in found.tips)
    assert all(m.surrogate_function.alpha == 0.2 for m in net.modules() if hasattr(m, "surrogate_function"))


def test_with_branches_the_network_inside_is_judged():
    net = network(Rectangle(4.0))
    model = Shortcut(net, "blocks", num_classes=10)
    alone = examine(net, [one := batch()])
    both = examine(model, [one], lambda out, y: F.cross_entropy(out.main + sum(out.branches), y), network=net)
    assert both.factors[0] > 10 * alone.factors[0]


def test_a_stepwise_spikingjelly_network_gets_branches_too():
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for number, (inputs, outputs) in enumerate([(4, 16), *[(16, 16)] * 8, (16, 10)], start=1):
                lif = neuron.LIFNode(surrogate_function=surrogate.ATan(alpha=0.2))
                setattr(self, f"layer{number}", nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), lif))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            outputs = []
            for step in x:
                for layer in self.children():
                    step = layer(step)
                outputs.append(step)
            return torch.stack(outputs).mean(0)

    found = diagnose(Loop(), [(torch.randn(3, 64, 4), torch.randint(10, (64,)))])
    assert found.verdict.kind == "vanishes"
    assert "branches" in {tip.text.split()[0] for tip in found.tips}


def test_a_snntorch_network_is_diagnosed_and_left_as_it_was():
    layers = [nn.Linear(4, 16), snntorch.Leaky(beta=0.5, init_hidden=True)]
    layers += [nn.Linear(16, 10), snntorch.Leaky(beta=0.5, init_hidden=True)]
    net = nn.Sequential(*layers)

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.net(step) for step in x]).mean(0)

    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    # Batches of two sizes: a neuron's state has the shape of the last.
    batches = [(torch.randn(3, count, 4) * 4, torch.randint(10, (count,))) for count in (8, 5)]
    found = diagnose(Loop(), batches)
    assert len(found.layers) == 2
    after = dict(net.named_buffers())
    assert {name: buffer.shape for name, buffer in before.items()} == {name: after[name].shape for name in before}


def test_decay_is_no_tip_for_integrate_and_fire():
    net = nets.spiking_resnet20(10, 2, width=4, make_neuron=lambda: IF(surrogate=Rectangle(4.0)))
    tried = {remedy.group for remedy in of_neurons(Setup(net, F.cross_entropy), [batch()])}
    assert "threshold" in tried
    assert "decay" not in tried
