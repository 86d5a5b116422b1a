"""What is particular to the networks of other libraries, none of which is imported unless a network is made of it."""

from torch import nn

from .library import Library, Reset
from .norse import NORSE
from .plain import PLAIN
from .snntorch import SNNTORCH
from .spikingjelly import SPIKINGJELLY

LIBRARIES = (SPIKINGJELLY, SNNTORCH, NORSE)

__all__ = ["LIBRARIES", "PLAIN", "Library", "Reset", "library_of"]


def library_of(network: nn.Module) -> Library:
    """Return the library that a network's neurons come from, told by their classes; plain PyTorch if from none.

    Raises:
        ValueError: there are neurons of more than one library, each of which keeps its state in another way.
    """
    found = [library for library in LIBRARIES if library.neurons(network)]
    if len(found) > 1:
        names = " and of ".join(library.name for library in found)
        raise ValueError(
            f"{type(network).__name__} has neurons of {names}: wrap it with Shortcut(network, taps, reset=..., ...), "
            "where reset puts the neurons of all of them to rest"
        )
    return found[0] if found else PLAIN
