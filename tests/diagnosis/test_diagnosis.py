"""Verdicts on networks that are made to vanish, explode or die, and tips that help when measured again."""

import dataclasses
import math
import re
from collections.abc import Callable

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from shortcut_snn import attach, components, measure_energy, nets, wrap
from shortcut_snn.diagnosis import diagnose, judge
from shortcut_snn.diagnosis.diagnosis import neuron_remedies
from shortcut_snn.initialisation import initialise
from shortcut_snn.measurement import LayerReport, examine
from shortcut_snn.measurement.layers import default_loss
from shortcut_snn.measurement.setup import Setup
from shortcut_snn.neurons import IF, LIF, ATan, Rectangle, Triangle

from ..method.wrapped import wrapped
from .helpers import batch, loss_of_mean, network

LABELS = torch.tensor([0, 1, 2, 3])


def reports(*norms: float, **fields: float) -> list[LayerReport]:
    """Layers with these gradients, input first."""
    report = LayerReport("", 0.2, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0)
    return [dataclasses.replace(report, layer=f"l{i}", norm=norm, **fields) for i, norm in enumerate(norms)]


def test_a_verdict_names_the_first_layer_out_of_bounds():
    verdict = judge(reports(400.0, 30.0, 9.0, 2.0, 1.0))
    assert (verdict.kind, verdict.layer, verdict.factor) == ("explodes", "l1", 400.0)
    assert verdict.sentence == (
        "explodes: from l4 back to l0 the gradient grows 400 times (4.47 times a layer), past 10 times from l1 on"
    )
    verdict = judge(reports(1e-4, 0.01, 0.5, 1.0))
    assert (verdict.kind, verdict.layer) == ("vanishes", "l1")
    assert judge(reports(9.0, 100.0, 1.0)).kind == "healthy"


@pytest.mark.parametrize(
    ("layers", "kind", "name"),
    [
        (reports(1.0, 0.0, 1.0), "no gradient", "l1"),
        (reports(1.0, math.nan, 1.0), "no gradient", "l1"),
        (reports(0.0, 0.0, 0.0), "no gradient", "l2"),
        (reports(1.0, 1.0, silent=1.0), "silent", "l0"),
        (reports(1.0, 1.0, saturated=0.995), "saturated", "l0"),
    ],
)
def test_dead_layers_are_named(layers, kind, name):
    verdict = judge(layers)
    assert (verdict.kind, verdict.layer) == (kind, name)
    assert verdict.sentence.startswith(f"{'dead' if kind == 'no gradient' else kind} from {name}")


@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_layers_that_need_no_gradient_are_not_dead(frozen: int) -> None:
    """They encode the input or follow frozen layers."""
    linears = [nn.Linear(10, 20), nn.Linear(20, 20), nn.Linear(20, 20)]
    for linear in linears:
        linear.weight.data *= 3
    net = nn.Sequential(LIF(surrogate=Rectangle(2.0)))
    for linear in linears:
        net += nn.Sequential(linear, LIF(surrogate=Rectangle(2.0)))
    net.append(nn.Linear(20, 3))
    for linear in linears[:frozen]:
        linear.requires_grad_(False)
    data = (2 * torch.rand(8, 16, 10), torch.arange(16) % 3)
    verdict = judge(examine(net, [data], loss_of_mean).layers)
    if frozen == 3:
        assert "frozen" in verdict.sentence
    else:
        assert verdict.sentence.startswith("healthy: from 6 back to " + {0: "2", 1: "4"}[frozen])


@pytest.mark.parametrize(("surrogate", "kind"), [(Rectangle(1.0), "explodes"), (Triangle(), "lost")])
def test_tips_help_and_the_network_does_not_change(surrogate, kind):
    net = network(surrogate)
    batches = [batch(8, 10), batch(8, 10)]
    state = {key: value.clone() for key, value in net.state_dict().items()}
    diagnosis = diagnose(net, batches)
    assert diagnosis.verdict.kind == kind
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert {module.surrogate for module in net.modules() if hasattr(module, "surrogate")} == {surrogate}
    assert bool(diagnosis.tips) == (kind == "explodes")
    for tip in diagnosis.tips:
        assert tip.after.distance <= tip.before.distance / 2 or tip.after.lost <= tip.before.lost / 2
    if kind == "lost":
        assert "remedies measured on it helps" in str(diagnosis)
        return
    first = diagnosis.tips[0]
    assert "initialise" in first.text
    assert any("surrogate width" in tip.text for tip in diagnosis.tips)
    initialise(net, *batches[0])
    again = diagnose(net, batches)
    assert again.verdict.factor == pytest.approx(first.after.factor, rel=1e-3)
    assert not any("initialise" in tip.text for tip in again.tips), "what was done is not advised again"
    assert repr(diagnosis).count("\n") == 2 + len(diagnosis.tips)
    assert str(diagnosis).endswith("does not promise accuracy: compare in training")


