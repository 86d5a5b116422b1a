"""Networks as researchers write them, each with the right answers of `attach`, noted before `attach` saw it.

`research/studies/attach_trial.py` tries them.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import norse.torch as norse
import snntorch as snn
import torch
import torchvision
from snntorch import utils as snn_utils
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.utils import checkpoint


@dataclass
class Trial:
    """A network and the right answers."""

    build: Callable[[], nn.Module]
    library: str
    example: Callable[[], Any]
    labels: Callable[[], Tensor]
    places: Mapping[str, int]
    """Regular expressions of sensible taps, and their widths."""
    authors: Callable[[nn.Module, Any], Tensor] = lambda net, x: call(net, x)
    """The logits that its authors read, from a freshly reset network."""
    loop: str | int = "network"
    batch_axis: int = 0
    rows: int = 0
    """The axis of samples in the main output."""
    loss: str = "cross_entropy"
    answers: Mapping[str, Any] = field(default_factory=dict)
    method: str = "loss_sum"
    single: bool = False
    """Whether a tuple or a dictionary is one argument."""
    refuse: str = ""
    """Why no wrapper can be right."""
    first: str = ""
    """The first parameter that learns."""
    advised: Callable[[nn.Module, Any], tuple[nn.Module, Any]] | None = None
    """What a message must name where no keyword answers it: the module, and the example."""


TRIALS: dict[str, Trial] = {}


def trial(library: str, **expected: Any) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        TRIALS[build.__name__] = Trial(build, library, **expected)
        return build

    return register


def call(net: nn.Module, x: Any, single: bool = False) -> Any:
    if isinstance(x, dict) and not single:
        return net(**x)
    return net(*x) if isinstance(x, tuple) and not single else net(x)


def frames(*shape: int) -> Callable[[], Tensor]:
    return lambda: 3 * torch.rand(shape)


def events(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.poisson(torch.full(shape, 0.7))


def classes(count: int, *shape: int) -> Callable[[], Tensor]:
    return lambda: torch.arange(math.prod(shape)).reshape(shape) % count


def numbers(*shape: int) -> Callable[[], Tensor]:
    return lambda: 3 * torch.randn(shape)


def step_net(net: nn.Module, x: Tensor, axis: int = 0) -> Any:
    """Call a network for each time step, and stack what it gives."""
    outputs = [net(step) for step in x.unbind(axis)]
    if isinstance(outputs[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*outputs, strict=True))
    return torch.stack(outputs)


# A network should fit in a dozen lines.
# fmt: off

# Neurons of one's own.

class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] / (1 + 4 * x.abs()) ** 2

def spike(x: Tensor) -> Tensor:
    return Spike.apply(x)

class OwnLif(nn.Module):
    """One time step per call; the potential is an attribute."""
    def __init__(self, decay: float = 0.5, threshold: float = 0.5):
        super().__init__()
        self.decay, self.threshold = decay, threshold
        self.mem: Tensor | None = None
    def forward(self, x: Tensor) -> Tensor:
        mem = x if self.mem is None else self.decay * self.mem + x
        out = spike(mem - self.threshold)
        self.mem = mem * (1 - out.detach())
        return out

class SequenceLif(nn.Module):
    """A whole sequence per call, with time on an axis of choice."""
    def __init__(self, axis: int = 0, threshold: float = 0.5):
        super().__init__()
        self.axis, self.threshold = axis, threshold
    def forward(self, x: Tensor) -> Tensor:
        mem, out = torch.zeros_like(x.select(self.axis, 0)), []
        for step in x.unbind(self.axis):
            mem = 0.6 * mem + step
            out.append(spike(mem - self.threshold))
            mem = mem - self.threshold * out[-1]
        return torch.stack(out, self.axis)

def sj_lif(mode: str = "s", threshold: float = 0.5) -> Any:
    return neuron.LIFNode(v_threshold=threshold, surrogate_function=surrogate.ATan(), step_mode=mode)

# SpikingJelly.

@trial("SpikingJelly", example=frames(6, 1, 12, 12), labels=lambda: F.one_hot(torch.arange(6) % 4, 4).float(),
    places={r"conv1(\.2)?|conv1\.[013]": 6, r"conv2(\.[0-3])?": 8, r"fc\.2|fc\.1": 20}, loss="mse_loss",
    answers={"readout": None, "criterion": F.mse_loss})
class StaticImageLoop(nn.Module):
    """The image is shown T times inside; the firing rate meets one-hot targets in a squared error."""
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), sj_lif(), nn.MaxPool2d(2))
        self.conv2 = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), sj_lif(), nn.MaxPool2d(2))
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(72, 20), sj_lif("s", 0.1), nn.Linear(20, 4), sj_lif("s", 0.05))
    def forward(self, x: Tensor) -> Tensor:
        total = self.fc(self.conv2(self.conv1(x)))
        for _ in range(4):
            total = total + self.fc(self.conv2(self.conv1(x)))
        return total / 5

class SewBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        convs = [nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)) for _ in "ab"]
        self.conv = nn.Sequential(layer.SeqToANNContainer(convs[0]),
            neuron.ParametricLIFNode(step_mode="m", surrogate_function=surrogate.ATan()),
            layer.SeqToANNContainer(convs[1]), neuron.ParametricLIFNode(step_mode="m",
            surrogate_function=surrogate.ATan()))
    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)

@trial("SpikingJelly", example=events(5, 6, 2, 16, 16), labels=classes(3, 5), places={r"conv\.\d+(\.conv\.3)?": 8})
class SewEvents(nn.Module):
    """Recordings [N, T, 2, H, W] are transposed inside; all blocks are in one Sequential."""
    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(2, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.conv = nn.Sequential(layer.SeqToANNContainer(stem), sj_lif("m"), SewBlock(8),
            layer.SeqToANNContainer(nn.MaxPool2d(2)), SewBlock(8), layer.SeqToANNContainer(nn.MaxPool2d(2)),
            SewBlock(8), nn.Flatten(2))
        self.out = nn.Linear(128, 3)
    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x.transpose(0, 1)).mean(0))

class SpikingAttention(nn.Module):
    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.q_lif, self.k_lif, self.v_lif, self.attn_lif, self.proj_lif = (sj_lif("m") for _ in range(5))
    def forward(self, x: Tensor) -> Tensor:
        t, n, tokens, width = x.shape
        split = (t, n, tokens, self.heads, width // self.heads)
        q = self.q_lif(2 * self.q(x)).reshape(split).transpose(2, 3)
        k = self.k_lif(2 * self.k(x)).reshape(split).transpose(2, 3)
        v = self.v_lif(2 * self.v(x)).reshape(split).transpose(2, 3)
        x = self.attn_lif((q @ k.transpose(-1, -2) @ v * 0.25).transpose(2, 3).reshape(t, n, tokens, width))
        return self.proj_lif(2 * self.proj(x))

class SpikformerBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = SpikingAttention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), sj_lif("m"), nn.Linear(2 * width, width), sj_lif("m"))
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)

@trial("SpikingJelly", example=frames(5, 3, 12, 12), labels=classes(4, 5),
    places={r"patch_embed(\.lif)?": 16, r"block\.\d": 16})
class TinySpikformer(nn.Module):
    """Static images, repeated inside."""
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.conv, self.patch_embed.bn = nn.Conv2d(3, 16, 3, 3), nn.BatchNorm2d(16)
        self.patch_embed.lif = sj_lif("m")
        self.block = nn.ModuleList([SpikformerBlock(16) for _ in range(3)])
        self.head = nn.Linear(16, 4)
    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        embed: Any = self.patch_embed
        x = embed.lif(embed.bn(embed.conv(x.flatten(0, 1))).unflatten(0, (4, -1))).flatten(3).transpose(-1, -2)
        for block in self.block:
            x = block(x)
        return self.head(x.mean(2)).mean(0)

@trial("SpikingJelly", example=events(4, 3, 2, 16, 16), labels=classes(3, 3, 16, 16), batch_axis=1,
    places={r"down\d(\.2)?|up2(\.2)?": 8, "up1(.2)?|middle(.2)?": 16})
class SpikingUNet(nn.Module):
    """Segmentation maps [N, K, H, W] from recordings [T, N, 2, H, W]."""
    def __init__(self) -> None:
        super().__init__()
        def block(a: int, b: int) -> nn.Module:
            return nn.Sequential(layer.Conv2d(a, b, 3, padding=1, step_mode="m"), layer.BatchNorm2d(b, step_mode="m"),
                sj_lif("m"))
        self.down1, self.middle, self.up2 = block(2, 8), block(8, 16), block(24, 8)
        self.pool = layer.MaxPool2d(2, step_mode="m")
        self.up = layer.Upsample(scale_factor=2, step_mode="m")
        self.out = layer.Conv2d(8, 3, 1, step_mode="m")
    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        x = self.up(self.middle(self.pool(first)))
        return self.out(self.up2(torch.cat([x, first], 2))).mean(0)

@trial("SpikingJelly", example=frames(7, 9, 10), labels=classes(5, 7),
    places={r"rnn1(\.sub_module\.1)?|lif|rnn1\.sub_module.*": 16, r"rnn2(\.sub_module.*)?|fc1": 12})
class RecurrentContainers(nn.Module):
    """Audio [N, T, F]; recurrent containers, stepped inside; logits of the last step."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(10, 12)
        self.rnn2 = layer.LinearRecurrentContainer(sj_lif(), 12, 12)
        self.fc2 = nn.Linear(12, 16)
        self.rnn1 = layer.ElementWiseRecurrentContainer(sj_lif(), element_wise_function=lambda a, b: a + b)
        self.head = nn.Linear(16, 5)
    def forward(self, x: Tensor) -> Tensor:
        for step in x.unbind(1):
            logits = self.head(self.rnn1(self.fc2(self.rnn2(self.fc1(step)))))
        return logits

