"""An initialised network passes on its input, its rates and its gradient, whichever library its neurons come from."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import spiking_resnet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm

from shortcut_snn import attach, diagnose, initialise, nets
from shortcut_snn.initialisation import set_surrogates
from shortcut_snn.initialisation.structure import declared_layers, matched_layers
from shortcut_snn.introspection.neurons import find_neurons
from shortcut_snn.measurement import examine
from shortcut_snn.measurement.layers import chain
from shortcut_snn.neurons import ILIF, LIF, PLIF, PSN, ATan, Rectangle, Triangle
from shortcut_snn.neurons.surrogate import Scaled

from ..deep_peers import DEEP, STEPS, digits, leaky, plain
from ..deep_peers import spikingjelly as deep_spikingjelly
from ..diagnosis.helpers import batch, loss_of_mean


def resnet(block: str, make: Any, steps: int = 2, name: str = "resnet20") -> nn.Module:
    torch.manual_seed(0)
    return getattr(nets, f"spiking_{name}")(
        10, steps, width=4, block=block, make_neuron=make, classifier_std="1/inputs"
    )


def lif() -> LIF:
    return LIF(0.25, surrogate=Triangle())


def main_path(layers: Any) -> list[Any]:
    """The neurons after the sums of basic blocks, and all layers of other networks."""
    return [layer for layer in chain(layers) if not layer.layer.endswith("spike1")]


@pytest.mark.parametrize(
    ("block", "make", "steps"),
    [("basic", lif, 2), ("basic", lambda: PLIF(0.5, surrogate=ATan()), 4), ("basic", ILIF, 2), ("plain", lif, 2)],
    ids=["lif", "plif", "ilif", "plain"],
)
def test_every_block_passes_on_its_input_and_its_gradient(block: str, make: Any, steps: int) -> None:
    net, seen, unseen = resnet(block, make, steps), batch(48, 8), batch(48, 8)
    before = chain(examine(net, [unseen]).layers)
    report = initialise(net, *seen)
    assert not report.skipped
    layers = chain(examine(net, [unseen]).layers)
    rates = [layer.rate for layer in layers]
    assert max(rates) < 2 * min(rates)
    norms = [layer.norm for layer in main_path(layers)]
    assert max(norms) < 2 * min(norms)
    # Blocks of one stage keep nearly all, and a transition between stages loses the most.
    stages = {layer.layer: layer.kept for layer in main_path(layers)}
    for stage in ("layer1", "layer2", "layer3"):
        assert stages[f"{stage}.2.spike2"] > stages[f"{stage}.0.spike2"] - 0.25
    assert layers[-1].kept > before[-1].kept + 0.05


@pytest.mark.parametrize("name", ["vgg11", "qkformer", "basic", "ms", "plain", "sew"])
def test_built_in_networks_declare_what_a_pass_shows(name: str) -> None:
    networks = {"vgg11": nets.spiking_vgg11, "qkformer": nets.SpikingTransformer}
    net = networks[name](10, 2, width=4) if name in networks else resnet(name, lif, name="resnet19")
    x = batch(16, 16)[0]
    declared, matched = (find(net, lambda: net(x)) for find in (declared_layers, matched_layers))
    if name == "sew":
        # The sum of the last stage is only averaged, which a pass does not show.
        declared, matched = declared[:-6], matched[:-6]
    assert declared == matched


def test_basic_blocks_change_few_spikes() -> None:
    net, seen = resnet("basic", lif), batch(48, 8)
    initialise(net, *seen)
    changed = []

    def compare(block: nn.Module, args: Any, output: Tensor) -> None:
        if args[0].shape == output.shape:
            changed.append((args[0] - output).abs().mean().item())

    for stage in (net.layer1, net.layer2, net.layer3):
        for block in stage:
            block.register_forward_hook(compare)
    net(seen[0])
    # All together change a fifth, so each of the 7 changes about 0.03.
    assert len(changed) == 7
    assert all(0.005 < share < 0.05 for share in changed)


def test_the_gradient_of_each_time_step_keeps_its_direction() -> None:
    torch.manual_seed(0)
    net, seen = nets.SpikingResNet((12,), 10, 2, width=4, make_neuron=lif, classifier_std="1/inputs"), batch(32, 8)
    initialise(net, *seen)
    outputs: list[Tensor] = []

    def keep(block: nn.Module, args: Any, output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    for block in net.layer1:
        block.register_forward_hook(keep)
    F.cross_entropy(net(seen[0]), seen[1]).backward()
    # With gradients through the membranes, the first step would get more and more of the second one's.
    grads = [outputs[index].grad for index in (0, -1)]
    first, second = F.cosine_similarity(*(grad.flatten(1) for grad in grads if grad is not None))
    assert first > second - 0.1
    assert net.layer1[5].spike2.neuron.detach_membrane
    assert not net.layer1[5].spike1.neuron.detach_membrane


def test_sums_of_spikes_and_of_currents_grow_little() -> None:
    for block in ("sew", "ms"):
        net, unseen = resnet(block, lif), batch(48, 8)
        report = initialise(net, *batch(48, 8))
        assert not report.skipped
        layers = chain(examine(net, [unseen]).layers)
        heads = [layer for layer in layers if layer.layer.endswith("spike1")]
        assert max(layer.rate for layer in heads) < 2 * min(layer.rate for layer in heads)
        assert max(layer.norm for layer in heads) < 6 * min(layer.norm for layer in heads)
    scales = [net.get_submodule(f"layer2.{block}.norm2").weight.mean().item() for block in (0, 1, 2)]
    assert scales == pytest.approx([2**-0.5] * 3)


def test_only_norms_surrogates_and_the_size_of_weights_change() -> None:
    net, seen = resnet("basic", lif), batch(32, 8)
    state, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    report = initialise(net, *seen)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    for name, value in net.state_dict().items():
        if "norm" in name and name.endswith(("weight", "bias")):
            continue
        if name.startswith(("layer2.0", "layer3.0")):
            # With a projection the branch keeps its weights.
            assert torch.equal(value, state[name])
        elif name.endswith("conv1.weight"):
            # Before an inner neuron, whose surrogate is low: 5 over the number of blocks.
            torch.testing.assert_close(value, 1.5 * state[name] * (5 / 9) ** 0.5, rtol=1e-4, atol=1e-5)
        elif name.endswith("conv2.weight"):
            # A step changes weights of many blocks relatively less.
            torch.testing.assert_close(value, 1.5 * state[name])
        else:
            assert torch.equal(value, state[name]), name
    assert net.layer1[0].spike1.neuron.surrogate == Scaled(Triangle(), 0.5556)
    assert net.layer1[0].spike2.neuron.surrogate.surrogate == Rectangle(2.4)
    # Another copy gets the same start from its weights and its surrogates.
    twin = resnet("basic", lif)
    twin.load_state_dict(net.state_dict())
    set_surrogates(twin, report.surrogates)
    assert [layer.norm for layer in examine(twin, [seen]).layers] == [
        layer.norm for layer in examine(net, [seen]).layers
    ]


def test_convolutions_without_a_skip_path_become_the_identity() -> None:
    net, seen = resnet("plain", lif), batch(48, 8)
    initialise(net, *seen)
    # Of 16 such layers each has 4 times the size, which its norm takes back.
    weight = net.layer2[1].conv2.weight.detach() / 4
    rest = weight - nn.init.dirac_(torch.zeros_like(weight))
    assert 0.01 < rest.abs().mean() < 0.3
    x = torch.rand(2, 48, 3, 8, 8).mean(0)
    spikes = net.layer1[1](net.layer1[0](net.stem(x[None], 2)))
    assert (spikes - net.layer1[0](net.stem(x[None], 2))).abs().mean() < 0.1


def test_without_a_skip_path_the_gradient_keeps_its_norm_in_training() -> None:
    images = torch.tensor(load_digits().images).float()[:, None]
    images, labels = (images - images.mean()) / images.std(), torch.tensor(load_digits().target)
    torch.manual_seed(0)
    net = nets.spiking_resnet34(10, 1, width=4, in_channels=1, block="plain", make_neuron=lif)
    initialise(net, images[:64], labels[:64])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for indices in torch.randperm(len(labels)).split(64)[:20]:
        optimizer.zero_grad()
        F.cross_entropy(net(images[indices]), labels[indices]).backward()
        optimizer.step()
    (factor,) = examine(net, [(images[:64], labels[:64])]).factors
    assert 0.1 < factor < 10


def test_a_deep_thin_network_keeps_its_gradient() -> None:
    net, seen = resnet("basic", lif, 1, "resnet110"), batch(24, 8)
    report = initialise(net, *seen)
    assert report.gradients[1] < 2 * report.gradients[0]
    assert report.rates[1] < 2 * report.rates[0]
    # Norms of blocks that pass on their input are fixed, and those of other layers are not.
    fixed = [name for name, weight in net.named_parameters() if not weight.requires_grad]
    assert len(fixed) == 2 * 2 * (18 + 17 + 17)
    assert "not trained: 104 norms" in repr(report)
    assert not any(name.startswith(("stem", "layer2.0", "layer3.0")) for name in fixed)
    F.cross_entropy(net(seen[0]), seen[1]).backward()
    assert all((weight.grad is None) == (name in fixed) for name, weight in net.named_parameters())
    twin = resnet("basic", lif, 1, "resnet110")
    set_surrogates(twin, report.surrogates)
    assert [name for name, weight in twin.named_parameters() if not weight.requires_grad] == fixed


def spikingjelly() -> nn.Module:
    torch.manual_seed(0)
    net = spiking_resnet.spiking_resnet18(
        spiking_neuron=neuron.LIFNode, surrogate_function=surrogate.ATan(), num_classes=10, tau=2.0
    )
    functional.set_step_mode(net, "m")
    return net


def test_a_network_of_spikingjelly() -> None:
    net, x, labels = spikingjelly(), torch.randn(2, 12, 3, 32, 32), torch.arange(12) % 10
    report = initialise(net, x, labels)
    assert not report.skipped
    assert net.layer1[1].bn2.weight.mean() < 0.5
    layers = chain(
        examine(attach(net, [], example=x, log=len), [(x, labels)], lambda y, z: F.cross_entropy(y.main, z)).layers
    )
    norms = [layer.norm for layer in layers if not layer.layer.endswith("sn1") or layer.layer == "network.sn1"]
    assert max(norms) < 2 * min(norms)
    # The pooling after the first neuron has a rate of its own, which the first stage keeps.
    rates = [layer.rate for layer in layers if not layer.layer.startswith("network.layer1")]
    assert max(rates) < 2 * min(rates)


def test_a_norm_may_take_each_step_where_neurons_take_all() -> None:
    torch.manual_seed(0)

    def block(inputs: int) -> list[nn.Module]:
        layers = layer.MultiStepContainer(nn.Linear(inputs, 32, bias=False), nn.BatchNorm1d(32))
        return [layers, neuron.LIFNode(step_mode="m", surrogate_function=surrogate.ATan())]

    net, (x, labels) = nn.Sequential(*block(64), *block(32), nn.Linear(32, 10)), digits()
    report = initialise(net, x, labels, loss_of_mean)
    assert not report.skipped
    assert all(0.1 < each.rate < 0.35 for each in examine(net, [(x, labels)], loss_of_mean).layers)


@pytest.mark.parametrize("case", [case for case in DEEP if "norse" not in case])
def test_without_norms_the_size_of_the_weights_is_set(case: str) -> None:
    net, seen = DEEP[case](), digits()
    report = initialise(net, *seen, loss_of_mean)
    assert not report.skipped
    layers = examine(net, [digits(64)], loss_of_mean).layers
    assert all(0.08 < layer.rate < 0.5 for layer in layers)
    norms = [layer.norm for layer in layers]
    assert max(norms) < 3 * min(norms)
    fresh = DEEP[case]()
    fresh.load_state_dict(net.state_dict())
    set_surrogates(fresh, report.surrogates)
    again = [layer.norm for layer in examine(fresh, [digits(64)], loss_of_mean).layers]
    assert again == pytest.approx(norms, rel=1e-3)


def test_a_silent_network_fires() -> None:
    net = plain(lambda: LIF(surrogate=Rectangle()))
    for linear in net:
        if isinstance(linear, nn.Linear):
            linear.weight.data *= 0.01
    assert examine(net, [digits()], loss_of_mean).layers[0].silent == 1
    initialise(net, *digits(), loss_of_mean)
    assert all(layer.rate > 0.1 for layer in examine(net, [digits()], loss_of_mean).layers)


def test_what_could_not_be_set_is_named() -> None:
    net = nn.Sequential(
        nn.Linear(64, 30), nn.Tanh(), LIF(), nn.Linear(30, 30), nn.LayerNorm(30), LIF(), nn.Linear(30, 10)
    )
    report = initialise(net, *digits(), loss_of_mean)
    assert list(report.skipped) == ["2", "5"]
    assert "not set: 2: its current is not the output" in str(report)


class Gated(nn.Module):
    """Basic blocks, the second with a gate between its last norm and its sum."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.classifier = nn.Linear(64, 32), nn.Linear(32, 10)
        self.linears = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))
        self.norms = nn.ModuleList(nn.BatchNorm1d(32) for _ in range(7))
        self.neurons = nn.ModuleList(lif() for _ in range(7))

    def forward(self, x: Tensor) -> Tensor:
        def norm(k: int, y: Tensor) -> Tensor:
            return self.norms[k](y.flatten(0, 1)).unflatten(0, y.shape[:2])

        x = self.neurons[6](norm(6, self.stem(x)))
        for k in (0, 2, 4):
            y = self.neurons[k](norm(k, self.linears[k](x)))
            y = norm(k + 1, self.linears[k + 1](y))
            x = self.neurons[k + 1](y * torch.sigmoid(y.mean(-1, keepdim=True)) + x if k == 2 else y + x)
        return self.classifier(x)


