"""Any network in one call: all of a method by its name, and spikes kept as bits in any library's layers."""

import copy
import warnings
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

import shortcut_snn
from shortcut_snn import LossSum, attach, diagnose
from shortcut_snn.method import Readout
from shortcut_snn.method.method import METHODS
from shortcut_snn.neurons import LIF, ATan
from shortcut_snn.recipes import recipe_of
from shortcut_snn.recipes.entries import PRESETS

from .deep_peers import DEEP, digits, spikingjelly
from .introspection.zoo import ZOO

READ = ("snntorch hidden", "norse cells")
"""Networks of libraries without a convention for real values of every time step."""


@pytest.mark.parametrize("case", ["spikingjelly m", "spikingjelly s", *READ])
def test_a_method_that_initialises_trains_a_network_of_any_library(case: str) -> None:
    network, (x, labels), lines = DEEP[case](), digits(), list[str]()
    keys = list(network.state_dict())
    options: dict[str, Any] = {"readout": "mean"} if case in READ else {}
    model = attach(network, method="initialised_loss_sum", example=x, labels=labels, log=lines.append, **options)
    assert model.method == METHODS["initialised_loss_sum"]
    assert len(model.branches) == 3
    assert lines[1].startswith("initialised: 0 norms and ")
    assert ("its surrogate cannot be scaled" in lines[1]) == (case == "norse cells")
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=0.01), []
    for step in range(20):
        output = model(x)
        losses.append(nn.functional.cross_entropy(output.main, labels).item())
        optimizer.zero_grad()
        model.loss(output, labels, step, 20).backward()
        optimizer.step()
    assert losses[-1] < 0.92 * losses[0]
    assert model.strip(check=x) is network
    assert list(network.state_dict()) == keys
    # Surrogates stay as they were set: they are no part of what a network computes.
    modules = dict(network.named_modules())
    for name, entries in model.initialisation.surrogates.items():
        function = getattr(modules[name], "surrogate_function", None) or modules[name].spike_grad
        assert function.factor == entries["factor"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_applied_or_refused(name: str) -> None:
    network, (x, labels) = spikingjelly("m"), digits()
    hooks = sum(len(module._forward_hooks) for module in network.modules())
    if name in ("tdbn", "sew", "ms", "sltt"):
        with pytest.raises(ValueError, match=r"changes the network|use bptt"):
            attach(network, method=name, example=x, labels=labels)
        assert sum(len(module._forward_hooks) for module in network.modules()) == hooks
        return
    method = recipe_of(name).method
    model = attach(network, method=name, example=x, labels=labels)
    assert model.method == method
    assert bool(model.branches) == (method.branches is not None)
    assert model.branch_weight(1, 4) == (0.0 if method.branches is None else method.branches.branch_weight(1, 4))
    output = model(x)
    assert output.main.shape == ((4, 64, 10) if name in ("tet", "stages_and_steps") else (64, 10))
    model.loss(output, labels, 0, 1).backward()
    assert network[0].weight.grad.any()


def test_blocks_need_stages_that_span_the_network() -> None:
    one = spikingjelly("m")
    network = nn.Sequential()
    for number in range(3):
        stage = nn.Sequential(*(nn.Sequential(*one[4 * number + 2 * i : 4 * number + 2 * i + 2]) for i in range(2)))
        network.add_module(f"layer{number + 1}", stage)
    network.head = one[-1]
    x, labels = digits()
    model = attach(network, method="initialised_loss_sum", example=x, labels=labels)
    assert model.taps.names == ["layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0"]
    transformer = ZOO["spikformer"]
    model = attach(transformer.make(), method="loss_sum", example=transformer.example(), labels=torch.tensor([0, 1]))
    assert model.taps.names == ["blocks.0", "blocks.1"]


def test_missing_arguments_raise() -> None:
    network, (x, _) = spikingjelly("m"), digits()
    with pytest.raises(ValueError, match="labels="):
        attach(network, method="initialised", example=x)
    with pytest.raises(ValueError, match="did you mean initialised"):
        attach(network, method="initialized", example=x)
    with pytest.raises(ValueError, match="no branches"):
        attach(network, ["1"], method="vanilla", example=x)
    with pytest.raises(TypeError, match="it is now log"):
        attach(network, example=x, tell=print)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="example="):
        attach(network, x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="every time step, which Means"):
        attach(Means(network), method="tet", example=x)
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_is_compiled_after_it_is_attached() -> None:
    network, options = (
        numbers_of(3),
        {"method": "loss_sum", "example": SEQUENCES[0], "labels": LOSSES["classes"][0] % 3},
    )
    with pytest.raises(ValueError, match=r"compiled already: attach net\._orig_mod"):
        attach(torch.compile(network, backend="eager"), **options)
    in_place = copy.deepcopy(network)
    in_place.compile(backend="eager")
    with pytest.raises(ValueError, match=r"compiled already: leave net\.compile\(\) out"):
        attach(in_place, **options)
    assert attach(network, **options).taps.names == ["1"]