def test_silent_neurons_get_lower_thresholds():
    diagnosis = diagnose(network(ATan(), threshold=20.0), [batch()])
    assert (diagnosis.verdict.kind, diagnosis.verdict.layer) == ("silent", "stem.spike")
    assert [tip.text.split()[0] for tip in diagnosis.tips] == ["threshold"]


@pytest.mark.parametrize("kind", ["triangle", "tanh"])
def test_the_options_of_a_width_tip_make_the_measured_surrogate(kind):
    surrogate = components.surrogate.make(kind)
    setup = Setup(wrapped(network(surrogate), [], num_classes=10), F.cross_entropy)
    (remedy,) = [each for each in neuron_remedies(setup, [batch()]) if each.text.startswith("surrogate width 1.5 ")]
    options = re.findall(r"--neuron\.surrogate\.(\w+) (\S+?)[ )]", remedy.text)
    made = components.surrogate.make(kind, **{name: float(value) for name, value in options})
    resized, v = surrogate.resized(1.5), torch.linspace(-2, 2, 81)
    torch.testing.assert_close(made(v), resized(v), rtol=1e-4, atol=1e-5)


class Own:
    """A surrogate with a width that is not registered."""

    def __init__(self, width: float) -> None:
        self.width = width

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        return (1 - v.abs() / self.width).clamp(min=0)

    def resized(self, width: float) -> "Own":
        return Own(width)


def test_a_surrogate_without_a_name_is_tried_and_has_no_options():
    net = nets.spiking_resnet20(10, 2, width=4, make_neuron=lambda: LIF(surrogate=Own(1.0)))
    setup = Setup(wrapped(net, [], num_classes=10), F.cross_entropy)
    texts = [remedy.text for remedy in neuron_remedies(setup, [batch()])]
    assert "surrogate width 1.5 in all layers" in " ".join(texts)
    assert not any("--neuron.surrogate" in text for text in texts)


def test_integrate_and_fire_gets_no_decay():
    net = nets.spiking_resnet20(10, 2, width=4, make_neuron=lambda: IF(surrogate=Rectangle(4.0)))
    setup = Setup(wrapped(net, [], num_classes=10), F.cross_entropy)
    groups = {remedy.group for remedy in neuron_remedies(setup, [batch()])}
    assert "threshold" in groups
    assert "decay" not in groups


def test_a_diagnosis_without_tips_says_so():
    net = network(Rectangle(), name="resnet8")
    torch.nn.init.zeros_(net.classifier.weight)
    diagnosis = diagnose(net, [batch()])
    assert diagnosis.verdict.kind == "no gradient"
    assert diagnosis.measured > 10
    assert str(diagnosis).endswith("helps")


def blocks(make, depth: int, linear=nn.Linear, norm=nn.BatchNorm1d) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [linear(6 if number == 0 else 12, 12), norm(12), make()]
    return [*layers, linear(12, 5)]


def spikingjelly() -> nn.Module:
    net = nn.Sequential(
        *blocks(
            lambda: neuron.LIFNode(surrogate_function=surrogate.ATan(0.2)),
            8,
            layer.Linear,
            lambda width: layer.SeqToANNContainer(nn.BatchNorm1d(width)),
        )
    )
    functional.set_step_mode(net, "m")
    return net