@trial("SpikingJelly", example=events(6, 4, 2, 8, 8), labels=classes(3, 6), method="tet",
    places={r"features\.[0-2]": 8, r"features\.[3-6]": 12}, authors=lambda net, x: net(x).mean(1))
class TemporalTraining(nn.Module):
    """TET: logits of each time step, samples first: [N, T, K]."""
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(layer.Conv2d(2, 8, 3, padding=1, step_mode="m"),
            layer.BatchNorm2d(8, step_mode="m"), sj_lif("m"), layer.AvgPool2d(2, step_mode="m"),
            layer.Conv2d(8, 12, 3, step_mode="m"), sj_lif("m"), layer.Flatten(step_mode="m"))
        self.classifier = layer.Linear(48, 3, step_mode="m")
    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x.transpose(0, 1))).transpose(0, 1)

@trial("SpikingJelly", example=events(8, 20, 1, 6, 6), labels=classes(4, 20), loop="input", batch_axis=1,
    places={r"net\.[0-2]": 24, r"net\.[3-4]": 40}, authors=lambda net, x: step_net(net, x).mean(0),
    answers={"readout": "mean"})
class VotingSteps(nn.Module):
    """One time step per call; ten neurons vote for each class; the training script averages the votes."""
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(36, 24), sj_lif("s", 0.2), nn.Linear(24, 40),
            sj_lif("s", 0.05), layer.VotingLayer(10))
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

@trial("SpikingJelly", example=frames(6, 8), labels=numbers(6, 2), loss="mse_loss",
    places={r"body\.[01]": 20, r"body\.[23]": 16})
class PolicyPotential(nn.Module):
    """A policy, read at the potential of a neuron that never fires."""
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 20), sj_lif(), nn.Linear(20, 16), sj_lif(), nn.Linear(16, 2))
        self.out = neuron.LIFNode(v_threshold=float("inf"), surrogate_function=surrogate.ATan())
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(6):
            self.out(self.body(x))
        return self.out.v

@trial("SpikingJelly", example=frames(6, 3, 8, 10), labels=classes(5, 6),
    places={r"conv\.[0-2]": 12, r"conv\.[3-5]": 16, r"fc\.1": 20})
class ParallelNeurons(nn.Module):
    """Columns of an image are its time steps; parallel spiking neurons keep no state."""
    def __init__(self) -> None:
        super().__init__()
        def block(a: int, b: int) -> list[nn.Module]:
            return [layer.Conv1d(a, b, 3, padding=1, step_mode="m"), layer.BatchNorm1d(b, step_mode="m"),
                neuron.PSN(T=10, surrogate_function=surrogate.ATan())]
        self.conv = nn.Sequential(*block(3, 12), *block(12, 16))
        psn = neuron.PSN(T=10, surrogate_function=surrogate.ATan())
        self.fc = nn.Sequential(layer.Linear(128, 20, step_mode="m"), psn, layer.Linear(20, 5, step_mode="m"))
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x.permute(3, 0, 1, 2)).flatten(2)).mean(0)

@trial("SpikingJelly", example=events(5, 6, 12), labels=classes(3, 6), batch_axis=1,
    places={r"(layers\.)?1|0|2": 24, r"4|3|5": 16, "6": 3}, authors=lambda net, x: net(x).mean(0),
    answers={"readout": "mean"})
def synapse_filter() -> nn.Module:
    """Stateful synapses and stateful dropout, many steps per call."""
    net = nn.Sequential(layer.Linear(12, 24), sj_lif(), layer.SynapseFilter(tau=4.0, learnable=True),
        layer.Dropout(0.2), layer.Linear(24, 16), sj_lif(), layer.Linear(16, 3))
    functional.set_step_mode(net, "m")
    return net

@trial("SpikingJelly, torchvision", example=frames(4, 3, 32, 32), labels=classes(5, 4), loop=3,
    places={r"stage2(\..*)?": 16, r"stage3(\..*)?": 24, r"stage4(\..*)?": 32, r"conv1(\..*)?|maxpool": 8,
    r"conv5.*": 40}, authors=lambda net, x: sum(net(x) for _ in range(3)) / 3, answers={"readout": "mean"})
def converted_shufflenet() -> nn.Module:
    """ReLUs replaced by integrate-and-fire neurons; the script shows the image for three steps and averages logits."""
    net = torchvision.models.ShuffleNetV2([1, 2, 1], [8, 16, 24, 32, 40], num_classes=5)
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, neuron.IFNode(v_threshold=0.5, v_reset=None,
                    surrogate_function=surrogate.Sigmoid()))
    return net

# snnTorch.

@trial("snnTorch", example=frames(6, 12), labels=classes(4, 6), places={r"fc1|lif1": 24, r"fc2|lif2": 16},
    authors=lambda net, x: net(x)[0].sum(0), answers={"readout": lambda output: output[0].sum(0)})
