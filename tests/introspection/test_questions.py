"""What attach refuses, each with a sentence that says what is wrong and what to pass."""

from collections.abc import Callable
from typing import Any

import pytest
import snntorch
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import LogitSum, attach, diagnose, initialise, load, measure_energy


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))


def spiking() -> nn.Sequential:
    def lif() -> nn.Module:
        return neuron.LIFNode(step_mode="m", v_threshold=0.3)

    return nn.Sequential(nn.Linear(6, 16), lif(), nn.Linear(16, 12), lif(), nn.Linear(12, 4))


class Losses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = layers()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.layers(x), y)


class Lists(nn.Module):
    """Alternatives in a list, beside a state and a regularisation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = layers()

    def forward(self, x: Tensor) -> Any:
        logits = self.layers(x.mean(1))
        return [logits, -logits], (logits.relu(),), torch.zeros(1)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = layers()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.layers(x).unsqueeze(1).expand(-1, 3, -1)}


class NeedsTargets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = layers()

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        if self.training and targets is None:
            raise ValueError("targets are missing")
        return self.layers(x)


def frozen_but_for_its_head() -> nn.Sequential:
    network = layers()
    network[:4].requires_grad_(False)
    return network


class Threshold(nn.Module):
    """A neuron of a network that was converted: spikes are compared, and multiplied with a trained threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return self.threshold * (x > self.threshold).float()


class Uncopyable(nn.Sequential):
    def __deepcopy__(self, memo: Any) -> Any:
        raise AttributeError("no weight")


def one_layer() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 64), neuron.LIFNode(step_mode="m"), nn.Linear(64, 4))


LABELS = torch.arange(5) % 4
STEPS = 6 * torch.rand(7, 5, 6)
NAN = torch.full((5, 6), torch.nan)
QUESTIONS: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "wrapped": (lambda: attach(layers(), example=torch.rand(5, 6), log=len), {}, "wrapped already.*strip"),
    "number": (lambda: 3, {}, "must be a torch.nn.Module, got int"),
    "nan": (layers, {"example": NAN}, "example has NaN"),
    "list of labels": (layers, {"labels": [0, 1, 2, 3, 0]}, "tensor, got list.*as_tensor.*such as boxes"),
    "one sample": (
        one_layer,
        {"example": torch.ones(1, 1, 6), "labels": LABELS[:1]},
        "one sample cannot be told from one step: pass 2 samples or more",
    ),
    "labels from 1": (layers, {"labels": LABELS + 1}, "labels go from 1 to 4, but.*4 classes, 0 to 3"),
    "labels of steps": (layers, {"labels": torch.zeros(5, 3, dtype=torch.long)}, "do not fit.*readout="),
    "not copied": (lambda: Uncopyable(*layers()), {}, r"copy.deepcopy\(net\) raises AttributeError: no weight"),
    "lengths": (layers, {"example": [torch.rand(4, 6), torch.rand(3, 6)]}, "different lengths.*padded tensor"),
    "bytes": (layers, {"example": torch.zeros(5, 6, dtype=torch.uint8)}, r"(?s)uint8.*float\(\) / 255"),
    "half": (lambda: layers().half(), {}, "example is torch.float32, the network torch.float16: convert one of them$"),
    "swapped": (spiking, {"example": torch.rand(6, 4, 6), "labels": torch.arange(6) % 4}, "labels of 6.*axis 1.*swap"),
    "loss": (Losses, {"example": (torch.rand(5, 6), LABELS)}, "single number, as of a loss"),
    "lists": (
        Lists,
        {"example": torch.rand(5, 7, 6)},
        r"output\[0\]\[0\] of shape \(5, 4\).*output\[1\]\[0\].*readout=",
    ),
    "named": (Named, {}, r"readout=lambda output: output\['logits'\]"),
    "training": (NeedsTargets, {}, "raises in training mode: targets are missing"),
    "frozen": (frozen_but_for_its_head, {}, r"weights that are trained.*taps=\[\]"),
    "nothing trains": (
        lambda: nn.Sequential(nn.Linear(6, 8), Threshold(), nn.Linear(8, 4)),
        {"taps": ["1"]},
        "no gradient comes through the tap '1'",
    ),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_a_sentence_says_what_is_wrong(case: str) -> None:
    make, options, message = QUESTIONS[case]
    options = {"example": torch.rand(5, 6), "labels": None, **options}
    with pytest.raises((ValueError, TypeError), match=message) as raised:
        attach(make(), **options)
    assert len(str(raised.value).split()) < 60


