"""The network inside is the one that was put in: nothing of the wrapper shows in it, nor in torch."""

import pytest
import torch

from shortcut_snn import Shortcut

from .toys import Noisy, hooks, small, twins
from .wrapped import wrapped


@pytest.mark.parametrize(
    ("name", "placement"), [("resnet8", "stages"), ("resnet20", "blocks"), ("qkformer", "stages"), ("vggsnn", "blocks")]
)
def test_state_keys_and_outputs_equal_an_unwrapped_network(name: str, placement: str) -> None:
    model, twin = twins(small(name), taps=placement, num_classes=3)
    network, images = model.network, torch.rand(4, 3, 8, 8)
    assert list(network.state_dict()) == list(twin.state_dict())
    for training in (True, False):
        model.train(training), twin.train(training)
        expected = twin(images)
        assert torch.equal(model(images).main, expected)
    for key, value in network.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key
    assert torch.equal(network(images), expected)


def test_the_wrapper_holds_the_networks_own_parameters() -> None:
    network = small()
    before = list(network.parameters())
    model = wrapped(network, num_classes=3)
    assert model.network is network
    assert all(one is other for one, other in zip(before, network.parameters(), strict=True))
    mine = {id(parameter) for parameter in network.parameters()}
    extra = [name for name, parameter in model.named_parameters() if id(parameter) not in mine]
    assert extra == [f"branches.{i}.classifier.{kind}" for i in range(3) for kind in ("weight", "bias")]


def test_strip_leaves_the_hooks_of_others() -> None:
    network = small()
    calls = []
    network.layer1.register_forward_hook(lambda *_: calls.append(1))
    other = wrapped(network, ["layer2"], num_classes=3)
    wrapped(network, ["layer1", "layer2"], num_classes=3).strip()
    calls.clear()
    assert len(other(torch.rand(2, 3, 8, 8)).branches) == 1
    assert calls == [1]
    assert hooks(network) == 2


def test_the_dry_pass_leaves_no_trace() -> None:
    network = Noisy()
    network.layer1[1].eval()
    network.layer2.eval()
    modes = [module.training for module in network.modules()]
    assert len(set(modes)) == 2
    state = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()

    wrapped(network, num_classes=3, example=torch.rand(4, 2, 8, 8, generator=torch.Generator()), time_axis=None)

    assert [module.training for module in network.modules()] == modes
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_dry_pass_that_fails_leaves_no_trace_either() -> None:
    network = Noisy()
    random = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="to have 2 channels"):
        wrapped(network, num_classes=3, example=torch.zeros(4, 3, 8, 8), time_axis=None)
    assert all(module.training for module in network.modules())
    assert hooks(network) == 0
    assert torch.equal(torch.get_rng_state(), random)


def test_initialising_branches_preserves_the_random_state() -> None:
    def build(seed: int) -> Shortcut:
        torch.manual_seed(seed)
        network = small()
        random = torch.get_rng_state()
        model = wrapped(network, num_classes=3)
        assert torch.equal(torch.get_rng_state(), random)
        return model

    weights = [build(seed).branches[0].classifier.weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_frozen_networks_and_normalisation_stay_frozen() -> None:
    network = small()
    model = wrapped(network, num_classes=3)
    network.requires_grad_(False).eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    sum(logits.sum() for logits in model(torch.rand(4, 3, 8, 8)).branches).backward()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert model.branches[0].classifier.weight.grad.abs().sum() > 0