class CountLoss(nn.Module):
    """Static input, explicit state, (spikes, potentials) of each step; the loss is ce_count_loss."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 24), snn.Leaky(beta=0.9, threshold=0.5)
        self.fc2, self.lif2 = nn.Linear(24, 16), snn.Synaptic(alpha=0.8, beta=0.8, threshold=0.5)
        self.fc3, self.lif3 = nn.Linear(16, 4), snn.Leaky(beta=0.9, learn_beta=True)
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem3 = self.lif1.init_leaky(), self.lif3.init_leaky()
        syn2, mem2 = self.lif2.init_synaptic()
        spikes, potentials = [], []
        for _ in range(8):
            spk, mem1 = self.lif1(self.fc1(x), mem1)
            spk, syn2, mem2 = self.lif2(self.fc2(spk), syn2, mem2)
            spk, mem3 = self.lif3(self.fc3(spk), mem3)
            spikes.append(spk)
            potentials.append(mem3)
        return torch.stack(spikes), torch.stack(potentials)

def run_snntorch(net: nn.Module, x: Tensor) -> Any:
    snn_utils.reset(net)
    return step_net(net, x)

@trial("snnTorch", example=events(7, 5, 14), labels=classes(3, 5), loop="input", batch_axis=1,
    places={"0|1": 20, "2|3": 16}, authors=lambda net, x: run_snntorch(net, x)[-1][-1],
    answers={"readout": lambda output: output[-1][-1]})
def alpha_stack() -> nn.Module:
    """Alpha neurons with hidden state; the last returns its states, and the last potential meets the loss."""
    settings = {"alpha": 0.9, "beta": 0.8, "init_hidden": True, "threshold": 0.3}
    return nn.Sequential(nn.Linear(14, 20), snn.Alpha(**settings), nn.Linear(20, 16),
        snn.Lapicque(beta=0.7, init_hidden=True, threshold=0.3), nn.Linear(16, 3), snn.Alpha(**settings, output=True))

@trial("snnTorch", example=numbers(10, 4, 3), labels=numbers(10, 4, 1), batch_axis=1, rows=1, loss="mse_loss",
    places={"rlif1|fc_in": 16, "rlif2|fc_hidden": 12}, answers={"step_axis": 0, "readout": None})
class RecurrentRegression(nn.Module):
    """RLeaky neurons regress a number at every step: [T, N, 1]."""
    def __init__(self) -> None:
        super().__init__()
        self.fc_in, self.fc_hidden, self.fc_out = nn.Linear(3, 16), nn.Linear(16, 12), nn.Linear(12, 1)
        self.rlif1 = snn.RLeaky(beta=0.8, linear_features=16, threshold=0.5)
        self.rlif2 = snn.RLeaky(beta=0.8, all_to_all=False, V=0.5, threshold=0.5)
        self.li_out = snn.Leaky(beta=0.9, learn_beta=True, reset_mechanism="none")
    def forward(self, x: Tensor) -> Tensor:
        spk1, mem1 = self.rlif1.init_rleaky()
        spk2, mem2 = self.rlif2.init_rleaky()
        mem3, record = self.li_out.init_leaky(), []
        for step in range(x.shape[0]):
            spk1, mem1 = self.rlif1(self.fc_in(x[step]), spk1, mem1)
            spk2, mem2 = self.rlif2(self.fc_hidden(spk1), spk2, mem2)
            _, mem3 = self.li_out(self.fc_out(spk2), mem3)
            record.append(mem3)
        return torch.stack(record, dim=0)

@trial("snnTorch", example=numbers(6, 12, 4), labels=classes(3, 6), places={"slstm1": 20, "slstm2": 16},
    authors=lambda net, x: net(x)[0], answers={"readout": lambda output: output[0],
    "extract": lambda output: output[2]})
class SpikingLstm(nn.Module):
    """Sensor windows [N, T, F]; a linear layer reads the last hidden potential; spikes are returned too."""
    def __init__(self) -> None:
        super().__init__()
        self.slstm1, self.slstm2 = snn.SLSTM(4, 20, threshold=0.1), snn.SLSTM(20, 16, threshold=0.1)
        self.fc = nn.Linear(16, 3)
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        syn1, mem1 = self.slstm1.init_slstm()
        syn2, mem2 = self.slstm2.init_slstm()
        record = []
        for t in range(x.size(1)):
            spk1, syn1, mem1 = self.slstm1(x[:, t], syn1, mem1)
            spk2, syn2, mem2 = self.slstm2(spk1, syn2, mem2)
            record.append(spk2)
        return self.fc(mem2), torch.stack(record, 1)

@trial("snnTorch", example=events(5, 4, 1, 8, 8), labels=classes(3, 4), batch_axis=1,
    places={"sclstm1|pool": 6, "sclstm2": 8, "fc1|lif1": 10}, authors=lambda net, x: net(x)[1].mean(0),
    answers={"readout": lambda output: output[1].mean(0)})
class ConvolutionalLstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sclstm1 = snn.SConv2dLSTM(1, 6, kernel_size=3, max_pool=2, threshold=0.1)
        self.sclstm2 = snn.SConv2dLSTM(6, 8, kernel_size=3, threshold=0.1)
        self.fc1, self.lif1 = nn.Linear(128, 3), snn.Leaky(beta=0.5, threshold=0.3)
    def forward(self, x: Tensor) -> list[Tensor]:
        syn1, mem1 = self.sclstm1.init_sconv2dlstm()
        syn2, mem2 = self.sclstm2.init_sconv2dlstm()
        mem3, spikes, potentials = self.lif1.init_leaky(), [], []
        for step in x:
            spk1, syn1, mem1 = self.sclstm1(step, syn1, mem1)
            spk2, syn2, mem2 = self.sclstm2(spk1, syn2, mem2)
            spk3, mem3 = self.lif1(self.fc1(spk2.flatten(1)), mem3)
            spikes.append(spk3)
            potentials.append(mem3)
        return [torch.stack(spikes), torch.stack(potentials)]

@trial("snnTorch", example=events(4, 5, 2, 10, 10), labels=classes(3, 4),
    places={r"conv1|lif1|pool": 6, "conv2|lif2": 8}, authors=lambda net, x: net(x).sum(1),
    answers={"readout": lambda output: output.sum(1)})
class ResetAtStart(nn.Module):
    """Hidden states are reset where forward begins; spikes are stacked as [N, T, K] and counted."""
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 8, 3)
        self.pool, self.fc = nn.AvgPool2d(2), nn.Linear(32, 3)
        self.lif1, self.lif2, self.lif3 = (snn.Leaky(beta=0.8, init_hidden=True, threshold=0.3) for _ in range(3))
    def forward(self, x: Tensor) -> Tensor:
        snn_utils.reset(self)
        out = []
        for t in range(x.shape[1]):
            y = self.pool(self.lif1(self.conv1(x[:, t])))
            out.append(self.lif3(self.fc(self.lif2(self.conv2(y)).flatten(1))))
        return torch.stack(out, dim=1)

@trial("snnTorch", example=events(6, 20, 12), labels=classes(4, 20), loop="input", batch_axis=1,
    places={"0|1": 30, "2|3": 24}, authors=lambda net, x: run_snntorch(net, x)[0].sum(0).unflatten(1, (4, 6)).sum(-1),
    answers={"readout": lambda output: output[0].sum(0).unflatten(1, (4, 6)).sum(-1)})
def population_sequential() -> nn.Module:
    """24 output neurons vote for 4 classes, as ce_count_loss(population_code=True) reads them."""
    settings = {"beta": 0.9, "init_hidden": True, "threshold": 0.4}
    return nn.Sequential(nn.Linear(12, 30), snn.Leaky(**settings), nn.Linear(30, 24), snn.Leaky(**settings),
        nn.Linear(24, 24), snn.Leaky(**settings, output=True))

@trial("snnTorch", example=lambda: torch.rand(6, 1, 12, 12), labels=lambda: torch.rand(6, 1, 12, 12), loss="mse",
    places={r"encoder\.[0-2]": 6, r"encoder\.[3-5]": 8, r"decoder\.[0-2]": 6},
    answers={"criterion": F.mse_loss, "readout": None})
class SpikingAutoencoder(nn.Module):
    """Images are their own targets; the potential of the last step is the reconstruction."""
    def __init__(self) -> None:
        super().__init__()
        settings = {"beta": 0.8, "init_hidden": True, "threshold": 0.3}
        self.encoder = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), snn.Leaky(**settings),
            nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), snn.Leaky(**settings))
        self.decoder = nn.Sequential(nn.ConvTranspose2d(8, 6, 3, 2, 1, 1), nn.BatchNorm2d(6), snn.Leaky(**settings),
            nn.ConvTranspose2d(6, 1, 3, 2, 1, 1), snn.Leaky(beta=0.8, init_hidden=True, threshold=1e6, output=True))
    def forward(self, x: Tensor) -> Tensor:
        snn_utils.reset(self.encoder)
        snn_utils.reset(self.decoder)
        for _ in range(4):
            _, mem = self.decoder(self.encoder(x))
        return mem

# Norse.

@trial("Norse", example=events(6, 5, 1, 8, 8), labels=classes(4, 5), batch_axis=1, places={"[0-2]": 6, "[45]": 20},
    authors=lambda net, x: net(x)[0].max(0).values, answers={"readout": "max"})
def lifted() -> nn.Module:
    """Lifted convolutions and neurons of whole sequences; potentials are read at their maximum."""
    return norse.SequentialState(norse.Lift(nn.Conv2d(1, 6, 3)), norse.LIF(), norse.Lift(nn.MaxPool2d(2)),
        nn.Flatten(2), nn.Linear(54, 20), norse.LIF(), nn.Linear(20, 4), norse.LI())

@trial("Norse", example=frames(5, 1, 10, 10), labels=classes(4, 5),
    places={r"snn\.(conv1|lif1)": 6, r"snn\.(fc1|lif2)": 20})
class EncoderDecoder(nn.Module):
    """Encoder, spiking network, decoder: log-softmax of the greatest potential, for the nll_loss."""
    def __init__(self) -> None:
        super().__init__()
        self.encoder = norse.ConstantCurrentLIFEncoder(8)
        self.snn = nn.Module()
        self.snn.conv1, self.snn.fc1 = nn.Conv2d(1, 6, 3), nn.Linear(96, 20)
        self.snn.lif1 = self.lif(0.3)
        self.snn.lif2 = self.lif(0.1)
        self.snn.out = norse.LILinearCell(20, 4)
    @staticmethod
    def lif(threshold: float) -> nn.Module:
        return norse.LIFCell(p=norse.LIFParameters(method="super", v_th=torch.tensor(threshold)))
    def forward(self, x: Tensor) -> Tensor:
        s1 = s2 = s3 = None
        part: Any = self.snn
        voltages = []
        for step in self.encoder(x):
            z, s1 = part.lif1(part.conv1(step), s1)
            z, s2 = part.lif2(part.fc1(F.max_pool2d(z, 2).flatten(1)), s2)
            v, s3 = part.out(z, s3)
            voltages.append(v)
        return F.log_softmax(torch.stack(voltages).max(0).values, dim=1)

@trial("Norse", example=numbers(12, 6, 5), labels=classes(2, 6), batch_axis=1, places={"lsnn": 20, "lif": 12, "fc": 12},
    authors=lambda net, x: net(x)[0], answers={"readout": lambda output: output[0]})
class AdaptiveMemory(nn.Module):
    """Adaptive recurrent cells; the last potential and the mean rate, for a penalty, are returned."""
    def __init__(self) -> None:
        super().__init__()
        self.lsnn = norse.LSNNRecurrentCell(5, 20)
        self.fc, self.lif = nn.Linear(20, 12), norse.LIFCell()
        self.out = norse.LILinearCell(12, 2)
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s1 = s2 = s3 = None
        rate = torch.zeros((), device=x.device)
        for step in x:
            z, s1 = self.lsnn(step, s1)
            rate = rate + z.mean() / len(x)
            z, s2 = self.lif(10 * self.fc(z), s2)
            v, s3 = self.out(z, s3)
        return v, rate

class CellState(NamedTuple):
    first: Any
    second: Any

@trial("Norse", example=events(5, 6, 9), labels=classes(3, 6), loop="input", batch_axis=1,
    places={"lif1|fc1": 16, "lif2|fc2": 12}, answers={"readout": "last"})
class ExplicitState(nn.Module):
    """One step per call, (logits, state) returned and passed in again; the script takes the last logits."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(9, 16), nn.Linear(16, 12), nn.Linear(12, 3)
        self.lif1, self.lif2 = norse.LIFBoxCell(), norse.LIFBoxCell()
    def forward(self, x: Tensor, state: CellState | None = None) -> tuple[Tensor, CellState]:
        state = state or CellState(None, None)
        z, first = self.lif1(20 * self.fc1(x), state.first)
        z, second = self.lif2(20 * self.fc2(z), state.second)
        return self.fc3(z), CellState(first, second)