@pytest.mark.parametrize("function", [attach, diagnose, initialise, measure_energy])
def test_a_loaded_network_holds_the_module_that_is_asked_for(function: Any) -> None:
    x, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    args = {diagnose: ([(x, labels)],), initialise: (x, labels), measure_energy: ([x],)}.get(function, ())
    with pytest.raises(TypeError, match=r"must be a torch.nn.Module, got Inference: pass its \.network"):
        function(load("digits-resnet18"), *args)


def test_branches_lie_where_a_gradient_reaches_weights() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), Threshold(), nn.Linear(16, 12), Threshold(), nn.Linear(12, 4))
    x = torch.rand(5, 6)
    model = attach(network, example=x, labels=LABELS, log=len)
    sum(logits.square().sum() for logits in model(x).branches).backward()
    for name in model.taps.names:
        assert network.get_submodule(name).weight.grad.any()


def fires() -> nn.Module:
    return neuron.LIFNode(step_mode="m", v_threshold=0.3)


class Residual(nn.Module):
    """A block of SEW networks, whose layers are in containers."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.conv = nn.Sequential(*(part for one in layers for part in (layer.SeqToANNContainer(one), fires())))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


def contained() -> nn.Sequential:
    blocks = (Residual(), layer.SeqToANNContainer(nn.MaxPool2d(2)), Residual(), Residual())
    network = nn.Sequential()
    network.conv = nn.Sequential(layer.SeqToANNContainer(nn.Conv2d(2, 4, 1)), fires(), *blocks, nn.Flatten(2))
    network.out = nn.Linear(64, 4)
    return network


class Feedback(nn.Module):
    """A neuron of snnTorch that feeds back to itself: a branch does not belong on that connection."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 16), snntorch.RLeaky(beta=0.8, linear_features=16)
        self.fc2, self.lif2 = nn.Linear(16, 12), snntorch.RLeaky(beta=0.8, all_to_all=False, V=0.5)
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        (one, v), (other, w), total = self.lif1.init_rleaky(), self.lif2.init_rleaky(), torch.zeros(())
        for step in x:
            one, v = self.lif1(self.fc1(step), one, v)
            other, w = self.lif2(self.fc2(one), other, w)
            total = total + self.out(other)
        return total


def frozen_trunk() -> nn.Sequential:
    network = nn.Sequential()
    for number, sizes in enumerate(((6, 16), (16, 12), (12, 12)), 1):
        network.add_module(f"stage{number}", nn.Sequential(nn.Linear(*sizes), nn.ReLU()))
    network.stage1.requires_grad_(False)
    network.head = nn.Linear(12, 4)
    return network


PLACES: dict[str, tuple[Callable[[], nn.Module], Tensor, list[str]]] = {
    "containers": (contained, 6 * torch.rand(3, 5, 2, 8, 8), ["conv.2", "conv.4"]),
    "feedback": (Feedback, 6 * torch.rand(7, 5, 6), ["lif1"]),
    "frozen": (frozen_trunk, torch.rand(5, 6), ["stage2"]),
}


@pytest.mark.parametrize("case", PLACES)
@pytest.mark.parametrize("method", [None, "loss_sum"])
def test_branches_lie_after_blocks_neurons_and_trained_stages(case: str, method: str | None) -> None:
    make, x, names = PLACES[case]
    assert attach(make(), example=x, labels=LABELS, method=method, readout="mean", log=len).taps.names == names