class BatchFirst(nn.Module):
    """Takes ``[N, T, F]`` and returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.net = spikingjelly()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
        return self.net(x.transpose(0, 1)).transpose(0, 1), "metadata"


def test_the_layout_of_a_spikingjelly_network_is_inferred():
    net, x = BatchFirst(), 3 * torch.randn(4, 4, 6)
    diagnosis = diagnose(net, [(x, LABELS)])
    assert diagnosis.verdict.kind == "vanishes"
    assert len(diagnosis.layers) == 8
    assert {"a rectangle of", "initialise it by"} <= {" ".join(tip.text.split()[:3]) for tip in diagnosis.tips}
    assert not any(module._forward_hooks for module in net.modules())
    assert all(m.surrogate_function.alpha == 0.2 for m in net.modules() if hasattr(m, "surrogate_function"))


def test_a_wrapper_is_diagnosed_by_its_layout():
    flat = snntorch.surrogate.atan(alpha=0.2)
    net = nn.Sequential(*blocks(lambda: snntorch.Leaky(beta=0.8, init_hidden=True, spike_grad=flat), 8))
    x = 3 * torch.randn(4, 32, 6)
    diagnosis = diagnose(
        attach(net, [], example=x, loop="input", batch_axis=1, readout="mean", log=len), [(x, LABELS.repeat(8))]
    )
    assert diagnosis.verdict.kind == "vanishes"
    (tip,) = (tip for tip in diagnosis.tips if tip.text.startswith("initialise"))
    assert 'method="initialised"' in tip.text
    assert tip.after.distance < 0.5


def test_the_default_loss_of_a_wrapper_is_its_own():
    calls = []

    def criterion(logits, labels):
        calls.append(logits.shape)
        return F.cross_entropy(logits, labels)

    images, labels = batch()
    model = attach(network(Triangle()), method="tet", criterion=criterion, log=lambda line: None)
    diagnose(model, [(images, labels)])
    assert calls, "also for the logits of every time step"


@pytest.mark.parametrize("every_step", [True, False])
def test_a_wrapper_without_a_method_is_diagnosed_with_its_criterion(every_step: bool) -> None:
    x, net = 4 * torch.rand(5, 4, 6), nn.Sequential(nn.Linear(6, 16), LIF(), nn.Linear(16, 4))
    flags, criterion = torch.eye(4).flip(0), F.binary_cross_entropy_with_logits
    if every_step:
        labels, known = torch.arange(4).repeat(5, 1), {"step_axis": 0, "readout": None}
        expected = F.cross_entropy(net(x).flatten(0, 1), labels.flatten())
    else:
        labels, known = flags, {"readout": "mean", "criterion": criterion}
        expected = criterion(net(x).mean(0), labels)
    expected.backward()
    model = attach(net, [], example=x, labels=labels, log=len, **known)
    (layer,) = diagnose(model, [(x, labels)]).layers
    assert layer.weight_rms == pytest.approx(net[0].weight.grad.square().mean().sqrt().item())


def test_a_frozen_network_is_refused() -> None:
    for model in (net := network(Triangle()).requires_grad_(False), wrap(net, net.layout("stages"))):
        with pytest.raises(ValueError, match=r"all parameters of \w+ are frozen: call requires_grad_"):
            diagnose(model, [batch()])


def test_a_network_with_an_inner_time_loop():
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(*blocks(lambda: neuron.LIFNode(surrogate_function=surrogate.ATan(0.2)), 6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.net(step) for step in x]).mean(0)

    # Batches of two sizes: the state of a neuron has the shape of the latest.
    batches = [(3 * torch.randn(3, count, 6), torch.randint(5, (count,))) for count in (64, 50)]
    diagnosis = diagnose(Loop(), batches)
    assert diagnosis.verdict.kind == "vanishes"
    assert "initialise" in {tip.text.split()[0] for tip in diagnosis.tips}


def test_a_silent_third_party_network_without_a_remedy():
    net = nn.Sequential(layer.Linear(6, 12), neuron.LIFNode(v_threshold=99.0), layer.Linear(12, 5))
    functional.set_step_mode(net, "m")
    diagnosis = diagnose(net, [(torch.randn(3, 4, 6), LABELS)])
    assert diagnosis.verdict.kind == "silent"
    assert not diagnosis.tips
    assert "lower its threshold, enlarge the weights" in str(diagnosis)


def test_a_silent_network_without_norms_gets_larger_weights() -> None:
    linears = [nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 5)]
    for linear in linears:
        linear.weight.data *= 0.2
    net = nn.Sequential(linears[0], LIF(), linears[1], LIF(), linears[2])
    batches = [(torch.rand(3, 16, 6), torch.arange(16) % 5)]
    diagnosis = diagnose(net, batches, loss_of_mean)
    assert diagnosis.verdict.kind == "silent"
    assert "dead" not in str(diagnosis)
    (factor,) = [float(tip.text.split()[5]) for tip in diagnosis.tips if tip.text.startswith("weights")]
    for linear in linears:
        linear.weight.data *= factor
    assert judge(examine(net, batches, loss_of_mean).layers).kind != "silent"


class Silent(nn.Module):
    """A residual block whose path never fires, as one expert of several may."""

    def __init__(self) -> None:
        super().__init__()
        self.path = nn.Sequential(nn.Linear(12, 12), neuron.LIFNode(v_threshold=1e3, step_mode="m"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.path(x)


def test_a_silent_layer_that_a_skip_connection_bypasses_is_not_dead():
    layers = blocks(lambda: neuron.LIFNode(step_mode="m"), 3, norm=nn.Identity)
    for module in layers:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
    batches = [(3 * torch.rand(9, 16, 6), torch.arange(16) % 5)]
    bypassed = diagnose(nn.Sequential(*layers[:3], Silent(), *layers[3:]), batches).verdict
    assert not bypassed.is_dead
    assert bypassed.sentence.endswith("Other paths lead past 3.path.1 (silent)")
    in_series = diagnose(nn.Sequential(*layers[:3], Silent().path, *layers[3:]), batches).verdict
    assert (in_series.kind, in_series.layer) == ("silent", "3.1")


def test_silent_layers_that_a_gradient_passes_may_wake():
    net = nn.Sequential(nn.Linear(6, 12), neuron.LIFNode(step_mode="m"), nn.Linear(12, 5))
    nn.init.constant_(net[0].bias, -5.0)
    verdict = diagnose(net, [(torch.rand(3, 4, 6), LABELS)]).verdict
    assert verdict.sentence.startswith("1 is silent: 100 %"), "no layer follows"
    assert verdict.sentence.endswith("a gradient passes, so training may change that")


class Integrator(nn.Module):
    """The last neurons only integrate; their potentials are the output."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*blocks(lambda: neuron.LIFNode(step_mode="m"), 3, norm=nn.Identity))
        self.layers.append(neuron.LIFNode(v_threshold=1e8, step_mode="m", store_v_seq=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.layers(x)
        return self.layers[-1].v_seq


def test_an_output_integrator_is_not_the_last_spiking_layer():
    net = Integrator()
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
    batches = [(torch.rand(9, 16, 6), torch.arange(16) % 5)]
    diagnosis = diagnose(net, batches)
    assert [report.layer for report in diagnosis.layers] == ["layers.2", "layers.5", "layers.8"]
    assert not diagnosis.verdict.is_dead
    weights = net.layers[-2].weight.clone()
    assert initialise(net, *batches[0], loss_of_mean).surrogates.keys() == {"layers.2", "layers.5", "layers.8"}
    assert torch.equal(net.layers[-2].weight, weights)
    assert 0.5 < examine(net, batches, loss_of_mean).factors[0] < 2


def ending_in(integrator: nn.Module, spiking: Callable[[], nn.Module], kind: Callable[..., nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 30), spiking(), nn.Linear(30, 30), spiking(), nn.Linear(30, 5), integrator]
    return kind(*layers)


INTEGRATORS: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    "SpikingJelly": (
        lambda: ending_in(
            neuron.NonSpikingLIFNode(tau=2.0, decode="mean-mem"), lambda: neuron.LIFNode(step_mode="m"), nn.Sequential
        ),
        {},
    ),
    "snnTorch": (
        lambda: ending_in(
            snntorch.StateLeaky(0.9, channels=5, output=False), lambda: snntorch.LeakyParallel(30, 30), nn.Sequential
        ),
        {"readout": "mean"},
    ),
    "Norse": (
        lambda: ending_in(norse.LIBoxCell(), norse.LIFBoxCell, norse.SequentialState),
        {"readout": "mean", "loop": "input"},
    ),
}


@pytest.mark.parametrize("library", INTEGRATORS)
def test_neurons_that_give_potentials_are_not_spiking_layers(library):
    make, options = INTEGRATORS[library]
    net, data = make(), (3 * torch.rand(4, 16, 6), torch.arange(16) % 5)
    model = attach(net, [], example=data[0], labels=data[1], log=len, **options)
    assert [report.layer for report in diagnose(model, [data]).layers] == ["1", "3"]
    classifier = net[4].weight.clone()
    lowest, highest = initialise(model, *data).rates
    assert 0.1 < lowest <= highest < 0.3
    assert torch.equal(net[4].weight, classifier)


def test_a_compiled_wrapper_is_measured_as_the_wrapper_itself():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 12), neuron.LIFNode(), nn.Linear(12, 5))
    data = 3 * torch.rand(4, 16, 6), torch.arange(16) % 5
    model = attach(net, [], example=data[0], labels=data[1], loop="input", log=len)
    compiled = torch.compile(model, backend="eager")
    assert repr(diagnose(compiled, [data]).examination) == repr(diagnose(model, [data]).examination)
    assert measure_energy(compiled, data[:1]).layers == measure_energy(model, data[:1]).layers


