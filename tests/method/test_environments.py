"""What networks go through in training: copies, files, averages, conversions, compilers, recomputation."""

import copy
import io

import pytest
import torch
from safetensors.torch import load_file, save_file
from spikingjelly.activation_based import layer, memopt, neuron
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet18

from shortcut_snn import LossSum, Shortcut, attach

from .peers import LABELS, PEERS, Peer, frames, spikingjelly
from .toys import hooks

peers = pytest.mark.parametrize("peer", [PEERS[name] for name in ("spikingjelly m", "snntorch hidden", "norse step")])


def wrap(peer: Peer, example: Tensor) -> Shortcut:
    return attach(peer.make(), peer.taps, example=example, **peer.said)


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    LossSum()(model(x), LABELS, 0.5).backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def assert_same(got: list[Tensor], expected: list[Tensor], **tolerance: float) -> None:
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, **{"rtol": 0, "atol": 0} | tolerance)


@peers
def test_copies_after_a_backward_pass_and_in_the_middle_of_one(peer: Peer) -> None:
    x = frames()
    model = wrap(peer, x)
    output = model(x)
    # A state with a graph, as the network alone leaves it.
    model.network(x if not peer.looped else x[0])
    twin = copy.deepcopy(model)
    LossSum()(output, LABELS, 0.5).backward()
    assert_same(gradients(twin, x), [parameter.grad for parameter in model.parameters()])
    assert hooks(twin.strip()) == 0
    assert hooks(model.network) == 1


@peers
def test_weights_go_through_safetensors_and_weights_only(peer: Peer, tmp_path) -> None:
    x = frames()
    model, other = wrap(peer, x), wrap(peer, x)
    gradients(model, x)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(x).branches[0], model(x).branches[0])

    file = io.BytesIO()
    torch.save(model.strip(check=x).state_dict(), file)
    file.seek(0)
    plain = peer.make()
    plain.load_state_dict(torch.load(file, weights_only=True))
    for one, two in zip(plain.state_dict().values(), model.network.state_dict().values(), strict=True):
        assert torch.equal(one, two)


@peers
def test_an_exponential_moving_average_of_the_wrapper(peer: Peer) -> None:
    x = frames()
    model = wrap(peer, x)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    start = [parameter.detach().clone() for parameter in model.parameters()]
    average.update_parameters(model)
    gradients(model, x)
    # A batch of another size is averaged in as well.
    model(frames(5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    average.update_parameters(model)
    assert_same(list(average.parameters()), [parameter + 0.5 for parameter in start], rtol=1e-6, atol=1e-6)
    average.eval()
    assert torch.isfinite(average(x).main).all()
    assert list(average.module.network.state_dict()) == list(model.network.state_dict())


def test_a_copy_of_a_compiled_wrapper_has_its_own_weights() -> None:
    model = attach(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), ["1"], example=torch.rand(2, 4))
    model.compile(backend="eager")
    twin, x = copy.deepcopy(model), torch.rand(2, 4)
    model.network[0].weight.data.zero_()
    assert not torch.equal(twin(x).main, model(x).main)
    twin(x).main.sum().backward()
    assert model.network[0].weight.grad is None
    assert twin.network[0].weight.grad.any()


def test_taps_follow_modules_that_a_conversion_replaces() -> None:
    images = torch.rand(4, 3, 32, 32)
    model = attach(resnet18(num_classes=3), ["layer1.0.bn1", "layer2"], example=images)
    keys, twin = list(model.state_dict()), copy.deepcopy(model)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert isinstance(model.network.layer1[0].bn1, nn.SyncBatchNorm)
    # Without a process group it normalises as the one that it replaces.
    expected, got = twin(images), model(images)
    assert torch.equal(got.main, expected.main)
    assert all(torch.equal(a, b) for a, b in zip(got.branches, expected.branches, strict=True))
    assert list(model.state_dict()) == keys
    assert hooks(model.strip()) == 0


def test_a_compiled_wrapper_has_the_same_gradients() -> None:
    torch._dynamo.reset()
    x = 10 * torch.rand(3, 2, 4)
    # Few operators, for compilers take long.
    network = nn.Sequential(
        nn.Linear(4, 5), neuron.LIFNode(step_mode="m"), nn.Linear(5, 3), neuron.LIFNode(step_mode="m")
    )
    model = attach(network, ["1"], example=x, batch_axis=1)
    expected, twin = gradients(model, x), copy.deepcopy(model)
    assert expected[0].any()
    called = torch.compile(twin, backend="aot_eager")
    for _ in range(2):
        assert_same(gradients(called, x), expected, rtol=1e-4, atol=1e-6)
    assert list(twin.state_dict()) == list(model.state_dict())
    assert called.eval()(x).branches == ()


class Recomputing(nn.Module):
    """Stages that are computed again in the backward pass."""

    def __init__(self, network: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.stage1, self.stage2, self.head = network.stage1, network.stage2, network.head
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        # Both stages in one: the tap is inside of what is recomputed.
        return self.head(checkpoint(lambda y: self.stage2(self.stage1(y)), x, use_reentrant=self.reentrant))


def test_recomputed_stages_start_from_the_initial_state() -> None:
    network, x = spikingjelly("m"), 3 * frames()
    model = attach(network, example=x)
    recomputing = attach(Recomputing(copy.deepcopy(network), reentrant=False), example=x)
    expected = gradients(model, x)
    assert max(gradient.abs().max() for gradient in expected[:3]) > 0
    recomputing.branches.load_state_dict(model.branches.state_dict())
    for _ in range(2):
        assert_same(gradients(recomputing, x), expected)
    # The second pass left a state behind, which neither a copy nor a check minds.
    copy.deepcopy(recomputing).strip(check=x)


def test_a_tap_that_no_gradient_passes_is_refused() -> None:
    x = frames()
    for taps, message in ((["stage1"], r"through the tap 'stage1'.*reentrant=True"), ("auto", "reentrant=False")):
        with pytest.raises(ValueError, match=f"no gradient comes .*{message}"):
            attach(Recomputing(spikingjelly("m"), reentrant=True), taps, example=x)
    model = attach(Recomputing(spikingjelly("m"), reentrant=False), example=x)
    model.network.reentrant = True
    with pytest.raises(RuntimeError, match=r"the tap 'stage1' runs without gradients.*use_reentrant=False"):
        model(x.requires_grad_())
    with torch.no_grad():
        assert len(model(x).branches) == 1


def test_spikingjellys_own_recomputation() -> None:
    network, x = spikingjelly("m"), 3 * frames()
    model = attach(network, example=x)
    optimised = attach(copy.deepcopy(network), example=x)
    optimised.branches.load_state_dict(model.branches.state_dict())
    memopt.optimize_memory(optimised.network, (layer.Conv2d,), lambda network: network(x), level=1)
    assert_same(gradients(optimised, x), gradients(model, x), rtol=1e-5, atol=1e-7)