def test_a_method_of_every_step_needs_no_readout_over_time() -> None:
    options: dict[str, Any] = {"example": SEQUENCES, "labels": torch.arange(5) % 4, "log": len}
    with pytest.raises(ValueError, match="real values of every time step"):
        attach(Recurrent(), method="loss_sum", **options)
    assert attach(Recurrent(), method="tet", **options)(SEQUENCES).main.shape == (7, 5, 4)


class Means(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).mean(0)


@pytest.mark.parametrize("kind", ["of ours", "SpikingJelly's"])
@pytest.mark.parametrize("given", ["dictionary", "as arguments", "as names"])
def test_initialisation_takes_several_inputs_or_a_dictionary(kind: str, given: str) -> None:
    def fires() -> nn.Module:
        if kind == "of ours":
            return LIF(surrogate=ATan())
        return neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="m")

    class Layers(nn.Sequential):
        def forward(self, x: Any, gain: Any = None) -> Tensor:
            return super().forward(x["image"] if gain is None else x * gain)

    network = Layers(*(layer for _ in range(4) for layer in (nn.Linear(20, 20), fires())), nn.Linear(20, 3))
    x, gain = 9 * torch.rand(4, 8, 20), torch.tensor(2.0)
    examples = {"dictionary": {"image": x}, "as arguments": (x, gain), "as names": {"x": x, "gain": gain}}
    model = attach(network, method="initialised", example=examples[given], labels=torch.arange(8) % 3)
    assert list(model.initialisation.surrogates) == ["1", "3", "5", "7"]


class Forecaster(nn.Module):
    """Predicts the next 3 steps of 2 variables."""

    def __init__(self) -> None:
        super().__init__()
        self.past, self.between, self.ahead = nn.GRU(2, 16, 2, batch_first=True), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.ahead(self.between(self.past(x)[0]).relu())[:, -3:]


class StepwiseForecaster(Forecaster):
    """The forecast of each time step of its neurons: ``[T, N, steps, variables]``."""

    def forward(self, x: Tensor) -> Tensor:
        forecast = super().forward(x)
        return torch.stack([forecast * (1 + step) for step in range(4)])


class VariableByVariable(nn.Module):
    """Variables lie in the axis of samples in between: ``[N, 8 steps, 2 variables]`` to 3 steps of them."""

    def __init__(self) -> None:
        super().__init__()
        self.folded = nn.Sequential(nn.Linear(8, 6), nn.ReLU())
        self.ahead = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.ahead(self.folded(x.transpose(1, 2).flatten(0, 1))).unflatten(0, (-1, 2)).transpose(1, 2)


def test_a_forecast_of_every_time_step_is_known_by_its_targets() -> None:
    x, target = torch.rand(5, 8, 2), torch.rand(5, 3, 2)
    lines: list[str] = []
    model = attach(
        StepwiseForecaster(), ["between"], example=x, labels=target, step_axis=None, readout="mean", log=lines.append
    )
    assert "output averaged over axis 0, 3 x 2" in lines[0]
    output = model(x)
    torch.testing.assert_close(output.main, model.network(x).mean(0))
    assert output.branches[0].shape == target.shape


def test_a_tap_with_other_samples_than_a_forecast_is_refused() -> None:
    with pytest.raises(ValueError, match="gives 10 samples where the network gives 5"):
        attach(
            VariableByVariable(),
            ["folded"],
            example=torch.rand(5, 8, 2),
            labels=torch.rand(5, 3, 2),
            time_axis=None,
            step_axis=None,
        )