def run_stateful(net: nn.Module, x: Tensor) -> Tensor:
    state = None
    for step in x:
        logits, state = net(step, state)
    return logits

TRIALS["ExplicitState"].authors = run_stateful

# sinabs and timm, where they are installed.
if importlib.util.find_spec("sinabs"):
    sl: Any = importlib.import_module("sinabs.layers")
    def run_sinabs(net: nn.Module, x: Tensor) -> Tensor:
        for module in net.modules():
            if isinstance(module, sl.StatefulLayer):
                module.reset_states()
        return net(x)
    @trial("sinabs", example=events(5, 7, 12), labels=classes(3, 5), places={"0|1": 20, "2|3": 16}, authors=lambda net,
        x: run_sinabs(net, x).sum(1), answers={"readout": "sum"})
    def sinabs_sequences() -> nn.Module:
        """Spikes [N, T, K], counted."""
        return nn.Sequential(nn.Linear(12, 20), sl.LIF(tau_mem=10.0, spike_threshold=0.3), nn.Linear(20, 16),
            sl.LIFRecurrent(tau_mem=10.0, spike_threshold=0.3, rec_connect=nn.Linear(16, 16)), nn.Linear(16, 3),
            sl.IAF(spike_threshold=0.3))
    class FoldedTime(nn.Module):
        """What the message shows."""
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    @trial("sinabs", example=events(24, 2, 8, 8), labels=classes(3, 4),
        places={r"(net\.)?[0-2]": 8, r"(net\.)?[3-5]": 12}, authors=lambda net,
        x: run_sinabs(net, x.reshape(24, 2, 8, 8)).unflatten(0, (4, 6)).mean(1), answers={"readout": "mean"},
        advised=lambda net, x: (FoldedTime(net), x.unflatten(0, (4, 6))))
    def sinabs_folded() -> nn.Module:
        """Squeeze layers: time is folded into the batch, [N * T, C, H, W]; potentials of a leaky readout."""
        return nn.Sequential(nn.Conv2d(2, 8, 3), sl.IAFSqueeze(batch_size=4, spike_threshold=0.3), nn.AvgPool2d(2),
            nn.Conv2d(8, 12, 2), sl.IAFSqueeze(batch_size=4, spike_threshold=0.3), nn.Flatten(), nn.Linear(48, 3),
            sl.ExpLeakSqueeze(tau_mem=10.0, batch_size=4))

if importlib.util.find_spec("timm"):
    vision_transformer: Any = importlib.import_module("timm.models.vision_transformer")
    timm_resnet: Any = importlib.import_module("timm.models.resnet")
    def replace_activations(net: nn.Module, kind: type[nn.Module], make: Callable[[], nn.Module]) -> nn.Module:
        for parent in list(net.modules()):
            for name, child in parent.named_children():
                if isinstance(child, kind):
                    setattr(parent, name, make())
        return net
    class ShowSteps(nn.Module):
        """Shows an image for T steps, and resets at the end."""
        def __init__(self, model: nn.Module, T: int) -> None:
            super().__init__()
            self.model, self.T = model, T
        def forward(self, x: Tensor) -> Tensor:
            out = sum(self.model(x) for _ in range(self.T)) / self.T
            functional.reset_net(self.model)
            return out
    @trial("SpikingJelly, timm", example=frames(4, 3, 16, 16), labels=classes(5, 4),
        places={r"model\.blocks\.\d": 24, r"model\.patch_embed": 24})
    def timm_vit() -> nn.Module:
        net = vision_transformer.VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=4, num_heads=2,
            num_classes=5, drop_path_rate=0.1)
        return ShowSteps(replace_activations(net, nn.GELU, sj_lif), 3)
    @trial("own, timm", example=frames(4, 3, 32, 32), labels=classes(5, 4), batch_axis=0,
        places={r"model\.layer1(\.0)?": 8, r"model\.layer2(\.0)?": 12, r"model\.layer3(\.0)?": 16,
        r"model\.layer4.*": 24})
    def timm_resnet_own() -> nn.Module:
        blocks = timm_resnet.BasicBlock
        net = timm_resnet.ResNet(blocks, [1, 1, 1, 1], channels=(8, 12, 16, 24), stem_width=8, num_classes=5)
        return OwnSteps(replace_activations(net, nn.ReLU, OwnLif), 3)

class OwnSteps(nn.Module):
    """Sets states to None, shows an image for T steps, averages logits."""
    def __init__(self, model: nn.Module, steps: int) -> None:
        super().__init__()
        self.model, self.steps = model, steps
    def forward(self, x: Tensor) -> Tensor:
        for module in self.modules():
            if hasattr(module, "mem"):
                module.mem = None  # type: ignore[assignment]
        return torch.stack([self.model(x) for _ in range(self.steps)]).mean(0)

# Neurons of one's own.

