"""A method of a module that is another for a while, on this module alone."""

from collections.abc import Callable
from typing import Any

from torch import nn

_OWN = "_own_before_the_first"


def override(module: nn.Module, name: str, method: Callable[..., Any]) -> Callable[[], None]:
    """Let a module have another method of a name, which may call the one it has now.

    Returns:
        A function that gives the module back what it had before the first of several that were put over one another,
        so that these may be taken off in any order, together.

    Example:
        >>> module = nn.Linear(2, 2)
        >>> undo = override(module, "extra_repr", lambda: "odd")
        >>> module
        Linear(odd)
        >>> undo()
        >>> module
        Linear(in_features=2, out_features=2, bias=True)
    """
    own = vars(module).get(name)
    first = getattr(own, _OWN, own)
    setattr(method, _OWN, first)
    setattr(module, name, method)

    def undo() -> None:
        if first is None:
            vars(module).pop(name, None)
        else:
            setattr(module, name, first)

    return undo