def test_targets_identify_a_forecast_and_branches_predict_all_of_it() -> None:
    x, target, network = torch.rand(5, 8, 2), torch.rand(5, 3, 2), Forecaster()
    with pytest.raises(ValueError, match="readout=None if it is"):
        attach(network, ["between"], example=x)
    lines: list[str] = []
    with pytest.raises(
        ValueError, match=r"pass step_axis=2 if .*or step_axis=None, so that they predict all values at"
    ):
        attach(network, ["between"], example=x, labels=target)
    model = attach(network, ["between"], example=x, labels=target, step_axis=None, log=lines.append)
    assert "output, 3 x 2" in lines[0]
    output = model(x)
    assert [branch.shape for branch in output.branches] == [(5, 3, 2)]
    LossSum()(output, target, 0.25, nn.functional.mse_loss).backward()
    assert model.branches[0].classifier.weight.grad.abs().min() > 0
    # Through the branch alone.
    network.zero_grad()
    model(x).branches[0].sum().backward()
    assert network.past.weight_ih_l0.grad.abs().sum() > 0
    options = {"method": "loss_sum", "criterion": nn.functional.mse_loss, "step_axis": None}
    shaped = attach(network, ["between"], example=x, labels=target, log=lines.append, **options)
    assert shaped(x).branches[0].shape == (5, 3, 2)
    # A head that keeps an axis of space is left to do so.
    places = nn.Sequential(nn.Conv1d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 4, 3, padding=1))
    target = torch.rand(5, 4, 6)
    for head, numbers in (("dense", 4), ("linear", 24)):
        model = attach(places, ["1"], example=torch.rand(5, 2, 6), labels=target, head=head, step_axis=None, log=len)
        assert model.branches[0].classifier.out_features == numbers
        assert model(torch.rand(5, 2, 6)).branches[0].shape == target.shape


class Recurrent(nn.Module):
    """Leaky neurons over ``[T, N, 6]``, with the numbers of every step or their mean."""

    def __init__(self, outputs: int = 4, mean: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, outputs)
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        v, logits = torch.zeros(()), []
        for step in x:
            v = 0.5 * v + self.first(step)
            logits.append(self.head(self.second(v.relu()).relu()))
        return torch.stack(logits).mean(0) if self.mean else torch.stack(logits)


SEQUENCES = torch.rand(7, 5, 6)


@pytest.mark.parametrize("method", ["loss_sum", "shortcut", "distillation"])
def test_a_method_takes_class_labels_of_every_step(method: str) -> None:
    labels, lines = torch.arange(35).view(7, 5) % 4, list[str]()
    model = attach(
        Recurrent(), method=method, example=SEQUENCES, labels=labels, batch_axis=1, step_axis=0, log=lines.append
    )
    out, merged = model(SEQUENCES), nn.functional.cross_entropy
    assert out.main.shape == out.branches[0].shape == (7, 5, 4)
    loss = model.weighted_loss(out, labels, 0.0)
    torch.testing.assert_close(loss, merged(out.main.flatten(0, 1), labels.flatten()))
    model.weighted_loss(out, labels, 0.5).backward()
    assert model.network.first.weight.grad.any()
    assert "cross_entropy of every time step" in lines[0]


@pytest.mark.parametrize(
    ("method", "shape", "message"),
    [
        ("loss_sum", (5, 7), r"targets \[5, 7\] are not .* output \[7, 5, 4\]: pass labels.transpose\(0, 1\)"),
        ("tet", (7, 5), "labels of every time step have a loss at each step already: use a method such as loss_sum"),
        ("stages_and_steps", (7, 5), "labels of every time step have a loss at each step already"),
    ],
)
@pytest.mark.parametrize("merged", [False, True])
def test_labels_of_every_step_that_do_not_fit_are_refused(method: str, shape: Any, message: str, merged: bool) -> None:
    network, labels = Merged() if merged else Recurrent(), torch.arange(35).view(shape) % 4
    with pytest.raises(ValueError, match=message):
        attach(network, method=method, example=SEQUENCES, labels=labels, batch_axis=1, step_axis=0, log=len)
    assert not any(module._forward_hooks for module in network.modules())