def test_a_gate_in_one_block_leaves_the_others_set() -> None:
    report = initialise(Gated(), *digits(), loss_of_mean)
    assert list(report.skipped) == ["neurons.3"]
    assert len(report.surrogates) >= 5


@pytest.mark.parametrize("tied", [False, True], ids=["one module", "tied weights"])
def test_a_layer_that_shares_weights_with_an_earlier_one_is_listed(tied: bool) -> None:
    net = Convolutions(True, nn.Identity())
    if tied:
        net.convolutions[2].weight = net.convolutions[1].weight
    else:
        net.convolutions[2], net.norms[2] = net.convolutions[1], net.norms[1]
    net(digits()[0])
    report = initialise(net, *digits(), loss_of_mean)
    assert report.skipped == {"neurons.2": "its norm or its weights serve an earlier layer too"}
    layers = examine(net, [digits()], loss_of_mean).layers
    assert report.rates == pytest.approx((min(layer.rate for layer in layers), max(layer.rate for layer in layers)))


class Convolutions(nn.Module):
    """Three convolutions with time and batch merged, and what lies between them and the neurons."""

    def __init__(self, norm: bool, between: Callable[[Tensor], Tensor], make: Any = lif) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = nn.ModuleList(nn.Conv2d(8 if i else 1, 8, 3, padding=1) for i in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) if norm else nn.Identity() for _ in range(3))
        self.neurons, self.classifier, self.between = (
            nn.ModuleList(make() for _ in range(3)),
            nn.LazyLinear(10),
            between,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (1, 8, 8))
        for convolution, norm, spike in zip(self.convolutions, self.norms, self.neurons, strict=True):
            x = spike(self.between(norm(convolution(x.flatten(0, 1)))).unflatten(0, x.shape[:2]))
        return self.classifier(x.flatten(2))


