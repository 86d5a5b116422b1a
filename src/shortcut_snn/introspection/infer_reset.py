"""Inference of the reset: how the neurons of a network return to their initial state.

A network leaks if its output for a batch depends on the batch before. The resets of known libraries are taken on trust.
For other state the caller is asked.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .._utils.calls import Reset
from .adapters import Adapter, library_reset
from .answer import Answer, OpenQuestion
from .probe import Probe

_ABSENT = "no such attribute"


def infer_reset(probe: Probe, adapters: list[Adapter], reset: Reset | str | None) -> Answer[Reset | None]:
    """Infer the reset of a network."""
    if reset is None:
        return Answer(None, "reset=None")
    known = library_reset(adapters)
    libraries = " and ".join(adapter.name for adapter in adapters if adapter.reset is not None)
    if not isinstance(reset, str):
        if leaks(probe, reset):
            suffices = known is not None and not leaks(probe, known)
            remedy = f"; leave reset=... out, since {libraries}'s own suffices" if suffices else ""
            raise ValueError(
                f"{describe_state(probe)}, although reset=... is given: it must reset this state too, also in copies "
                f"of the network{remedy}"
            )
        if _writes_in_place(probe, reset):
            raise ValueError(
                "reset=... writes into tensors that the backward pass needs: let it assign new ones, as in self.v = 0.0"
            )
        return Answer(reset, "your reset=...")
    changed = {probe.initial.get_submodule(name) for name, _ in changed_attributes(probe)}
    of_libraries = bool(changed) and all(any(adapter.resets(module) for adapter in adapters) for module in changed)
    if of_libraries or not leaks(probe, known):
        return Answer(known, f"{libraries}'s own" if libraries else "no state outlives a forward pass")
    raise OpenQuestion(
        f"{describe_state(probe)}: pass reset=..., a function of the network that gives its neurons new states, as in "
        "lambda net: net.reset(), or reset=None, to keep the state; if the network was called before, pass a new one"
    )


def check_layers_exist(probe: Probe) -> None:
    """Check that a pass makes no layers, which no hook and no optimizer would know."""
    known, modules = dict(nn.Module.named_modules(probe.initial)), nn.Module.named_modules(probe.base.network)
    made = [name for name, module in modules if name not in known and list(nn.Module.parameters(module))]
    if made:
        raise ValueError(
            f"{type(probe.initial).__name__} makes layers in its first call, such as {made[-1]!r}: call the network "
            "once on a batch before you attach it"
        )


def leaks(probe: Probe, reset: Reset | None) -> bool:
    """Return whether a network's output depends on the batch before, with a reset between the two."""
    try:
        network = probe.used()
        if reset is not None:
            reset(network)
        return probe.differs(probe.observe(network=network))
    except Exception:  # A state of another shape, or a reset that needs arguments.
        return True


def _writes_in_place(probe: Probe, reset: Reset) -> bool:
    """Return whether a reset writes into tensors of the graph of a pass."""
    network = probe.observe(network=probe.fresh(), gradients=True).network
    values = [value for module in nn.Module.modules(network) for value in tree_leaves(_attributes(module))]
    states = [value for value in values if isinstance(value, Tensor) and value.grad_fn is not None]
    before = [state.detach().clone() for state in states]
    reset(network)
    return not all(map(torch.equal, states, before))


# State in the attributes of modules


def changed_attributes(probe: Probe) -> list[tuple[str, str]]:
    """Return the names of modules and of their attributes that a pass changes."""
    changed, others = [], dict(nn.Module.named_modules(probe.base.network))
    for name, before in nn.Module.named_modules(probe.initial):
        old, new = _attributes(before), _attributes(others.get(name, before))
        names = dict.fromkeys([*old, *new])
        changed += [(name, key) for key in names if not _equal(old.get(key, _ABSENT), new.get(key, _ABSENT))]
    return changed


def describe_state(probe: Probe) -> str:
    """Say in which attributes a network keeps its state."""
    names = [".".join(filter(None, place)) for place in changed_attributes(probe)]
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    where = f", in {listed}" if names else ""
    return f"{type(probe.initial).__name__} keeps state from one call to the next{where}"


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes and buffers, without parameters, submodules and hooks."""
    kinds = (
        "_parameters", "_buffers", "_non_persistent_buffers_set", "_state_dict_hooks", "training", "_traced_steps",
        "_attributes_version",
    )  # fmt: skip
    attributes = {
        name: value
        for name, value in vars(module).items()
        if name not in kinds and not name.startswith(("_forward", "_backward", "_modules"))
    }
    buffers: dict[str, Any] = vars(module).get("_buffers", {})
    return attributes | buffers


def _equal(one: Any, other: Any) -> bool:
    """Return whether two attributes are equal: the tensors, numbers and words in their containers."""
    some, others = tree_leaves(one), tree_leaves(other)
    return len(some) == len(others) and all(map(_equal_leaves, some, others))


def _equal_leaves(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        one, other = (each if each.layout is torch.strided else each.to_dense() for each in (one, other))
        return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())
    plain = int | float | str | None
    if isinstance(one, plain) or isinstance(other, plain):
        return type(one) is type(other) and one == other
    # Another object is copied with the module, so its identity means nothing.
    return type(one) is type(other)
