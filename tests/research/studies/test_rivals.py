"""The initialisations of research/studies/rivals.py: what their papers say of weights, neurons and gradients holds."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from research.studies import claim, rivals
from shortcut_snn.neurons import LIF, Triangle, use_backend

TINY = ["--set", "network.width=2", "network.time_steps=2", "data.batch_size=100", "training.precision=fp32"]


def network(kind: type[rivals.NormFreeResNet], block: str = "basic") -> rivals.NormFreeResNet:
    rivals.LSUVResNet.images = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    neuron = rivals.AdaptiveLIF if kind is rivals.SpikeInitResNet else LIF
    torch.manual_seed(0)
    make_neuron = partial(neuron, 0.25, surrogate=Triangle())
    return kind((1, 1, 1), 10, 2, width=16, block=block, make_neuron=make_neuron)  # type: ignore[arg-type]


def test_lsuv_gives_each_convolution_a_variance_of_1() -> None:
    new, deviations = network(rivals.LSUVResNet), []
    for module in new.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda layer, inputs, output: deviations.append(output.std().item()))
    new(rivals.LSUVResNet.images)
    assert len(deviations) == 9
    assert deviations == pytest.approx([1.0] * 9, rel=1e-4)


def test_weights_of_micheli_have_the_variance_of_the_paper() -> None:
    new = network(rivals.MicheliResNet)
    weight = new.get_submodule("layer3.0.conv2").weight
    # P(u > 1) of a standard normal u is 0.15866.
    assert isinstance(weight, torch.Tensor)
    assert weight.var().item() == pytest.approx(1 / (64 * 9 * 0.15866), rel=0.03)


@pytest.mark.parametrize(("decay", "threshold", "time_steps"), [(0.25, 1.0, 2), (0.5, 0.5, 4)])
def test_spikeinit_keeps_the_firing_rate_and_the_gradient(decay: float, threshold: float, time_steps: int) -> None:
    formulas = rivals.spikeinit(decay, threshold, 0.1, time_steps)
    spikes = (torch.rand(time_steps, 400, 512) < 0.1).float()
    weight = torch.randn(512, 400) * formulas.gain / 512**0.5
    surrogate = rivals.PiecewiseExponential(formulas.height)
    current = (spikes @ weight).requires_grad_()
    fired = LIF(decay, threshold, surrogate=surrogate, detach_reset=True)(current)
    assert fired[-1].mean().item() == pytest.approx(0.1, abs=0.015)
    later = torch.randn_like(fired)
    (gradient,) = torch.autograd.grad(fired, current, later)
    # Back through the weights the gradient has the variance that it came with.
    assert (gradient @ weight.T * (400 / 512) ** -0.5).var().item() == pytest.approx(later.var().item(), rel=0.25)
    constant = torch.randn(1, 100_000).expand(time_steps, -1) * formulas.first_gain
    assert LIF(decay, threshold)(constant)[-1].mean().item() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("block", ["basic", "sew", "ms"])
def test_an_adaptive_neuron_is_a_lif_neuron_with_another_surrogate(block: str) -> None:
    current = torch.randn(3, 2, 4, 5, 5)
    adaptive, lif = rivals.AdaptiveLIF(0.5), LIF(0.5)
    assert torch.equal(adaptive(current), lif(current))
    new = network(rivals.SpikeInitResNet, block)
    new(torch.randn(8, 3, 16, 16)).square().sum().backward()
    gains = [module.gain for module in new.modules() if isinstance(module, rivals.AdaptiveLIF)]
    assert {gain.numel() for gain in gains} == {16, 32, 64}
    assert all(gain.grad is not None for gain in gains)


def test_norms_stay_as_they_are_and_kernels_compute_their_gradients() -> None:
    new, x = network(rivals.LSUVResNet).train(), torch.randn(8, 3, 16, 16)
    gradients = []
    for backend in ("auto", "eager"):
        new.zero_grad()
        with use_backend(backend):
            nn.functional.cross_entropy(new(x), torch.arange(8)).backward()  # type: ignore[no-untyped-call]
        gradients.append([parameter.grad.clone() for parameter in new.parameters() if parameter.grad is not None])
    for kernel, eager in zip(*gradients, strict=True):
        torch.testing.assert_close(kernel, eager, rtol=1e-4, atol=1e-5)
    norms = [module for module in new.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert torch.equal(norm.running_mean, torch.zeros(norm.num_features))
        assert torch.equal(norm.running_var, torch.ones(norm.num_features))


@pytest.mark.filterwarnings("ignore:::lightning")
def test_rivals_train_and_are_rows_of_a_table(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "TABLES", dict(claim.TABLES))
    names = ["34-basic-lsuv", "34-ms-spikeinit"]
    command = [str(tmp_path), "--data", str(data), "--only", *names, "--threads", "1", "--rates", "0.1"]
    # Residuals of 0 pass back no gradient at the first step.
    assert rivals.main([*command, "--seeds", "1", "--epochs", "1", "--dead", *TINY]) == 0
    table = (tmp_path / "rivals.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in table[1:]] == names
