"""Spiking transformers: QKFormer, whose attention multiplies spikes by spikes and has no softmax.

Blocks pass feature maps ``[T, N, C, H, W]``, as in the other networks, so branches and strided convolutions know the
axes. Attention views the same memory as tokens, ``[T, N, heads, L, C / heads]``.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Interval, Len
from torch import Tensor, nn

from .. import components
from ..neurons import LIF
from .blocks import BLOCKS, MakeNeuron, Projection, SpikingProjection
from .network import ClassifierStd, Count, Norm, Readout, SpikingNetwork
from .options import check_choice, check_sizes
from .roles import NeuronRole, Roles, after
from .stems import StemKind, make_stem

Residual = Literal["sew", "ms"]
Depth = Annotated[int, Interval(ge=1, le=1000)]


class TokenAttention(nn.Module):
    """Q-K token attention: for each head and token, a neuron driven by the query's spikes gates the key.

    The cost is linear in the number of tokens. Tokens are not mixed.

    Example:
        >>> import torch
        >>> TokenAttention(8, 2, LIF)(torch.rand(4, 2, 8, 3, 3)).shape
        torch.Size([4, 2, 8, 3, 3])
    """

    def __init__(self, width: int, heads: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.heads = heads
        self.query_key = SpikingProjection(width, 2 * width, 1, make_neuron)
        self.spike = make_neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, N, C, H, W]`` to spikes of the same shape."""
        query, key = self.query_key(x).unflatten(2, (2, self.heads, -1)).unbind(2)
        passes = self.spike(query.sum(3, keepdim=True))
        spikes: Tensor = (passes * key).flatten(2, 3)
        return spikes

    def roles(self) -> Roles:
        """Return the roles of its neurons (see :mod:`.roles`)."""
        return after("inner", "query_key.conv", "query_key.spike") | {"spike": NeuronRole("inner")}