class Merged(Recurrent):
    """Time and samples share an axis in the output."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(0, 1)


# Labels of [T, N, 7, 5, 6]'s 5 samples, the outputs of the network, and the loss that a preset takes.
LOSSES: dict[str, tuple[Tensor, int, Any]] = {
    "numbers": (torch.randn(5, 4), 4, nn.functional.mse_loss),
    "probabilities": (torch.tensor([[0.2, 0.3, 0.1, 0.4]]).expand(5, 4), 4, nn.functional.cross_entropy),
    "one-hot classes": (torch.eye(4)[torch.arange(5) % 4], 4, None),
    "classes": (torch.arange(5) % 4, 4, nn.functional.cross_entropy),
    "zeros and ones": (torch.tensor([[0.0, 1.0, 1.0, 0.0]]).expand(5, 4), 4, None),
    "flags": (torch.tensor([[0, 1, 1, 0]]).expand(5, 4), 4, None),
    "numbers from 0 to 1": (torch.rand(5, 4), 4, None),
    "one output": (torch.arange(5) % 2, 1, None),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_method_takes_the_loss_that_the_labels_leave_no_choice_of(case: str) -> None:
    labels, outputs, criterion = LOSSES[case]
    network, options = Recurrent(outputs, mean=True), {"example": SEQUENCES, "labels": labels, "log": len}
    if criterion is None:
        with pytest.raises(ValueError, match="criterion="):
            attach(network, method="loss_sum", batch_axis=1, **options)
        assert not any(module._forward_hooks for module in network.modules())
        criterion = nn.functional.l1_loss
        options["criterion"] = criterion
        labels = labels.view(5, -1).float()
    model = attach(network, method="loss_sum", batch_axis=1, **options)
    out = model(SEQUENCES)
    expected = criterion(out.main, labels) + 0.5 * sum(criterion(branch, labels) for branch in out.branches)
    torch.testing.assert_close(model.weighted_loss(out, labels, 0.5), expected)
    # The labels as they were passed, which may be integers without an axis for the only output.
    torch.testing.assert_close(model.weighted_loss(out, options["labels"], 0.5), expected)


def numbers_of(outputs: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs), *last)


@pytest.mark.parametrize("last", [(), (nn.Flatten(0),)])
@pytest.mark.parametrize("axes", [(5,), (5, 1)])
@pytest.mark.parametrize("criterion", ["auto", nn.functional.mse_loss, nn.MSELoss()])
@pytest.mark.filterwarnings("error:Using a target size")
def test_one_number_of_each_sample_is_never_broadcast(last: Any, axes: Any, criterion: Any) -> None:
    x, labels = SEQUENCES[0], 25 + 100 * torch.rand(5)
    options = {"readout": None} if last else {}
    model = attach(
        numbers_of(1, *last), ["1"], method="loss_sum", example=x, labels=labels.view(axes), criterion=criterion,
        log=len, **options,
    )  # fmt: skip
    output = model(x)
    main, branch = (one.view(5) for one in (output.main, output.branches[0]))
    expected = (main - labels).square().mean() + 0.5 * (branch - labels).square().mean()
    torch.testing.assert_close(model.weighted_loss(output, labels.view(axes), 0.5), expected)


def test_labels_and_losses_that_do_not_fit_are_refused_before_training() -> None:
    x, network = SEQUENCES[0], numbers_of(3)
    with pytest.raises(ValueError, match=r"targets \[5\] do not fit the output \[5, 3\]: .*pass labels=.*criterion="):
        attach(network, ["1"], method="loss_sum", example=x, labels=9 * torch.rand(5), log=len)
    bounded, flags = numbers_of(3, nn.Sigmoid()), (torch.rand(5, 3) > 0.5).float()
    options = {"method": "loss_sum", "example": 99 * x, "labels": flags, "log": len}
    with pytest.raises(ValueError, match=r"between 0 and 1.*criterion=.*logits"):
        attach(bounded, ["1"], criterion=nn.functional.binary_cross_entropy, readout=None, **options)
    for one in (network, bounded):
        assert not any(module._forward_hooks for module in one.modules())


@pytest.mark.parametrize("layouts_own", [False, True])
def test_a_criterion_is_kept_without_labels_and_wins_over_that_of_a_layout(layouts_own: bool) -> None:
    network, x, loss = numbers_of(3), SEQUENCES[0], nn.functional.mse_loss
    layout = attach(network, ["1"], example=x, criterion=loss if layouts_own else "auto", log=len).layout
    assert layout.criterion is (loss if layouts_own else None)
    assert attach(network, layout=layout, example=x, log=len).layout.criterion is layout.criterion
    layout = attach(network, layout=layout, example=x, criterion=nn.functional.l1_loss, log=len).layout
    assert layout.criterion is nn.functional.l1_loss


def test_a_method_without_branches_ignores_the_taps_of_a_layout() -> None:
    network, options = numbers_of(3), {"example": SEQUENCES[0], "log": len}
    layout = attach(network, ["1"], **options).layout
    assert not attach(network, layout=layout, method="vanilla", **options).layout.taps


def test_the_printed_call_names_what_only_the_caller_knows() -> None:
    lines = list[str]()
    options: dict[str, Any] = {"channel_axis": -1, "extract": nn.Identity(), "criterion": nn.functional.mse_loss}
    attach(numbers_of(3), ["1"], example=SEQUENCES[0], time_axis=None, log=lines.append, **options)
    assert lines[0].endswith("time_axis=None, channel_axis=-1, extract=..., criterion=...)")


@pytest.mark.parametrize("case", ["spikingjelly m", "spikingjelly s", "snntorch hidden", "norse cells", "merged"])
def test_the_printed_call_repeats_the_layout(case: str) -> None:
    (x, labels), lines, make = digits(), list[str](), DEEP.get(case, Merged)
    options: dict[str, Any] = {"readout": "mean"} if case in READ else {}
    if case == "merged":
        x, labels, options = SEQUENCES, torch.arange(35).view(7, 5) % 4, {"batch_axis": 1, "step_axis": 0}
    layout = attach(make(), method="loss_sum", example=x, labels=labels, log=lines.append, **options).layout
    call = lines[0].splitlines()[-1].removeprefix("as a call:  ").removesuffix(")")
    names = {"attach": attach, "net": make(), "x": x, "labels": labels}
    again = eval(f"{call}, method='loss_sum', example=x, labels=labels, log=len)", names)
    assert str(again.layout.taps) == str(layout.taps)
    assert (again.layout.run, again.layout.readout, again.layout.num_classes) == (
        layout.run,
        layout.readout,
        layout.num_classes,
    )


class SpikesAndPotentials(nn.Module):
    """Returns both for every step, as loops of snnTorch do."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = Recurrent(3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        potentials = self.recurrent(x)
        return (potentials > 0).float(), potentials