@trial("own", example=events(6, 7, 10), labels=classes(3, 6), places={"fc1|lif1": 20, "fc2|lif2": 16})
class ClearAtEnd(nn.Module):
    """States are lists in the network, and are cleared where forward ends; logits of each step are added up."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(10, 20), nn.Linear(20, 16), nn.Linear(16, 3)
        self.lif1, self.lif2 = OwnLif(), OwnLif()
    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), 3)
        for t in range(x.shape[1]):
            logits = logits + self.out(self.lif2(self.fc2(self.lif1(self.fc1(x[:, t])))))
        self.lif1.mem = self.lif2.mem = None
        return logits

def start_batch(net: Any, x: Tensor) -> Tensor:
    net.start(x.shape[1])
    return step_net(net, x)[-1]

@trial("own", example=events(5, 6, 10), labels=classes(3, 6), loop="input", batch_axis=1, places={"fc1": 20, "fc2": 16},
    authors=start_batch, answers={"readout": "last", "reset": lambda net: net.start(6)})
class StartsWithBatchSize(nn.Module):
    """States of a dictionary need the batch size before each sequence, by a method of an unusual name."""
    state: dict[str, Tensor]
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(10, 20), nn.Linear(20, 16), nn.Linear(16, 3)
        self.state = {}
        self.start(6)
    def start(self, samples: int) -> None:
        self.state = {"v1": torch.zeros(samples, 20), "v2": torch.zeros(samples, 16), "out": torch.zeros(samples, 3)}
    def forward(self, x: Tensor) -> Tensor:
        self.state["v1"] = 0.5 * self.state["v1"] + self.fc1(x)
        first = spike(self.state["v1"] - 0.5)
        self.state["v1"] = self.state["v1"] * (1 - first)
        self.state["v2"] = 0.5 * self.state["v2"] + self.fc2(first)
        self.state["out"] = 0.8 * self.state["out"] + self.out(spike(self.state["v2"] - 0.3))
        return self.state["out"]

@trial("own", example=events(4, 2, 8, 8, 5), labels=classes(3, 4), places={r"conv1|bn1|lif1": 8, r"conv2|bn2|lif2": 12})
class TimeLast(nn.Module):
    """STBP-tdBN: time is the last axis, [N, C, H, W, T]; three-dimensional convolutions and norms."""
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.lif1 = nn.Conv3d(2, 8, (3, 3, 1)), nn.BatchNorm3d(8), SequenceLif(-1)
        self.conv2, self.bn2, self.lif2 = nn.Conv3d(8, 12, (3, 3, 1)), nn.BatchNorm3d(12), SequenceLif(-1)
        self.fc = nn.Linear(192, 3)
    def forward(self, x: Tensor) -> Tensor:
        x = self.lif2(self.bn2(self.conv2(self.lif1(self.bn1(self.conv1(x))))))
        return self.fc(x.flatten(1, 3).transpose(1, 2)).mean(1)

@trial("own", example=events(6, 8, 20), labels=classes(4, 6), places={r"layers\.[0-2]": 16, r"layers\.[34]": 12},
    rows=0, authors=lambda net, x: net(x).mean(-1), answers={"readout": lambda output: output.mean(-1)})
def delays_weight_norm() -> nn.Module:
    """Dilated convolutions over time with weight norm, [N, F, T]; spikes [N, K, T], read as rates."""
    net = nn.Module()
    net.layers = nn.Sequential(parametrizations.weight_norm(nn.Conv1d(8, 16, 3, padding=1)), SequenceLif(-1),
        nn.Dropout(0.1), parametrizations.weight_norm(nn.Conv1d(16, 12, 3, padding=2, dilation=2)), SequenceLif(-1),
        parametrizations.weight_norm(nn.Conv1d(12, 4, 1)), SequenceLif(-1, 0.2))
    return Forwards(net.layers)

class Forwards(nn.Module):
    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

class GraphLayer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        n, nodes, width = x.shape
        mixed = torch.sparse.mm(adjacency, x.transpose(0, 1).reshape(nodes, -1)).view(nodes, n, width).transpose(0, 1)
        return self.linear(mixed)

@trial("own", example=events(5, 9, 6), labels=classes(3, 5), places={"gcn1|lif1": 16, "gcn2|lif2": 12})
class GraphBatch(nn.Module):
    """A batch of signals on one sparse graph [N, nodes, F]; the encoding is shown for four steps."""
    adjacency: Tensor
    def __init__(self) -> None:
        super().__init__()
        ring = (torch.eye(9) + torch.eye(9).roll(1, 0) + torch.eye(9).roll(-1, 0)) / 2
        self.register_buffer("adjacency", ring.to_sparse())
        self.gcn1, self.gcn2, self.out = GraphLayer(6, 16), GraphLayer(16, 12), nn.Linear(12, 3)
        self.lif1, self.lif2 = OwnLif(), OwnLif()
    def forward(self, x: Tensor) -> Tensor:
        self.lif1.mem = self.lif2.mem = None
        total = []
        for _ in range(4):
            y = self.lif2(self.gcn2(self.lif1(self.gcn1(x, self.adjacency)), self.adjacency))
            total.append(self.out(y.mean(1)))
        return sum(total) / len(total)

@trial("own", example=lambda: (torch.rand(12, 6), (torch.eye(12) + torch.eye(12).roll(1, 0)) / 2),
    labels=classes(3, 12), places={}, refuse="the samples are nodes of one graph, which influence each other")
class NodeClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 16), nn.Linear(16, 3)
    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return self.fc2(adjacency @ spike(adjacency @ self.fc1(2 * x) - 0.1))

@trial("own", example=lambda: (3 * torch.rand(6, 1, 8, 8), 3 * torch.rand(6, 1, 8, 8)),
    labels=lambda: (torch.arange(6) % 2).float(), places={r"trunk\.[0-2]": 6, r"trunk\.[3-5]": 8}, loss="custom",
    answers={"criterion": lambda d, y: (y * d**2 + (1 - y) * F.relu(1 - d) ** 2).mean(), "readout": None,
    "num_classes": 1})
class Siamese(nn.Module):
    """Two images, one trunk; the distance [N] meets a contrastive loss."""
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), Threshold(), nn.Conv2d(6, 8, 3),
            nn.BatchNorm2d(8), Threshold(), nn.Flatten(), nn.Linear(128, 10))
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return F.pairwise_distance(self.trunk(first), self.trunk(second))

class Threshold(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return spike(x - 0.2)

@trial("own", example=lambda: (events(5, 4, 2, 8, 8)(), numbers(5, 4, 6)()), labels=classes(4, 5),
    places={r"vision(\.[0-2])?": 8, r"audio(\.[01])?": 12, r"fusion(\.[01])?": 20})
class TwoModalities(nn.Module):
    """Frames [N, T, 2, H, W] and audio [N, T, F], fused; time is merged with the batch."""
    def __init__(self) -> None:
        super().__init__()
        self.vision = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), Threshold())
        self.audio = nn.Sequential(nn.Linear(6, 12), Threshold())
        self.fusion = nn.Sequential(nn.Linear(20, 20), SequenceLif(1))
        self.head = nn.Linear(20, 4)
    def forward(self, video: Tensor, sound: Tensor) -> Tensor:
        n, steps = video.shape[:2]
        seen = self.vision(video.flatten(0, 1)).mean((-2, -1)).view(n, steps, -1)
        heard = self.audio(sound.flatten(0, 1)).view(n, steps, -1)
        return self.head(self.fusion(torch.cat([seen, heard], -1))).mean(1)

@trial("own", example=lambda: {"events": events(5, 8, 10)(), "lengths": torch.tensor([8, 6, 8, 5, 7])},
    labels=classes(3, 5), single=True, places={"fc1|lif1": 16, "fc2|lif2": 12})
class DictionaryInput(nn.Module):
    """A dictionary of padded recordings and their lengths; the mean is taken over the valid steps."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(10, 16), SequenceLif(1), nn.Linear(16, 12), SequenceLif(1)
        self.head = nn.Linear(12, 3)
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x = self.head(self.lif2(self.fc2(self.lif1(self.fc1(batch["events"])))))
        mask = (torch.arange(x.shape[1]) < batch["lengths"][:, None]).float()
        return (x * mask[..., None]).sum(1) / batch["lengths"][:, None]

@dataclass
class SequenceOutput:
    loss: Tensor | None
    logits: Tensor
    hidden_states: list[Tensor] | None = None

class LanguageBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.time_mix, self.lif1 = nn.Linear(width, width), SequenceLif(1)
        self.channel_mix = nn.Sequential(nn.Linear(width, 2 * width), SequenceLif(1), nn.Linear(2 * width, width))
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.lif1(self.time_mix(self.ln1(x)))
        return x + self.channel_mix(self.ln2(x))

class LanguageModel(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(20, 16)
        self.layers = nn.ModuleList([LanguageBlock(16) for _ in range(4)])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, outputs, bias=False)
    def features(self, tokens: Tensor) -> Tensor:
        x = self.embeddings(tokens)
        for block in self.layers:
            x = block(x)
        return self.norm(x)

@trial("own", example=lambda: torch.randint(20, (5, 9)), labels=lambda: torch.randint(20, (5, 9)),
    places={r"layers\.\d": 16}, authors=lambda net, x: net(x).permute(0, 2, 1),
    answers={"step_axis": 2, "readout": lambda output: output.permute(0, 2, 1), "time_axis": 1})
class NextToken(LanguageModel):
    """A causal spiking language model: logits [N, L, V], a label for each token; time is the axis of tokens."""
    def __init__(self) -> None:
        super().__init__(20)
    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.features(tokens))

@trial("own", example=lambda: {"input_ids": torch.randint(20, (5, 9)), "attention_mask": torch.ones(5, 9)},
    labels=classes(3, 5), places={r"layers\.\d": 16}, authors=lambda net, x: net(**x).logits)
class SequenceClassifier(LanguageModel):
    """Arguments and output as in transformers: a dataclass of loss, logits and hidden states."""
    def __init__(self) -> None:
        super().__init__(3)
    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
        labels: Tensor | None = None) -> SequenceOutput:
        x = self.features(input_ids)
        mask = torch.ones(input_ids.shape) if attention_mask is None else attention_mask
        logits = self.head((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        return SequenceOutput(None if labels is None else F.cross_entropy(logits, labels), logits, [x])

class ConvTrunk(nn.Module):
    """Convolutions with neurons that keep no state between calls; time is merged with the batch."""
    def __init__(self, inputs: int = 2) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(inputs, 8, 3, padding=1), nn.BatchNorm2d(8), Threshold(), nn.MaxPool2d(2))
        self.stage2 = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), Threshold(), nn.MaxPool2d(2))
        self.stage3 = nn.Sequential(nn.Conv2d(12, 16, 3, padding=1), nn.BatchNorm2d(16), Threshold())
    def features(self, x: Tensor) -> Tensor:
        return self.stage3(self.stage2(self.stage1(x)))

STAGES = {r"stage1(\.[0-3])?": 8, r"stage2(\.[0-3])?": 12, r"stage3(\.[0-2])?": 16}

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places=STAGES, authors=lambda net, x: net(x)["digit"],
    answers={"readout": lambda output: output["digit"]})
class TwoHeads(ConvTrunk):
    """Two tasks in a dictionary; the labels are of one."""
    def __init__(self) -> None:
        super().__init__()
        self.parity, self.digit = nn.Linear(16, 2), nn.Linear(16, 4)
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.features(x).mean((2, 3))
        return {"parity": self.parity(x), "digit": self.digit(x)}

@trial("own", example=frames(4, 2, 8, 8), labels=lambda: (torch.rand(4, 3, 2, 2) > 0.8).float(), places=STAGES,
    loss="binary_cross", authors=lambda net, x: net(x)[0], answers={"readout": lambda output: output[0],
    "criterion": F.binary_cross_entropy_with_logits, "step_axis": None})
class CentreDetector(ConvTrunk):
    """A map of object centres [N, K, h, w] and their boxes [N, 4, h, w]; labels are maps of zeros and ones."""
    def __init__(self) -> None:
        super().__init__()
        self.heat, self.box = nn.Conv2d(16, 3, 1), nn.Conv2d(16, 4, 1)
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.heat(x), self.box(x).exp()

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places={k: v for k,
    v in STAGES.items() if "1" not in k[:6]}, first="stage2.0.weight")
class FrozenTrunk(ConvTrunk):
    """The first stage is frozen, and stays in evaluation mode."""
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 4)
        self.stage1.requires_grad_(False)
    def train(self, mode: bool = True) -> "FrozenTrunk":
        super().train(mode)
        self.stage1.eval()
        return self
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))