@pytest.mark.parametrize("norm", [False, True], ids=["weights", "norm"])
@pytest.mark.parametrize(
    "between",
    [
        nn.Identity(),
        lambda x: F.max_pool2d(x, 2),
        nn.AvgPool2d(2),
        nn.Dropout(0.25),
        lambda x: F.max_pool2d(x.transpose(-1, -2).contiguous(), 2),
    ],
    ids=["merged time", "max pool", "average pool", "dropout", "transposed"],
)
def test_it_sees_through_what_keeps_the_size_of_a_current(norm: bool, between: Any) -> None:
    net, (x, labels) = Convolutions(norm, between), digits()
    net(x)
    report = initialise(net, x, labels, loss_of_mean)
    assert not report.skipped
    assert len(report.norms) == (3 if norm else 0)
    assert all(0.1 < layer.rate < 0.4 for layer in examine(net, [digits()], loss_of_mean).layers)
    if not norm:
        smallest, largest = min(report.weights.values()), max(report.weights.values())
        assert f"those of 3 layers multiplied by {smallest:.3g} to {largest:.3g}" in str(report)
        fresh = Convolutions(norm, between)
        for name, factor in report.weights.items():
            torch.testing.assert_close(net.get_submodule(name).weight, fresh.get_submodule(name).weight * factor)