def test_a_surrogate_that_its_neuron_insists_on_is_kept():
    net = nn.Sequential(nn.Linear(6, 12), neuron.ILIFNode(step_mode="m"), nn.Linear(12, 5))
    report = initialise(net, 3 * torch.rand(4, 16, 6), torch.arange(16) % 5)
    assert report.skipped == {"1": "its surrogate cannot be scaled"}
    assert 0.1 < report.rates[0] < 0.3


class TwoOutputs(nn.Module):
    """Potentials and hidden spikes of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 16), snntorch.Leaky(0.9), nn.Linear(16, 5), snntorch.Leaky(0.9)])

    def forward(self, x):
        first, hidden_neuron, last, output_neuron = self.layers
        m1, m2, outputs, hidden = hidden_neuron.init_leaky(), output_neuron.init_leaky(), [], []
        for step in x.unbind(1):
            spikes, m1 = hidden_neuron(first(step), m1)
            _, m2 = output_neuron(last(spikes), m2)
            outputs.append(m2)
            hidden.append(spikes)
        return torch.stack(outputs), torch.stack(hidden)


def test_the_logits_of_several_outputs_are_asked_for():
    x, labels = 4 * torch.rand(16, 9, 6), torch.arange(16) % 5
    with pytest.raises(ValueError, match=r"the logits.*output\[0\]\.mean\(0\).*pass attach\(network"):
        diagnose(TwoOutputs(), [(x, labels)])
    wrapper = attach(TwoOutputs(), [], example=x, readout=lambda output: output[0].mean(0), log=len)
    diagnosis = diagnose(wrapper, [(x, labels)])
    assert [report.layer for report in diagnosis.layers] == ["layers.1"]


@pytest.mark.parametrize("outputs", [1, 3])
def test_float_targets_get_a_squared_error(outputs):
    net = nn.Sequential(nn.Linear(6, 12), neuron.LIFNode(step_mode="m"), nn.Linear(12, outputs))
    data = (3 * torch.rand(9, 16, 6), torch.rand(16, outputs))
    (layer,) = diagnose(net, [data]).layers
    (expected,) = examine(net, [data], lambda y, target: F.mse_loss(y.mean(0), target)).layers
    assert layer.norm == pytest.approx(expected.norm) != 0
    with pytest.raises(ValueError, match="pass loss"):
        default_loss(torch.rand(16, 3), torch.rand(16))
    with pytest.raises(ValueError, match="pass criterion="):
        attach(net, method="initialised", example=data[0], labels=data[1], log=len)


def test_a_network_without_known_neurons_is_refused():
    with pytest.raises(ValueError, match="no known neurons"):
        diagnose(nn.Linear(2, 10), [batch()])
    with pytest.raises(ValueError, match="batches"):
        diagnose(network(Rectangle()), [])


@pytest.mark.parametrize("batches", [batch(), [batch()[0]], batch()[0], DataLoader(TensorDataset(*batch()))])
def test_batches_that_are_not_pairs_are_refused(batches):
    with pytest.raises(ValueError, match=r"\[\(inputs, labels\)\]"):
        diagnose(network(Rectangle()), batches)


def test_labels_that_are_not_a_tensor_are_refused():
    inputs, labels = batch()
    with pytest.raises(TypeError, match="labels must be a tensor, got a list"):
        diagnose(network(Rectangle()), [(inputs, labels.tolist())])


def test_only_errors_that_name_an_argument_of_attach_mention_it():
    net = nn.Sequential(nn.Linear(2, 4), snntorch.Leaky(beta=0.5, init_hidden=True), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="labels that begin at 0") as caught:
        diagnose(net, [(torch.rand(5, 2, 2), torch.tensor([1, 3]))])
    assert "attach" not in str(caught.value)
    with pytest.raises(ValueError, match="a ndarray, has no tensor"):
        diagnose(net, [(torch.rand(5, 2, 2).numpy(), torch.tensor([0, 1]))])