class Plain(ConvTrunk):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 4)
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places=STAGES, first="stage1.0.weight_orig")
def pruned() -> nn.Module:
    net = Plain()
    for stage in (net.stage1, net.stage2, net.stage3):
        prune.l1_unstructured(stage[0], "weight", amount=0.5)
    return net

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places={f"(_orig_mod.)?{k}": v for k,
    v in STAGES.items()})
def compiled() -> nn.Module:
    return cast("nn.Module", torch.compile(Plain(), backend="eager"))

class DataParallelLike(nn.Module):
    """As DistributedDataParallel or Accelerate's wrappers: the network is at `.module`."""
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places={f"(module.)?{k}": v for k, v in STAGES.items()})
def wrapped() -> nn.Module:
    return DataParallelLike(Plain())

@trial("own", example=lambda: (3 * torch.rand(6, 2, 8, 8)).bfloat16().contiguous(memory_format=torch.channels_last),
    labels=classes(4, 6), places=STAGES)
def half_channels_last() -> nn.Module:
    return Plain().bfloat16().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

@trial("own", example=frames(1, 2, 8, 8), labels=classes(4, 1), places=STAGES)
def one_sample() -> nn.Module:
    return Plain()

@trial("own", example=events(4, 4, 4), labels=classes(4, 4), batch_axis=1, places={"0|1": 12, "2|3": 10}, rows=0,
    answers={"readout": "mean"}, authors=lambda net, x: net(x).mean(0))
def equal_sizes() -> nn.Module:
    """T, N, the features and the classes are all 4."""
    return nn.Sequential(nn.Linear(4, 12), SequenceLif(0), nn.Linear(12, 10), SequenceLif(0), nn.Linear(10, 4))

@trial("own", example=events(5, 6, 10), labels=classes(3, 5), places={"fc1|lif1": 16, "fc2|lif2": 12},
    authors=lambda net, x: net(x), answers={"reset": lambda net: net.forget()})
class Streaming(nn.Module):
    """Keeps its potentials across calls, detached, for recordings in pieces; the script calls forget() between them."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(10, 16), OwnLif(0.9), nn.Linear(16, 12), OwnLif(0.9)
        self.head = nn.Linear(12, 3)
    def forget(self) -> None:
        self.lif1.mem = self.lif2.mem = None
    def forward(self, x: Tensor) -> Tensor:
        for lif in (self.lif1, self.lif2):
            if lif.mem is not None:
                lif.mem = lif.mem.detach()
        out = [self.head(self.lif2(self.fc2(self.lif1(self.fc1(step))))) for step in x.unbind(1)]
        return torch.stack(out, 1).mean(1)

@trial("own", example=lambda: torch.rand(6, 12), labels=classes(4, 6), places={"fc1": 24, "fc2": 16},
    authors=lambda net, x: -net(x), answers={"readout": lambda output: -output})
class FirstSpikeTimes(nn.Module):
    """Latency code; the output is the time of each neuron's first spike, and the loss the cross-entropy of -times."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 24), nn.Linear(24, 16), nn.Linear(16, 4)
        self.ramp = SequenceLif(0, 0.3)
        self.steps = 10
    def forward(self, x: Tensor) -> Tensor:
        latency = ((1 - x) * (self.steps - 1)).round().long().clamp(0, self.steps - 1)
        code = F.one_hot(latency, self.steps).float().permute(2, 0, 1)
        spikes = self.ramp(2 * self.fc3(self.ramp(2 * self.fc2(self.ramp(4 * self.fc1(code))))))
        not_yet = torch.cumprod(1 - spikes, 0)
        return not_yet.sum(0)

@trial("own", example=lambda: torch.rand(6, 1, 8, 8), labels=classes(4, 6), places={"fc1|lif1": 30, "fc2|lif2": 20},
    authors=lambda net, x: net(x)[0], answers={"readout": lambda output: output[0]})
class PoissonInput(nn.Module):
    """Draws a Poisson code in forward; returns logits and the number of spikes, for a penalty."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(64, 30), OwnLif(), nn.Linear(30, 20), OwnLif()
        self.out = nn.Linear(20, 4)
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.lif1.mem = self.lif2.mem = None
        logits, count = torch.zeros(len(x), 4), torch.zeros(())
        for _ in range(6):
            code = (torch.rand_like(x) < x).float().flatten(1)
            first = self.lif1(self.fc1(code))
            second = self.lif2(self.fc2(first))
            count = count + first.sum() + second.sum()
            logits = logits + self.out(second) / 6
        return logits, count

@trial("own", example=events(6, 5, 10), labels=classes(3, 6), places={"fc1|lif1": 16, "fc2|lif2": 12},
    authors=lambda net, x: sum(net(x)) / 5, answers={"readout": lambda output: sum(output) / 5})
class ListOfLogits(nn.Module):
    """Gives a list of logits, one for each step; the script adds up the losses' inputs."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(10, 16), OwnLif(), nn.Linear(16, 12), OwnLif()
        self.out = nn.Linear(12, 3)
    def forward(self, x: Tensor) -> list[Tensor]:
        for module in self.modules():
            if isinstance(module, OwnLif):
                module.mem = None
        return [self.out(self.lif2(self.fc2(self.lif1(self.fc1(x[:, t]))))) for t in range(x.size(1))]

@trial("own", example=events(5, 6, 2, 8, 8), labels=numbers(5, 6, 2), loss="mse_loss",
    places={"conv.*|pool": 8, "fc.*": 12}, answers={"step_axis": 1, "readout": None})
class GazeSteps(nn.Module):
    """Event frames [N, T, 2, H, W] to a position at each step [N, T, 2]."""
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.conv_lif, self.pool = nn.Conv2d(2, 8, 3), SequenceLif(1), nn.AdaptiveAvgPool2d(2)
        self.fc, self.fc_lif, self.head = nn.Linear(32, 12), SequenceLif(1), nn.Linear(12, 2)
    def forward(self, x: Tensor) -> Tensor:
        n, t = x.shape[:2]
        x = self.conv_lif(self.conv(x.flatten(0, 1)).unflatten(0, (n, t)))
        x = self.pool(x.flatten(0, 1)).view(n, t, -1)
        return self.head(self.fc_lif(self.fc(x)))

@trial("own", example=events(4, 5, 2, 8, 8), labels=classes(3, 4), places={r"stem(\..*)?": 8, r"blocks\.\d": 8},
    method="evolutionary")
class VideoConvolutions(nn.Module):
    """Three-dimensional convolutions [N, C, T, H, W] of frames that come as [N, T, C, H, W]; residual blocks."""
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(2, 8, 3, padding=1), nn.BatchNorm3d(8), SequenceLif(2))
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv3d(8, 8, 3, padding=1), nn.BatchNorm3d(8),
            SequenceLif(2)) for _ in range(3))
        self.head = nn.Linear(8, 3)
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.transpose(1, 2))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3, 4)))

@trial("own", example=events(6, 8, 10), labels=classes(3, 6), places={},
    refuse="only the readout of a random reservoir learns")
class Reservoir(nn.Module):
    """A liquid state machine: fixed random weights, a readout that learns."""
    def __init__(self) -> None:
        super().__init__()
        self.input, self.recurrent = nn.Linear(10, 40), nn.Linear(40, 40)
        self.input.requires_grad_(False)
        self.recurrent.requires_grad_(False)
        self.readout = nn.Linear(40, 3)
    def forward(self, x: Tensor) -> Tensor:
        mem, out, total = x.new_zeros(len(x), 40), x.new_zeros(len(x), 40), x.new_zeros(len(x), 40)
        for step in x.unbind(1):
            mem = 0.8 * mem + self.input(step) + self.recurrent(out)
            out = spike(mem - 0.5)
            mem, total = mem - 0.5 * out, total + out
        return self.readout(total)

@trial("own", example=events(6, 5, 10), labels=classes(3, 6), places={"fc1|neuron1": 16, "fc2|neuron2": 12})
class AnnealedSurrogate(nn.Module):
    """A counter of training passes sharpens the surrogate; leaks are learned; the mean of potentials is read."""
    calls: Tensor
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(10, 16), nn.Linear(16, 12), nn.Linear(12, 3)
        self.leak = nn.ParameterList([nn.Parameter(torch.zeros(16)), nn.Parameter(torch.zeros(12))])
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        width = 1 + 0.1 * self.calls
        mems, logits = [x.new_zeros(len(x), 16), x.new_zeros(len(x), 12)], []
        for step in x.unbind(1):
            for index, layer_ in enumerate((self.fc1, self.fc2)):
                mems[index] = self.leak[index].sigmoid() * mems[index] + layer_(step)
                step = spike(width * (mems[index] - 0.5))
                mems[index] = torch.where(step > 0, 0.0, mems[index])
            logits.append(self.out(step))
        return torch.stack(logits).mean(0)

@trial("own", example=events(6, 5, 2, 8, 8), labels=classes(4, 5), batch_axis=1,
    places={r"net\.[0-2]": 6, r"net\.[3-6]": 10}, authors=lambda net, x: net(x)["logits"].mean(0), method="tet", rows=0,
    answers={"readout": lambda output: output["logits"]})