def test_snntorch_with_a_pool_before_its_neurons() -> None:
    net = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 6, 3),
        nn.MaxPool2d(2),
        leaky(),
        nn.Flatten(),
        nn.Linear(54, 10),
        leaky(),
    )
    x, labels = digits()
    report = initialise(attach(net, [], example=x, labels=labels, readout="sum", log=len), x, labels)
    assert "3" not in report.skipped
    assert "1" in report.weights


class NormOfEachStep(nn.Module):
    """Each layer has a batch norm for each time step, with a shift or, as snnTorch's, without one.

    The norm before the readout follows no weights, and serves all steps.
    """

    def __init__(self, shift: bool, skip: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.skip = skip
        self.layers = nn.ModuleList(nn.Linear(inputs, 32) for inputs in (64, 32, 32, 32))
        norms = [nn.ModuleList(nn.BatchNorm1d(32) for _ in range(STEPS)) for _ in range(4)]
        self.norms = nn.ModuleList(norms if shift else [snntorch.BatchNormTT1d(32, STEPS) for _ in range(4)])
        self.neurons = nn.ModuleList(snntorch.Leaky(0.5) for _ in range(4))
        self.last, self.head = nn.BatchNorm1d(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        membranes, total = [leaky.init_leaky() for leaky in self.neurons], torch.zeros(x.shape[1], 10)
        for t, spikes in enumerate(x):
            for i, (linear, norms, spike) in enumerate(zip(self.layers, self.norms, self.neurons, strict=True)):
                current = norms[t](linear(spikes)) + (spikes if self.skip and i else 0)
                spikes, membranes[i] = spike(current, membranes[i])
            total = total + self.head(self.last(spikes))
        return total


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("shift", [True, False])
def test_the_norms_of_all_time_steps_are_set(shift: bool, skip: bool) -> None:
    net, seen = NormOfEachStep(shift, skip), digits()
    report = initialise(net, *seen)
    assert "last" not in report.norms
    if not shift and skip:
        reason = "its norm, norms.1.0, has no shift to keep the rate of its spikes"
        assert report.skipped["neurons.1"] == reason
        return
    assert not report.skipped
    assert len(report.norms) == 4 * STEPS
    for first, *later in net.norms:
        for norm in later:
            torch.testing.assert_close(norm.state_dict(), first.state_dict() | _statistics(norm))
    assert all(0.1 < layer.rate < 0.35 for layer in examine(net, [seen], F.cross_entropy).layers)


def _statistics(norm: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in norm.state_dict().items() if name not in ("weight", "bias")}


def test_a_frozen_norm_of_a_later_time_step_is_listed() -> None:
    net = NormOfEachStep(shift=True)
    net.norms[1][2].requires_grad_(False)
    assert initialise(net, *digits()).skipped == {"neurons.1": "norms.1.2 is frozen"}


@pytest.mark.parametrize("parametrise", [parametrizations.weight_norm, parametrizations.spectral_norm, spectral_norm])
def test_parametrised_weights_are_not_set(parametrise: Any) -> None:
    net, seen = plain(lif), digits()
    parametrise(net[2])
    state = copy.deepcopy(net[2].state_dict())
    report = initialise(net, *seen, loss_of_mean)
    assert list(report.skipped) == ["3"]
    assert "the weights of 2 are parametrised" in report.skipped["3"]
    assert all(torch.equal(value, state[name]) for name, value in net[2].state_dict().items() if "._" not in name)


class Tied(nn.Module):
    """The readout shares a weight of the body, and its name for it comes first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.readout = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 10))
        self.body = nn.Sequential(nn.Linear(64, 64), LIF(), nn.Linear(64, 64), LIF())
        self.body[2].weight = self.readout[0].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.body(x)).mean(0)


def test_a_shared_weight_is_set() -> None:
    net, before = Tied(), Tied().body[2].weight
    factor = initialise(net, *digits()).weights["body.2"]
    assert factor > 1.1
    torch.testing.assert_close(net.body[2].weight, factor * before)


def test_frozen_parameters_are_left_alone_and_listed() -> None:
    net, seen = resnet("basic", lif), batch(32, 8)
    frozen = {"stem": net.stem, "layer1.0.conv2": net.layer1[0].conv2, "layer3.0.project": net.layer3[0].project}
    for module in frozen.values():
        module.requires_grad_(False)
    state = copy.deepcopy(net.state_dict())
    report = initialise(net, *seen)
    assert report.skipped == {
        "stem.spike": "stem.spike.norm is frozen",
        "layer1.0.spike2": "layer1.0.conv2 is frozen",
        "layer3.0.spike2": "layer3.0.project.norm is frozen",
    }
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]) or not name.startswith(tuple(frozen)), name
    net.requires_grad_(False)
    with pytest.raises(ValueError, match="frozen: call requires_grad_"):
        initialise(net, *seen)


def test_gradients_are_those_of_layers_that_are_trained() -> None:
    net, seen = plain(lif), digits()
    net[0].requires_grad_(False)
    report = initialise(net, *seen, loss_of_mean)
    assert report.gradients[0] > 0.1
    net[:-1].requires_grad_(False)
    assert "gradients" not in repr(initialise(net, *seen, loss_of_mean))


def test_layers_after_one_that_seldom_fires_keep_its_rate() -> None:
    torch.manual_seed(0)
    layers = [(layer.Conv2d(c, 6, 3, padding=1), layer.BatchNorm2d(6), neuron.LIFNode()) for c in (3, 6, 6)]
    net = nn.Sequential(*[each for block in layers for each in block], layer.Flatten(), layer.Linear(384, 10))
    functional.set_step_mode(net, "m")
    net[:3].requires_grad_(False)
    x, labels = torch.randn(2, 32, 3, 8, 8), torch.arange(32) % 10
    initialise(net, x, labels, loss_of_mean)
    first, *rates = [report.rate for report in diagnose(net, [(x, labels)], loss_of_mean).layers]
    assert 0.005 < first < 0.08
    assert all(0.5 * first < rate < 2 * first for rate in rates)


class Blocks(nn.Module):
    """Blocks that declare nothing, ``spike(drop(f(x)) + x)``."""

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.spike = LIF()
        self.blocks = nn.ModuleList(nn.ModuleDict(self.block(drop)) for _ in range(8))
        self.classifier = nn.Linear(8, 10)

    def block(self, drop: float) -> dict[str, nn.Module]:
        def layers() -> nn.Module:
            return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))

        return {"f": layers(), "inner": LIF(), "g": layers(), "drop": nn.Dropout(drop), "spike": LIF()}

    def forward(self, x: Tensor) -> Any:
        x = self.spike(self.stem(x).expand(2, -1, -1, -1, -1))
        for block in self.blocks:
            parts: Any = block
            inner = parts["inner"](parts["f"](x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            x = parts["spike"](parts["drop"](parts["g"](inner.flatten(0, 1)).unflatten(0, x.shape[:2])) + x)
        return self.classifier(x.mean((0, 3, 4)))


@pytest.mark.parametrize("case", ["autocast", "bfloat16", "dropout"])
def test_rounding_and_dropout_do_not_hide_what_a_block_adds(case: str) -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(16, 3, 8, 8), torch.arange(16) % 10
    net = Blocks(0.1 if case == "dropout" else 0.0)
    plain = Blocks()
    plain.load_state_dict(net.state_dict())
    expected = initialise(plain, x, labels)
    if case == "bfloat16":
        net, x = net.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        report = initialise(net, x, labels)
    assert report.surrogates.keys() == expected.surrogates.keys()
    assert report.gradients == pytest.approx(expected.gradients, abs=0.2)
    scales = {name: scale for name, (scale, _) in expected.norms.items()}
    assert {name: scale for name, (scale, _) in report.norms.items()} == pytest.approx(scales, rel=0.1)
    dtype = torch.bfloat16 if case == "bfloat16" else torch.float32
    assert {parameter.dtype for parameter in net.parameters()} == {dtype}


def test_spikingjellys_clif_evaluates() -> None:
    from spikingjelly.activation_based import layer, neuron

    net = nn.Sequential(
        layer.Conv2d(3, 8, 3, step_mode="m"),
        layer.BatchNorm2d(8, step_mode="m"),
        neuron.ComplementaryLIFNode(step_mode="m"),
        layer.Flatten(step_mode="m"),
        layer.Linear(288, 10, step_mode="m"),
    )
    x = torch.randn(2, 16, 3, 8, 8)
    initialise(net, x, torch.arange(16) % 10)
    assert copy.deepcopy(net).eval()(x).shape == (2, 16, 10)


def test_compiled_parts_that_ran_before_are_measured() -> None:
    (x, labels), net = batch(16, 8), Blocks()
    net.blocks[1]["g"] = torch.compile(net.blocks[1]["g"], backend="eager")
    net.blocks[2]["spike"] = torch.compile(net.blocks[2]["spike"], backend="eager")
    net(x).sum().backward()
    names = [report.layer for report in examine(net, [(x, labels)]).layers]
    assert len(names) == 17
    assert not initialise(net, x, labels).skipped


def test_a_compiled_network_is_initialised_as_the_network_itself() -> None:
    (x, labels), net = batch(16, 8), resnet("basic", lif, name="resnet8")
    expected = initialise(copy.deepcopy(net), x, labels)
    assert repr(initialise(torch.compile(net), x, labels)) == repr(expected)
    assert net.layer1[0].spike2.norm.weight.mean() < 0.9


def test_neurons_whose_rate_cannot_be_reached_are_named() -> None:
    class Never(LIF):
        def forward(self, x: Tensor) -> Tensor:
            return 0 * super().forward(x)

    net = resnet("basic", lambda: Never(0.25), name="resnet8")
    report = initialise(net, *batch(16, 8))
    assert set(report.skipped) >= {"stem.spike", "layer1.0.spike1"}
    assert report.skipped["stem.spike"] == "a firing rate of 0.2 was not reached: the search ended at 0"
    net = plain(lambda: Never(0.25))
    weight = net[0].weight.clone()
    assert {"1", "3"} <= initialise(net, *digits(), loss_of_mean).skipped.keys()
    assert torch.equal(net[0].weight, weight)
    assert "stem.spike" in initialise(resnet("basic", lambda: PSN(2), name="resnet8"), *batch(16, 8)).skipped


def test_blocks_that_cannot_pass_on_their_input_are_named() -> None:
    # Of a high threshold and a slow leak: the shift with which one spike fires adds up to a spike without one.
    report = initialise(resnet("basic", lambda: LIF(0.9, 3.0), 4), *batch(16, 8))
    assert "of the spikes or more" in report.skipped["layer1.0.spike2"]
    assert "spike2" not in str(initialise(resnet("basic", lif, 4), *batch(16, 8)).skipped)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((16,), 50), "labels lie from 50 to 50, but the output has width 10"),
        (torch.arange(16) % 10 - 1, "labels lie from -1 to 8"),
        (torch.zeros(0, dtype=torch.long), "the batch for initialise has no samples"),
        (torch.zeros(16, 1, dtype=torch.long), r"labels \[16, 1\] do not fit the output \[16, 10\]: .*flatten"),
        (torch.arange(16.0) % 10, r"targets \[16\] do not fit .*must be integers, as in targets.long"),
    ],
)
def test_wrong_labels_are_named(labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        initialise(resnet("basic", lif, name="resnet8"), torch.randn(len(labels), 3, 8, 8), labels)


def test_a_surrogate_is_set_by_its_width_alone() -> None:
    net = resnet("basic", lif, name="resnet8")
    set_surrogates(net, {"stem.spike": {"width": 1.5}})
    assert find_neurons(net)["stem.spike"].surrogate == Scaled(Rectangle(1.5), 1.0)


def test_a_surrogate_of_ones_own_may_have_a_function() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.function = lambda v, alpha: surrogate.atan.apply(v, alpha)

        def forward(self, v: Tensor) -> Tensor:
            return self.function(v, 2.0)

    net = nn.Sequential(nn.Linear(64, 16), neuron.LIFNode(surrogate_function=Own(), step_mode="m"), nn.Linear(16, 10))
    x = torch.rand(2, 16, 64)
    assert initialise(net, x, torch.arange(16) % 10).skipped == {}
    set_surrogates(net, {"1": {"factor": 3.0}})
    assert net(x).isfinite().all()


def test_a_small_batch_is_named() -> None:
    report = initialise(resnet("basic", lif, name="resnet8"), *batch(8, 8))
    assert "measured on 8 samples: pass a batch of at least 16" in str(report)
    alone = replace(report, kept=float("nan"), samples=1)
    assert "nan" not in str(alone)
    assert "surrogates set; firing rates are" in str(alone)


def test_an_interruption_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net = resnet("basic", lif, 1, "resnet8")
    wrapper, state = attach(net, [], example=batch(16, 8)[0], log=len), copy.deepcopy(net.state_dict())

    def interrupt(*args: Any) -> None:
        set_surrogates(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr("shortcut_snn.initialisation.initialisation.set_surrogates", interrupt)
    with pytest.raises(KeyboardInterrupt):
        initialise(wrapper, *batch(16, 8))
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())
    neurons = find_neurons(net).values()
    assert {(module.surrogate, module.detach_membrane) for module in neurons} == {(Triangle(), False)}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_second_call_gives_the_same_start() -> None:
    net, seen = resnet("basic", lif), batch(48, 8)
    first, second = initialise(net, *seen), initialise(net, *seen)
    for name, (scale, shift) in first.norms.items():
        assert second.norms[name] == pytest.approx((scale, shift), abs=0.15)


def test_errors_name_the_cause() -> None:
    with pytest.raises(ValueError, match="Linear has no known neurons"):
        initialise(nn.Linear(2, 2), *batch())
    with pytest.raises(ValueError, match="layer9"):
        set_surrogates(resnet("basic", lif), {"layer9": {"factor": 1.0}})


def test_a_neuron_of_steps_keeps_its_states() -> None:
    torch.manual_seed(0)
    net = nn.Sequential()
    for number in range(3):
        net += nn.Sequential(
            nn.Linear(64 if number == 0 else 48, 48), nn.BatchNorm1d(48), leaky(spike_grad=snntorch.surrogate.atan())
        )
    net.append(nn.Linear(48, 10))
    x, labels = digits()
    report = initialise(attach(net, [], example=x, labels=labels, readout="sum", log=len), x, labels)
    assert not report.skipped
    assert report.gradients[1] < 2 * report.gradients[0]


def test_a_state_that_the_network_hands_on_is_followed() -> None:
    torch.manual_seed(0)
    net = norse.SequentialState(nn.Linear(64, 32), nn.BatchNorm1d(32), norse.LIFCell(), nn.Linear(32, 10))
    report = initialise(net, *digits(), loss_of_mean)
    assert report.rates == pytest.approx((0.2, 0.2), abs=0.05)


class OuterLoop(nn.Module):
    """Norse's cells in a loop over time. They fire some steps late, and the layers after them are silent until then."""

    def __init__(self, steps: int, inputs: tuple[int, ...], norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.steps = steps
        self.linears = nn.ModuleList(nn.Linear(size, 48) for size in inputs)
        self.norms = nn.ModuleList(norm(48) for _ in inputs)
        self.cells = nn.ModuleList(norse.LIFCell() for _ in inputs)
        self.classifier = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        states: list[Any] = [None for _ in self.cells]
        logits = []
        for _ in range(self.steps):
            out = x
            for i, (linear, norm, cell) in enumerate(zip(self.linears, self.norms, self.cells, strict=True)):
                out, states[i] = cell(norm(linear(out)), states[i])
            logits.append(self.classifier(out))
        return torch.stack(logits).mean(0)


@pytest.mark.parametrize("steps", [4, 16])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.Identity])
def test_layers_that_are_silent_in_the_first_step_fire(steps: int, norm: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(0)
    frames, labels = digits()
    report = initialise(OuterLoop(steps, (64, 48, 48), norm), frames[0], labels)
    assert report.rates[0] > 0.18
    assert report.rates[1] < (0.22 if norm is nn.BatchNorm1d else 0.3)
    assert report.kept > 0.4


class StatefulCell(nn.Module):
    """A neuron that takes its membrane potential, of all samples, and returns the next one."""

    def forward(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = 0.5 * v + current
        spikes = surrogate.ATan()(v - 1.0)
        return spikes, v * (1 - spikes)


class StatefulNet(nn.Module):
    """A convolution whose current has more numbers than searches take."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.cell = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), StatefulCell()
        self.classifier = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        current, logits = self.norm(self.conv(x)), []
        v = torch.zeros_like(current)
        for _ in range(4):
            spikes, v = self.cell(current, v)
            logits.append(self.classifier(spikes.mean((2, 3))))
        return torch.stack(logits).mean(0)


def test_the_state_that_a_neuron_takes_may_be_large() -> None:
    torch.manual_seed(0)
    report = initialise(StatefulNet(), torch.rand(32, 3, 16, 16), torch.arange(32) % 10, spiking=StatefulCell)
    assert report.rates == pytest.approx((0.2, 0.2), abs=0.05)


def test_an_example_of_one_value_is_refused() -> None:
    net = resnet("basic", lif, name="resnet8")
    with pytest.raises(ValueError, match="same value everywhere"):
        initialise(net, torch.zeros(16, 3, 8, 8), torch.arange(16) % 10)
    with pytest.raises(ValueError, match="the example, a ndarray, has no tensors"):
        initialise(net, torch.randn(16, 3, 8, 8).numpy(), torch.arange(16) % 10)


def test_a_question_names_how_to_answer_it() -> None:
    net, (x, labels) = deep_spikingjelly("s"), digits()
    with pytest.raises(ValueError, match=r"loop=.*pass attach\(network, \[\], \.\.\.\)"):
        initialise(net, x[0], labels)
    assert not initialise(attach(net, [], example=x[0], labels=labels, loop=4, log=len), x[0], labels).skipped