def test_a_readout_says_which_of_two_outputs_tet_trains() -> None:
    x, labels, lines, network = SEQUENCES, torch.arange(5) % 3, list[str](), SpikesAndPotentials()
    options: dict[str, Any] = {"example": x, "labels": labels, "method": "tet"}
    with pytest.raises(ValueError, match="readout"):
        attach(network, readout="mean", log=len, **options)
    model = attach(network, readout=Readout(path=(1,), time_axis=0), log=lines.append, **options)
    potentials = network(x)[1]
    torch.testing.assert_close(model(x).main, potentials)
    torch.testing.assert_close(model.eval()(x).main, potentials.mean(0))
    call = lines[0].splitlines()[-1].removeprefix("as a call:  ").removesuffix(")")
    names = {"attach": attach, "net": network, "shortcut_snn": shortcut_snn, "options": options}
    assert eval(f"{call}, log=len, **options)", names).layout.readout == model.layout.readout


def test_a_batch_whose_axes_are_swapped_is_told() -> None:
    x, labels = SEQUENCES, torch.arange(5) % 3
    model = attach(Recurrent(3, mean=True), example=x, labels=labels, method="loss_sum", batch_axis=1, log=len)
    with pytest.warns(UserWarning, match=rf"{len(x)} samples and 5 time steps, .*transpose\(0, 1\)") as told:
        model(x.transpose(0, 1))
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for other in (x, x[:2], x[:, :4], x[:, : len(x)]):
            model(other)


@pytest.mark.parametrize("method", ["loss_sum", "initialised"])
def test_torchs_default_device_does_not_matter(method: str) -> None:
    x, labels = digits()
    network = spikingjelly("m")
    with torch.device("meta"):
        model = attach(network, example=x, labels=labels, method=method, log=len)
        diagnose(network, [(x, labels)])
    assert not any(tensor.is_meta for tensor in model.network.state_dict().values())