class Integrated(nn.Module):
    """Neurons that never fire integrate the logits, as in deep Q-learning."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), neuron.IFNode(v_threshold=0.3), nn.Linear(16, 4))
        self.integrator = neuron.LIFNode(v_threshold=float("inf"))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(5):
            self.integrator(self.layers(x))
        return self.integrator.v


def test_no_branch_lies_after_the_last_layer() -> None:
    assert attach(Integrated(), example=torch.rand(5, 6), labels=LABELS, log=len).taps.names == ["layers.1"]


@pytest.mark.parametrize("make", [layers, spiking])
def test_few_passes_answer_all_questions(make: Callable[[], nn.Module]) -> None:
    passes: list[int] = []

    class Counted(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            passes.append(1)
            return super().forward(x)

    x, samples = torch.rand(5, 3, 6), 3 if make is spiking else 5
    model = attach(Counted(*make()), example=x, labels=torch.arange(samples) % 4, readout="mean", log=len)
    assert len(model.branches) > 0
    assert len(passes) <= 14
    LogitSum()(model(x), torch.zeros(samples, dtype=torch.long), 0.5).backward()


class Heads(nn.Module):
    """Two predictions of flags; or the potentials of every time step, of one number for each sample."""

    def __init__(self, potentials: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU())
        self.first, self.second, self.potentials = nn.Linear(12, 4), nn.Linear(12, 4), potentials

    def forward(self, x: Tensor) -> Any:
        if not self.potentials:
            return self.first(self.body(x)), self.second(self.body(x))
        v, steps = torch.zeros(()), []
        for _ in range(7):
            v = 0.9 * v + self.first(self.body(x))[:, :1]
            steps.append(v)
        return torch.stack(steps)


FLAGS = torch.rand(5, 4).round()
OPEN: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], tuple[str, ...], dict[str, Any]]] = {
    "logits and loss": (
        Heads,
        {"labels": FLAGS},
        ("readout=", "criterion="),
        {"readout": lambda output: output[0], "criterion": F.binary_cross_entropy_with_logits},
    ),
    "potentials and loss": (
        lambda: Heads(True),
        {"labels": torch.arange(5) % 2},
        ("readout=", "criterion="),
        {"readout": "last", "criterion": lambda logits, labels: F.mse_loss(logits[:, 0], labels.float())},
    ),
    "time loop and loss": (
        lambda: nn.Sequential(nn.Linear(6, 16), neuron.LIFNode(), nn.Linear(16, 4)),
        {"labels": FLAGS},
        ("loop=", "criterion="),
        {"loop": 4, "criterion": F.binary_cross_entropy_with_logits},
    ),
}


@pytest.mark.parametrize("case", OPEN)
def test_one_error_asks_all_that_is_open(case: str) -> None:
    make, options, names, answers = OPEN[case]
    network = make()
    options = {"example": 6 * torch.rand(5, 6), "method": "loss_sum", "log": len, **options}
    with pytest.raises(ValueError, match="2 answers remain open") as raised:
        attach(network, **options)
    lines = str(raised.value).splitlines()[1:]
    assert all(name in line for name, line in zip(names, lines, strict=True))
    model = attach(network, **options, **answers)
    model.weighted_loss(model(options["example"]), options["labels"], 0.5).backward()


class Charged(nn.Module):
    """A neuron without a reset: a call may be a time step or a whole sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.v = layers(), 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = self.v / 2 + x
        return self.layers(self.v)


def test_no_question_is_asked_twice() -> None:
    with pytest.raises(ValueError, match="2 answers remain open") as raised:
        attach(Charged(), example=torch.rand(7, 2, 6), reset=lambda network: None)
    assert str(raised.value).count("loop='input'") == 1


class Prompt(nn.Module):
    """What it gives does not depend on its input, so that no axis shows in it."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(5, 5, 6, 3)[..., : 3 ** (axes - 3)].flatten(axes - 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * 2


class Prompted(nn.Module):
    def __init__(self, axes: int) -> None:
        super().__init__()
        self.prompt, self.layers = Prompt(axes), layers()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.prompt(x).sum()


def test_the_axes_of_time_and_channels_are_asked_together() -> None:
    x = torch.rand(5, 6)
    with pytest.raises(ValueError, match=r"time_axis=0 for.*channel_axis="):
        attach(Prompted(4), ["prompt"], example=x, labels=LABELS)
    (tap,) = attach(Prompted(4), ["prompt"], example=x, time_axis=0, channel_axis=2, log=len).layout.taps
    assert tap.channels == 6
    # Beside time and samples there is one axis.
    with pytest.raises(ValueError, match=r"^the tap 'prompt' .*time_axis=0 for"):
        attach(Prompted(3), ["prompt"], example=x, labels=LABELS)
