"""The roles of neurons on the path from input to output: blocks declare them, and an initialisation reads them."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

Role = Literal["first", "inner", "copy", "skip", "projected", "adding", "stream"]
"""The part of a neuron on the path from input to output:

- first: it is the first one of the network, or in the projection of a skip path;
- inner: it is inside a residual branch, or its layer changes the shape of its input;
- copy: its layer is on the only path, and could pass on its input, because both have the same shape;
- skip: its current is the norm's output plus spikes, ``spike(f(x) + x)``;
- projected: its current is the sum of two norms, one of them in the projection of a skip path;
- adding: its spikes are added to others, ``spike(f(x)) + x``;
- stream: its current is the norm's output plus a current, ``f(spike(x)) + x``.
"""


@dataclass(frozen=True)
class NeuronRole:
    """The role of a neuron, and the modules that cause its current, by their names; "" if there is none.

    ``weights`` is the layer that feeds the neuron alone, ``norm`` is the norm after it, and ``projection`` is the norm
    in the projection of a skip path.
    """

    role: Role
    weights: str = ""
    norm: str = ""
    projection: str = ""

    def inside(self, module: str) -> "NeuronRole":
        """Return the role with the names in the whole network, of which ``module`` is a part."""
        names = (self.weights, self.norm, self.projection)
        return NeuronRole(self.role, *(f"{module}.{name}" if name and module else name for name in names))


Roles = dict[str, NeuronRole | None]
"""By neuron. None is a neuron that takes the current that the module before it returns. The entry "" is the role of
the neuron that takes the module's own output, if this is a current."""


def after(role: Role, layer: str, spike: str) -> Roles:
    """Return the role of a :class:`~shortcut_snn.neurons.NormNeuron` after a layer with weights."""
    return {spike: NeuronRole(role, layer, f"{spike}.norm")}


def keeps_shape(convolution: nn.Conv2d) -> bool:
    """Return whether the output of a 3x3 convolution has the shape of its input."""
    return convolution.in_channels == convolution.out_channels and convolution.stride == (1, 1)


def declared_roles(network: nn.Module) -> dict[str, NeuronRole]:
    """Return the roles that the modules of a network declare, by the names of its neurons.

    A network that declares roles, if only of its last neurons or none, calls its blocks one after another. Of one that
    does not, nothing is known.
    """
    roles: dict[str, NeuronRole] = {}
    if not hasattr(network, "roles"):
        return roles
    current: NeuronRole | None = None
    inner = [(name, module) for name, module in network.named_modules() if name]
    # Neurons of the network itself come after its last block.
    for name, module in [*inner, ("", network)]:
        declared: Roles = module.roles() if callable(getattr(module, "roles", None)) else {}
        for neuron, role in declared.items():
            role = role.inside(name) if role else current
            if not neuron:
                current = role
            elif role:
                roles[f"{name}.{neuron}".lstrip(".")] = role
    return roles
