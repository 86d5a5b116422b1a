"""The wrapper: what it computes around networks of every make."""

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from shortcut_snn import LossSum, attach
from shortcut_snn.method import Layout, Shortcut
from shortcut_snn.method.heads import pool
from shortcut_snn.method.method import METHODS

from .toys import Recurrent, Staged, hooks, small
from .wrapped import wrapped


def test_a_branch_is_a_linear_layer_on_the_pooled_tap() -> None:
    network, x = Staged(), torch.randn(6, 2, 4)
    model = wrapped(network, ["layer2", "layer1"], num_classes=3, example=x)
    output = model(x)
    first = network.layer1(x)
    for branch, features, logits in zip(model.branches, [network.layer2(first), first], output.branches, strict=True):
        assert torch.equal(logits, branch.classifier(pool(features, 0)))
    assert torch.equal(output.main, network(x))


def test_the_first_entry_of_a_tuple_is_tapped() -> None:
    network, x = Recurrent(), torch.randn(5, 2, 4)
    model = wrapped(network, ["pair"], num_classes=3, example=x)
    torch.testing.assert_close(model(x).branches[0], model.branches[0](network.pair(x)[0].mean(0)))


def test_an_output_without_an_obvious_tensor_needs_extract() -> None:
    network, x = Recurrent(), torch.randn(5, 2, 4)
    with pytest.raises(TypeError, match="extract="):
        wrapped(network, ["named"], num_classes=3, example=x)
    assert hooks(network) == 0
    model = wrapped(network, ["named"], num_classes=3, example=x, extract=lambda output: output["spikes"])
    expected = model.branches[0](network.named(network.pair(x)[0])["spikes"].mean(0))
    torch.testing.assert_close(model(x).branches[0], expected)


def test_in_eval_mode_no_branch_is_computed() -> None:
    model = wrapped(small(), num_classes=3)
    calls = []
    for branch in model.branches:
        branch.register_forward_hook(lambda *_: calls.append(1))
    images = torch.rand(2, 3, 8, 8)
    assert model.eval()(images).branches == ()
    assert not calls
    assert len(model.train()(images).branches) == len(calls) == 3


def test_the_loss_is_of_the_wrappers_output() -> None:
    network, x, labels = Staged(), torch.randn(6, 2, 4), torch.tensor([0, 1])
    model = wrapped(network, ["layer1"], num_classes=3, example=x)
    model.method = METHODS["loss_sum"]
    for swapped in ((network(x).mean(0), labels), (labels, model(x))):
        with pytest.raises(TypeError, match=r"the output is a Tensor, not the wrapper's: pass model\(x\) first"):
            model.loss(*swapped, 0, 10)


def test_a_method_is_set_by_name_but_not_without_its_gradient() -> None:
    model = wrapped(small(), num_classes=3)
    model.method = "loss_sum"
    assert model.method is METHODS["loss_sum"]
    with pytest.raises(ValueError, match="only attach and wrap can set the gradient mechanism"):
        model.method = "sltt"
    truncated = Shortcut(small(), Layout(), method=METHODS["sltt"])
    with pytest.raises(ValueError, match="only attach and wrap can set the gradient mechanism"):
        truncated.method = "vanilla"


def test_layers_frozen_after_wrapping_are_named() -> None:
    network, x = Staged(), torch.randn(6, 2, 4)
    model = wrapped(network, ["layer1", "layer2"], num_classes=3, example=x)
    network.layer1.requires_grad_(False)
    with pytest.warns(UserWarning, match="the branches of layer1 train nothing, since all layers before"):
        model(x)


def test_a_classifier_that_was_replaced_is_named() -> None:
    model = attach(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), ["1"], example=torch.rand(2, 4))
    model.network[2] = nn.Linear(5, 7)
    with pytest.raises(ValueError, match=r"gives 7 classes and its layout says 3: .*attach the network again"):
        model(torch.rand(2, 4))


def test_no_taps_is_vanilla() -> None:
    model = wrapped(Staged(), [], num_classes=3)
    x = torch.randn(2, 3, 4)
    output = model(x)
    assert output.branches == ()
    assert torch.equal(output.main, model.network(x))
    assert list(model.state_dict()) == [f"network.{key}" for key in model.network.state_dict()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_branches_follow_the_dtype_of_the_network(dtype: torch.dtype) -> None:
    model = wrapped(small().to(dtype), num_classes=3)
    output = model(torch.rand(2, 3, 8, 8, dtype=dtype))
    assert {logits.dtype for logits in (output.main, *output.branches)} == {dtype}
    sum(logits.sum() for logits in output.branches).backward()
    assert model.branches[0].classifier.weight.grad.dtype == dtype


def test_mixed_precision() -> None:
    model = wrapped(small(), num_classes=3)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.rand(4, 3, 8, 8))
        loss = sum(logits.float().square().sum() for logits in (output.main, *output.branches))
    loss.backward()
    assert model.network.stem.conv.weight.grad.isfinite().all()
    assert model.branches[0].classifier.weight.grad.dtype == torch.float32


def test_without_an_example_the_message_asks_for_one() -> None:
    network = Staged()
    with pytest.raises(ValueError, match=r"pass example=\.\.\..*Staged has no example_input\(\)"):
        wrapped(network, num_classes=3)
    assert hooks(network) == 0


def test_spikingjellys_own_reset_takes_the_wrapper_too() -> None:
    net = nn.Sequential(nn.Linear(4, 5), neuron.LIFNode(step_mode="m"), nn.Linear(5, 3))
    x = torch.rand(2, 6, 4)
    for reset in ("auto", None):
        model = attach(net, ["1"], example=x, reset=reset)
        model(x)
        functional.reset_net(model)
        assert net[1].v == 0.0


def test_a_replica_of_data_parallel_is_refused() -> None:
    model = wrapped(small("resnet18", num_classes=5, time_steps=2), num_classes=5)
    (replica,) = [model._replicate_for_data_parallel()]
    with pytest.raises(RuntimeError, match="use DistributedDataParallel"):
        replica(torch.rand(2, 3, 8, 8))


def test_a_network_in_data_parallel_is_refused() -> None:
    net = nn.DataParallel(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)))
    with pytest.raises(ValueError, match=r"outside DataParallel: wrap its \.module"):
        attach(net, example=torch.rand(2, 4))


@pytest.mark.parametrize("given", [{}, {"labels": torch.rand(5)}])
def test_one_number_for_each_sample_is_compared_with_one(given: dict[str, Tensor]) -> None:
    layers = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)]
    x, targets, criterion = torch.rand(5, 6), torch.rand(5), nn.functional.mse_loss
    model = attach(nn.Sequential(*layers), ["1", "2"], readout=None, example=x, **given)
    output = model(x)
    assert {each.shape for each in (output.main, *output.branches)} == {(5,)}
    expected = sum(criterion(each, targets) for each in (output.main, *output.branches))
    torch.testing.assert_close(LossSum()(output, targets, 1.0, criterion), expected)
