"""A submodule that is trained and moved with its parent but is no part of its state."""

from collections.abc import Callable
from typing import Any

from torch import nn


def add_unsaved(parent: nn.Module, name: str, child: nn.Module) -> Callable[[], None]:
    """Add a submodule whose keys ``parent.state_dict()`` does not have and ``parent.load_state_dict()`` does not miss.

    Returns:
        A function that takes it away again.
    """

    def leave_out(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        for key in [key for key in state if key.startswith(f"{prefix}{name}.")]:
            del state[key]

    def do_not_miss(module: nn.Module, keys: Any) -> None:
        keys.missing_keys[:] = [key for key in keys.missing_keys if not key.startswith(f"{name}.")]

    parent.add_module(name, child)
    handles = [
        parent.register_state_dict_post_hook(leave_out),  # type: ignore[no-untyped-call]
        parent.register_load_state_dict_post_hook(do_not_miss),  # type: ignore[no-untyped-call]
    ]

    def undo() -> None:
        for handle in handles:
            handle.remove()
        delattr(parent, name)

    return undo