class SelfAttention(nn.Module):
    """Spiking self-attention: a neuron after ``8 / L * query (key^T value)``, with L tokens.

    Key and value are multiplied first, so the cost is linear in the number of tokens. For 64 tokens the factor is that
    of Spikformer, 1/8.

    Example:
        >>> import torch
        >>> SelfAttention(8, 2, LIF)(torch.rand(4, 2, 8, 3, 3)).shape
        torch.Size([4, 2, 8, 3, 3])
    """

    def __init__(self, width: int, heads: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = SpikingProjection(width, 3 * width, 1, make_neuron)
        self.spike = make_neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, N, C, H, W]`` to spikes of the same shape."""
        tokens = self.query_key_value(x).flatten(3).unflatten(2, (3, self.heads, -1))
        query, key, value = tokens.movedim(-1, -2).unbind(2)
        mixed = query @ (key.transpose(-2, -1) @ value) * (8 / tokens.shape[-1])
        spikes: Tensor = self.spike(mixed).transpose(2, 3).flatten(3).movedim(-1, 2).unflatten(3, x.shape[3:])
        return spikes

    def roles(self) -> Roles:
        """Return the roles of its neurons (see :mod:`.roles`)."""
        return after("inner", "query_key_value.conv", "query_key_value.spike") | {"spike": NeuronRole("inner")}


class TransformerBlock(nn.Module):
    """Attention, then two linear layers over each token's channels, each part with a residual.

    Residuals carry spikes, as in :class:`~.blocks.SEWBlock`, or currents, as in :class:`~.blocks.MSBlock`, with a
    neuron before each part.

    Args:
        width: channels.
        heads: attention heads.
        hidden: channels between the two linear layers.
        attention: creates the attention: ``(width, heads, make_neuron) -> module``.

    Example:
        >>> import torch
        >>> TransformerBlock(8, 2, 16, SelfAttention, "ms", LIF)(torch.rand(4, 2, 8, 3, 3)).shape
        torch.Size([4, 2, 8, 3, 3])
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        attention: Callable[[int, int, MakeNeuron], nn.Module],
        block: Residual,
        make_neuron: MakeNeuron,
    ) -> None:
        super().__init__()
        sew = block == "sew"
        self.spike1 = nn.Identity() if sew else make_neuron()
        self.attention = attention(width, heads, make_neuron)
        self.mix = SpikingProjection(width, width, 1, make_neuron) if sew else Projection(width, width, 1)
        self.spike2 = nn.Identity() if sew else make_neuron()
        self.expand = SpikingProjection(width, hidden, 1, make_neuron)
        self.reduce = SpikingProjection(hidden, width, 1, make_neuron) if sew else Projection(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map counts of spikes or currents ``[T, N, C, H, W]`` to values of the same kind and shape."""
        x = x + self.mix(self.attention(self.spike1(x)))
        out: Tensor = x + self.reduce(self.expand(self.spike2(x)))
        return out

    def roles(self) -> Roles:
        """Return the roles of its neurons (see :mod:`.roles`)."""
        expand = after("inner", "expand.conv", "expand.spike")
        if isinstance(self.mix, SpikingProjection):
            return expand | after("adding", "mix.conv", "mix.spike") | after("adding", "reduce.conv", "reduce.spike")
        spike2, output = (NeuronRole("stream", f"{part}.conv", f"{part}.norm") for part in ("mix", "reduce"))
        return expand | {"spike1": None, "spike2": spike2, "": output}


@components.network("qkformer")
class SpikingTransformer(SpikingNetwork):
    """QKFormer: a stem, then stages of transformer blocks with a patch embedding before each, and a linear readout.

    Zhou et al., "QKFormer: Hierarchical Spiking Transformer using Q-K Attention", NeurIPS 2024 (arXiv 2403.16552). A
    patch embedding is a residual block of two 3x3 convolutions. From the second stage on it halves height and width,
    which merges four tokens into one. The last stage has :class:`SelfAttention`, as in Spikformer, the others
    :class:`TokenAttention`. Three things differ from the original: patches are merged by a stride, not by max pooling;
    the factor of self-attention depends on the number of tokens, so that images may have any size; and residuals may
    carry currents.

    Branches at every stage tap ``layer1``, ``layer2``, ...; branches at every block tap ``layer1.0``, ...

    It also takes the arguments of :class:`SpikingNetwork`.

    Args:
        width: channels of the first stage; each further stage has twice as many.
        blocks: transformer blocks of each stage.
        heads: attention heads in the first stage; wider stages have more heads of the same channels.
        expansion: width of a block's hidden layer, as a multiple of its channels.
        stem: see :class:`~.stems.Stem`.
        block: what residuals carry: ``"ms"`` for currents, ``"sew"`` for counts of spikes, as in QKFormer.

    Raises:
        ValueError: a size is not positive, heads do not divide the channels, or an option is unknown.

    Example:
        >>> import torch
        >>> network = SpikingTransformer(num_classes=10, width=4)
        >>> network(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        time_steps: Count = 4,
        *,
        width: Count = 96,
        blocks: Annotated[tuple[Depth, ...], Len(1, 16)] = (1, 1, 2),
        heads: Count = 1,
        expansion: Count = 4,
        in_channels: Count = 3,
        stem: StemKind = "small",
        make_neuron: MakeNeuron = LIF,
        readout: Readout = "mean",
        block: Residual = "ms",
        norm: Norm = "bn",
        classifier_std: ClassifierStd = None,
    ) -> None:
        super().__init__(num_classes, time_steps, in_channels, readout)
        if not blocks:
            raise ValueError("blocks must name at least one stage, as in (1, 1, 2)")
        sizes = {f"blocks[{i}]": depth for i, depth in enumerate(blocks)}
        check_sizes(width=width, heads=heads, expansion=expansion, **sizes)
        check_choice("block", block, Residual)
        if width % heads:
            raise ValueError(f"heads must divide the first stage's {width} channels, got {heads}")
        embedding = BLOCKS[block]
        self.stem = make_stem(stem, in_channels, width, make_neuron, embedding.carries_spikes)
        self.stage_names = [f"layer{i + 1}" for i in range(len(blocks))]
        inputs = width
        for i, (name, depth) in enumerate(zip(self.stage_names, blocks, strict=True)):
            outputs = width * 2**i
            self.add_module(f"embed{i + 1}", embedding(inputs, outputs, 2 if i else 1, make_neuron))
            attention = SelfAttention if i == len(blocks) - 1 else TokenAttention
            stage = nn.Sequential()
            for _ in range(depth):
                stage.append(
                    TransformerBlock(outputs, heads * 2**i, expansion * outputs, attention, block, make_neuron)
                )
            self.add_module(name, stage)
            inputs = outputs
        self.last_spike = None if embedding.carries_spikes else make_neuron()
        self.classifier = nn.Linear(inputs, num_classes)
        self._initialise(norm, classifier_std)

    def features(self, x: Tensor) -> Tensor:
        """Map images ``[1, N, C, H, W]`` or frames ``[T, N, C, H, W]`` to averaged spikes ``[T, N, F]``."""
        x = self.stem(x, self.time_steps)
        for i, name in enumerate(self.stage_names):
            x = self.get_submodule(name)(self.get_submodule(f"embed{i + 1}")(x))
        if self.last_spike is not None:
            x = self.last_spike(x)
        return x.mean((-2, -1))

    def roles(self) -> Roles:
        """Return the roles of neurons after the last block (see :mod:`.roles`)."""
        return {} if self.last_spike is None else {"last_spike": None}