class MergedTime(nn.Module):
    """Time first, merged with the batch for layers; a dictionary of logits of each step and of a mean rate."""
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.ModuleList([nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), SequenceLif(0), nn.Conv2d(6, 10, 3),
            nn.BatchNorm2d(10), SequenceLif(0)])
        self.head = nn.Linear(10, 4)
    def forward(self, x: Tensor) -> dict[str, Any]:
        steps = len(x)
        for layer_ in self.net:
            x = layer_(x) if isinstance(layer_, SequenceLif) else layer_(x.flatten(0, 1)).unflatten(0, (steps, -1))
        return {"logits": self.head(x.mean((-2, -1))), "rate": x.mean()}

@trial("own", example=frames(8, 2, 8, 8), labels=lambda: (torch.arange(8) % 2).float(), places=STAGES,
    loss="binary_cross", answers={"criterion": F.binary_cross_entropy_with_logits, "readout": None, "num_classes": 1})
class BinaryLogit(ConvTrunk):
    """One logit [N] for two classes."""
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 1)
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3))).squeeze(-1)

@trial("own", example=frames(8, 2, 8, 8), labels=lambda: F.one_hot(torch.arange(8) % 5, 5).float() * 0.9 + 0.02,
    places=STAGES, answers={"criterion": F.cross_entropy, "readout": None})
class SoftLabels(ConvTrunk):
    """Smoothed labels, as of mixup."""
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 5)
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))

class FlaggedLoop(nn.Module):
    """What the message advises."""
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(step, init=t == 0) for t, step in enumerate(x)]).mean(0)

class OnlineNeuron(nn.Module):
    def forward(self, x: Tensor, init: bool = False) -> Tensor:
        self.v: Tensor = x if init else 0.5 * self.v.detach() + x
        out = spike(self.v - 0.5)
        self.v = self.v - 0.5 * out.detach()
        return out

@trial("own", example=events(5, 6, 10), labels=classes(3, 6), batch_axis=1, authors=lambda net,
    x: torch.stack([net(step, init=t == 0) for t, step in enumerate(x)]).mean(0),
    places={r"(net\.)?[am]": 16, r"(net\.)?[bn]": 12}, advised=lambda net, x: (FlaggedLoop(net), x))
class FirstStepFlag(nn.Module):
    """Online training: the script calls net(x[0], init=True), then net(x[t])."""
    def __init__(self) -> None:
        super().__init__()
        self.a, self.m, self.b, self.n, self.c = (nn.Linear(10, 16), OnlineNeuron(), nn.Linear(16, 12), OnlineNeuron(),
            nn.Linear(12, 3))
    def forward(self, x: Tensor, **flags: bool) -> Tensor:
        return self.c(self.n(self.b(self.m(self.a(x), **flags)), **flags))

def called(net: nn.Module, x: Any) -> nn.Module:
    net(x)
    return net

class Net(nn.Module):
    """Submodules by name, and a function that runs them."""
    def __init__(self, run: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, module in modules.items():
            setattr(self, name, module)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)

def stages() -> dict[str, nn.Module]:
    trunk = ConvTrunk()
    return {"stage1": trunk.stage1, "stage2": trunk.stage2, "stage3": trunk.stage3}

def pooled(net: Any, x: Tensor) -> Tensor:
    return net.stage3(net.stage2(net.stage1(x))).mean((2, 3))

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places=STAGES, authors=lambda net, x: net(x).log(),
    answers={"readout": torch.log})
def softmax_inside() -> nn.Module:
    """Probabilities; the script takes nll_loss(torch.log(output))."""
    return Net(lambda net, x: net.head(pooled(net, x)).softmax(-1), **stages(), head=nn.Linear(16, 4))

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places=STAGES)
def checkpointed() -> nn.Module:
    """The second stage is computed again in the backward pass."""
    def run(net: Any, x: Tensor) -> Tensor:
        x = checkpoint.checkpoint(net.stage2, net.stage1(x), use_reentrant=False)
        return net.head(net.stage3(x).mean((2, 3)))
    return Net(run, **stages(), head=nn.Linear(16, 4))

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places={f"module.{k}": v for k, v in STAGES.items()})
def data_parallel() -> nn.Module:
    return nn.DataParallel(Plain())

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places={"0|1|2": 8, "3|4": 12}, first="0.weight",
    advised=lambda net, x: (called(net, x), x))
def lazy() -> nn.Module:
    """Parameters without shapes until the first call."""
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), Threshold(), nn.LazyConv2d(12, 3), Threshold(),
        nn.Flatten(), nn.LazyLinear(4))

@trial("Norse", example=numbers(6, 10, 3), labels=numbers(6, 4, 3), loss="mse_loss",
    places={"lif1|encode": 20, "lif2|mix": 16}, answers={"step_axis": None, "readout": None})
def forecast() -> nn.Module:
    """A window [N, T, variables] to the next four values of each [N, 4, variables]."""
    def run(net: Any, x: Tensor) -> Tensor:
        s1 = s2 = s3 = None
        for step in x.unbind(1):
            z, s1 = net.lif1(5 * net.encode(step), s1)
            z, s2 = net.lif2(5 * net.mix(z), s2)
            v, s3 = net.li(z, s3)
        return net.decode(v).unflatten(1, (4, 3))
    cells = {"lif1": norse.LIFCell(), "lif2": norse.LIFCell(), "li": norse.LICell()}
    return Net(run, encode=nn.Linear(3, 20), mix=nn.Linear(20, 16), **cells, decode=nn.Linear(16, 12))

@trial("SpikingJelly", example=frames(6, 2, 8, 8), labels=classes(4, 6), authors=lambda net, x: net(x).mean(0),
    places={r"conv1\.[0-2]|conv1": 8, r"conv2\.[0-2]|conv2": 12}, answers={"readout": "mean"})
def one_step() -> nn.Module:
    """T = 1: the output is [1, N, K]."""
    def run(net: Any, x: Tensor) -> Tensor:
        return net.head(net.conv2(net.conv1(x.unsqueeze(0))).mean((3, 4)))
    def block(a: int, b: int) -> nn.Module:
        return nn.Sequential(layer.Conv2d(a, b, 3, step_mode="m"), layer.BatchNorm2d(b, step_mode="m"), sj_lif("m"))
    return Net(run, conv1=block(2, 8), conv2=block(8, 12), head=layer.Linear(12, 4, step_mode="m"))

@trial("own", example=lambda: [torch.rand(n, 4) for n in (9, 7, 8, 9, 6)], labels=classes(3, 5),
    places={r"point\.[01]": 16, r"mix\.[01]": 12}, advised=lambda net, x: (net, x))
def event_lists() -> nn.Module:
    """A list of recordings of unlike lengths, each [events, (x, y, t, p)], as a collate function gives it."""
    def run(net: Any, x: list[Tensor]) -> Tensor:
        features = torch.stack([net.point(3 * recording).amax(0) for recording in x])
        return net.head(net.mix(features))
    point, mix = nn.Sequential(nn.Linear(4, 16), Threshold()), nn.Sequential(nn.Linear(16, 12), Threshold())
    return Net(run, point=point, mix=mix, head=nn.Linear(12, 3))

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places=STAGES,
    answers={"readout": lambda output: output[0] if isinstance(output, tuple) else output})
def auxiliary_in_training() -> nn.Module:
    """A second head in training only, as DeepLab's."""
    def run(net: Any, x: Tensor) -> Any:
        features = net.stage2(net.stage1(x))
        logits = net.head(net.stage3(features).mean((2, 3)))
        return (logits, net.auxiliary(features.mean((2, 3)))) if net.training else logits
    return Net(run, **stages(), head=nn.Linear(16, 4), auxiliary=nn.Linear(12, 4))

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places={r"stem(\.[0-2])?": 8})
def shared_block() -> nn.Module:
    """One block is applied three times in depth; a branch at it would average unlike depths."""
    def run(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        for _ in range(3):
            x = x + net.block(x)
        return net.head(x.mean((2, 3)))
    stem, block = (nn.Sequential(nn.Conv2d(c, 8, 3, padding=1), nn.BatchNorm2d(8), Threshold()) for c in (2, 8))
    return Net(run, stem=stem, block=block, head=nn.Linear(8, 4))

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places=STAGES)
def in_place() -> nn.Module:
    """The output of each stage is changed in place by what follows."""
    def run(net: Any, x: Tensor) -> Tensor:
        x = net.stage1(x)
        x = net.stage2(x.add_(1).mul_(0.5))
        return net.head(net.stage3(x.sub_(0.1)).mean((2, 3)))
    return Net(run, **stages(), head=nn.Linear(16, 4))

@trial("own", example=frames(6, 12), labels=classes(4, 6), places={},
    refuse="norms take the statistics of the batch in evaluation")
def batch_statistics() -> nn.Module:
    def norm(width: int) -> nn.Module:
        return nn.BatchNorm1d(width, track_running_stats=False)
    return nn.Sequential(nn.Linear(12, 20), norm(20), Threshold(), nn.Linear(20, 16), norm(16), Threshold(),
        nn.Linear(16, 4))

@trial("own", example=events(7, 5, 10), labels=classes(3, 5), batch_axis=1, places={"fc1|lif1": 16, "fc2|lif2": 12},
    authors=lambda net, x: net(x)[-1], answers={"readout": "last"})
def last_of_all() -> nn.Module:
    """Logits of a linear layer at each step [T, N, K]; the script takes the last, as with LSTMs."""
    def run(net: Any, x: Tensor) -> Tensor:
        return net.head(net.lif2(net.fc2(net.lif1(net.fc1(x)))))
    lifs = {"lif1": SequenceLif(), "lif2": SequenceLif()}
    return Net(run, fc1=nn.Linear(10, 16), fc2=nn.Linear(16, 12), **lifs, head=nn.Linear(12, 3))

@trial("SpikingJelly", example=events(6, 6, 10), labels=classes(3, 6), loop="input", batch_axis=0,
    places={"0|1": 16, "2|3": 12}, authors=lambda net, x: step_net(net, x, 1).mean(0), answers={"readout": "mean"})
def as_many_steps_as_samples() -> nn.Module:
    """Stepped along the second axis of [N, T, F], with N = T."""
    return nn.Sequential(nn.Linear(10, 16), sj_lif(), nn.Linear(16, 12), sj_lif(), nn.Linear(12, 3))

@trial("own", example=frames(5, 2, 8, 8), labels=classes(5, 5), places=STAGES, authors=lambda net, x: net(x).t(),
    answers={"readout": torch.t})
def transposed_output() -> nn.Module:
    """[K, N], with K = N."""
    return Net(lambda net, x: net.head(pooled(net, x)).t(), **stages(), head=nn.Linear(16, 5))

def triplet(prediction: Tensor, target: Tensor) -> Tensor:
    distances = torch.cdist(prediction, prediction)
    same_class = target[:, None] == target
    return (distances * same_class + F.relu(1 - distances) * ~same_class).mean()

@trial("own", example=frames(8, 2, 8, 8), labels=classes(4, 8), places=STAGES, loss="triplet",
    answers={"criterion": triplet, "readout": None})
def embedding() -> nn.Module:
    """Metric learning: embeddings [N, 24] of 4 classes; the loss compares samples."""
    return Net(lambda net, x: F.normalize(net.head(pooled(net, x)), dim=-1), **stages(), head=nn.Linear(16, 24))

@trial("own", example=lambda: torch.randint(0, 255, (6, 2, 8, 8), dtype=torch.uint8), labels=classes(4, 6),
    places=STAGES)
def bytes_in() -> nn.Module:
    """Frames of bytes, scaled inside."""
    return Net(lambda net, x: net.head(pooled(net, x.float() / 80)), **stages(), head=nn.Linear(16, 4))

@trial("own", example=lambda: (3 * torch.rand(6, 2, 8, 8), None), labels=classes(4, 6), places=STAGES)
def optional_mask() -> nn.Module:
    """A second argument that is None."""
    def run(net: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return net.head(pooled(net, x if mask is None else x * mask))
    return Net(run, **stages(), head=nn.Linear(16, 4))

@trial("own", example=lambda: (events(7, 5, 6)(), 3 * torch.rand(5, 2, 8, 8)), labels=classes(4, 5), batch_axis=1,
    first="stage1.0.weight", places=STAGES | {"fc|lif": 12})
def mixed_axes() -> nn.Module:
    """A sequence [T, N, F] and an image [N, C, H, W]."""
    def run(net: Any, sequence: Tensor, image: Tensor) -> Tensor:
        return net.head(torch.cat([net.lif(net.fc(sequence)).mean(0), pooled(net, image)], 1))
    return Net(run, fc=nn.Linear(6, 12), lif=SequenceLif(0), **stages(), head=nn.Linear(28, 4))

@trial("snnTorch", example=events(7, 5, 10), labels=classes(3, 7, 5), batch_axis=1,
    places={"fc1|lif1": 16, "fc2|lif2": 12}, rows=1, answers={"readout": None, "step_axis": 0})
def frame_labels() -> nn.Module:
    """Phonemes: logits [T, N, K], a class at each step [T, N]."""
    def run(net: Any, x: Tensor) -> Tensor:
        snn_utils.reset(net)
        return torch.stack([net.head(net.lif2(net.fc2(net.lif1(net.fc1(step))))) for step in x])
    lifs = {name: snn.Leaky(beta=0.8, init_hidden=True, threshold=0.3) for name in ("lif1", "lif2")}
    return Net(run, fc1=nn.Linear(10, 16), fc2=nn.Linear(16, 12), **lifs, head=nn.Linear(12, 3))

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places=STAGES, authors=lambda net, x: net(x.clone()))
def scales_its_input() -> nn.Module:
    """The batch is normalised in place."""
    def run(net: Any, x: Tensor) -> Tensor:
        return net.head(pooled(net, x.sub_(0.2).mul_(1.5)))
    return Net(run, **stages(), head=nn.Linear(16, 4))

RECORD: list[Tensor] = []

@trial("own", example=frames(6, 2, 8, 8), labels=classes(4, 6), places=STAGES)
def monitored() -> nn.Module:
    """A hook of the user's appends to a list."""
    net = Plain()
    net.stage2.register_forward_hook(lambda module, inputs, output: RECORD.append(output.detach()))
    return net

@trial("own", example=frames(6, 10), labels=classes(4, 6), places={"a": 20, "b": 16}, authors=lambda net,
    x: net(x).logits, answers={"readout": lambda output: output.logits})
def distribution() -> nn.Module:
    """A policy that returns a distribution of torch's."""
    def run(net: Any, x: Tensor) -> Any:
        return torch.distributions.Categorical(logits=net.head(spike(net.b(spike(net.a(x) - 0.2)))))
    return Net(run, a=nn.Linear(10, 20), b=nn.Linear(20, 16), head=nn.Linear(16, 4))

@trial("own", example=lambda: torch.rand(6, 1, 8, 8), labels=lambda: torch.rand(6, 1, 8, 8), loss="binary_cross",
    places={r"encoder\.[0-2]": 8, "encoder": 128, r"decoder\.[01]": 20, "mu|logvar": 6}, authors=lambda net,
    x: net(x)[0], answers={"readout": lambda output: output[0], "criterion": F.binary_cross_entropy_with_logits,
    "step_axis": None})
def vae() -> nn.Module:
    """Reconstruction, mean and log-variance; a sample is drawn in training."""
    def run(net: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = net.encoder(x)
        mu, logvar = net.mu(features), net.logvar(features)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp() if net.training else mu
        return net.out(net.decoder(z)).view(-1, 1, 8, 8), mu, logvar
    encoder = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), Threshold(), nn.Flatten())
    decoder = nn.Sequential(nn.Linear(6, 20), Threshold())
    return Net(run, encoder=encoder, mu=nn.Linear(128, 6), logvar=nn.Linear(128, 6), decoder=decoder,
        out=nn.Linear(20, 64))

@trial("own", example=lambda: 3 * torch.rand(9, 5, 12), labels=classes(3, 5), batch_axis=1,
    places={r"encoder\.layers\.\d": 12})
def torch_transformer() -> nn.Module:
    """PyTorch's encoder, tokens first [L, N, D], with a threshold as its activation."""
    encoder = nn.TransformerEncoderLayer(12, 2, 24, 0.0, activation=spike)
    net = nn.TransformerEncoder(encoder, 3, enable_nested_tensor=False)
    return Net(lambda net, x: net.head(net.encoder(x).mean(0)), encoder=net, head=nn.Linear(12, 3))

@trial("own", example=lambda: 3 * torch.rand(6, 2, 8, 8, dtype=torch.float64), labels=classes(4, 6), places=STAGES)
def double() -> nn.Module:
    return Plain().double()

class ClassState(nn.Module):
    memory: dict[int, Tensor] = {}  # noqa: RUF012
    def __init__(self, key: int) -> None:
        super().__init__()
        self.key = key
    def forward(self, x: Tensor) -> Tensor:
        mem = 0.6 * ClassState.memory.get(self.key, torch.zeros_like(x)) + x
        out = spike(mem - 0.5)
        ClassState.memory[self.key] = mem - 0.5 * out
        return out

def clear_class(net: nn.Module) -> nn.Module:
    ClassState.memory.clear()
    return net

@trial("own", example=events(5, 6, 10), labels=classes(3, 6), loop="input", batch_axis=1,
    places={"fc1|lif1": 16, "fc2|lif2": 12}, authors=lambda net, x: step_net(clear_class(net), x).mean(0),
    answers={"readout": "mean", "reset": clear_class})
def state_of_the_class() -> nn.Module:
    """States are in a dictionary of the class, which no copy of the network holds."""
    lifs = {"lif1": ClassState(1), "lif2": ClassState(2)}
    return Net(lambda net, x: net.head(net.lif2(net.fc2(net.lif1(net.fc1(x))))), fc1=nn.Linear(10, 16),
        fc2=nn.Linear(16, 12), **lifs, head=nn.Linear(12, 3))
