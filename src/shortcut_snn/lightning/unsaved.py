"""A submodule that is trained and moved with its parent but is no part of its state, nor of its optimizer's."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

State = dict[str, Any]
Name = TypeVar("Name")


def add_unsaved(parent: nn.Module, name: str, child: nn.Module) -> Callable[[], None]:
    """Add a submodule whose keys ``parent.state_dict()`` does not have and ``parent.load_state_dict()`` does not miss.

    Returns:
        A function that takes it away again.

    Example:
        >>> parent = nn.Linear(2, 2)
        >>> undo = add_unsaved(parent, "child", nn.Linear(3, 3))
        >>> list(parent.state_dict()), len(list(parent.parameters()))
        (['weight', 'bias'], 4)
    """

    def leave_out(module: nn.Module, state: State, prefix: str, _: Any) -> None:
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


def set_aside(
    optimizers: Iterable[Optimizer], parameters: Iterable[Tensor], beside: Iterable[Tensor] = ()
) -> Callable[[], None]:
    """Take parameters out of optimizers until the state of these has been loaded, which then may be one without them.

    Args:
        optimizers: of the module.
        parameters: to be taken out.
        beside: those of the network to which they belong.

    Returns:
        A function that puts them back; one that was in none comes into the group that trains most of the network, of
        its parameters with as many axes if there are any: biases beside biases, and no bias into Muon.

    Example:
        >>> from torch.optim import SGD
        >>> net, extra = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> optimizer = SGD(net.parameters(), lr=0.1)
        >>> put_back = set_aside([optimizer], extra.parameters())
        >>> optimizer.load_state_dict(SGD(net.parameters(), lr=0.1).state_dict())
        >>> put_back()
        >>> len(optimizer.param_groups[0]["params"])
        4
    """
    optimizers, left = list(optimizers), {id(parameter): parameter for parameter in parameters}
    places: list[tuple[Optimizer, int, Tensor, str | None, Any]] = []
    for optimizer in optimizers:
        for number, group in enumerate(optimizer.param_groups):
            for index in reversed(range(len(group["params"]))):
                if id(group["params"][index]) in left:
                    parameter = group["params"].pop(index)
                    name = group["param_names"].pop(index) if "param_names" in group else None
                    # Some, such as Adagrad, have a state before the first step.
                    places.append((optimizer, number, parameter, name, optimizer.state.pop(parameter, None)))
                    del left[id(parameter)]
    groups = [(each, number) for each in optimizers for number in range(len(each.param_groups))]
    trained = {id(parameter) for parameter in beside}

    def share(place: tuple[Optimizer, int], axes: int) -> tuple[int, int]:
        inside = [each for each in place[0].param_groups[place[1]]["params"] if id(each) in trained]
        return sum(each.numel() for each in inside if each.dim() == axes), sum(each.numel() for each in inside)

    for parameter in left.values():
        optimizer, number = max(groups, key=lambda place: share(place, parameter.dim()))
        places.insert(0, (optimizer, number, parameter, "branch", None))

    def put_back() -> None:
        # Loading a state makes new groups.
        for optimizer, number, parameter, name, state in reversed(places):
            group = optimizer.param_groups[number]
            group["params"].append(parameter)
            if "param_names" in group:
                group["param_names"].append(name)
            if state is not None:
                optimizer.state[parameter] = state

    return put_back


def split_state(optimizer: Optimizer, state: State, names: Mapping[int, Name]) -> tuple[State, dict[Name, State]]:
    """Return an optimizer's state as it would be without some of its parameters, and the states of these by name.

    Args:
        optimizer: whose state it is.
        state: its ``state_dict()``.
        names: of the parameters to be left out, by their id.

    Example:
        >>> from torch.optim import SGD
        >>> parts = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> optimizer = SGD([parameter for part in parts for parameter in part.parameters()], lr=0.1)
        >>> state, _ = split_state(optimizer, optimizer.state_dict(), {id(parts[0].weight): "weight"})
        >>> state["param_groups"][0]["params"]
        [0, 1, 2]
    """
    numbers: dict[int, int] = {}
    out: dict[Name, State] = {}
    groups = []
    for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        kept = []
        for place, (parameter, number) in enumerate(zip(group["params"], saved["params"], strict=True)):
            if id(parameter) not in names:
                kept.append(place)
                numbers[number] = len(numbers)
            elif number in state["state"]:
                out[names[id(parameter)]] = state["state"][number]
        lists = {key: [saved[key][place] for place in kept] for key in ("params", "param_names") if key in saved}
        groups.append(saved | lists | {"params": [numbers[number] for number in lists["params"]]})
    # What is kept under something else than a number is not of a parameter.
    states = {numbers.get(key, key): value for key, value in state["state"].items() if not _of(key, numbers)}
    return state | {"state": states, "param_groups": groups}, out


def _of(key: Any, kept: Mapping[int, int]) -> bool:
    """Whether a key of an optimizer's state is the number of a parameter that is left out."""
    return isinstance(key, int) and key not in kept


def load_states(optimizers: Iterable[Optimizer], states: Mapping[str, State], named: Mapping[str, Tensor]) -> None:
    """Give parameters their optimizer's state back, and nothing to the others.

    Example:
        >>> from torch.optim import SGD
        >>> import torch
        >>> net = nn.Linear(1, 1)
        >>> optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
        >>> load_states([optimizer], {"bias": {"momentum_buffer": torch.ones(1)}}, dict(net.named_parameters()))
        >>> optimizer.state[net.bias]
        {'momentum_buffer': tensor([1.])}
    """
    for optimizer in optimizers:
        ids = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
        mine = {ids.index(id(named[name])): state for name, state in states.items() if id(named[name]) in ids}
        if mine:
            whole = optimizer.state_dict()
            # Loading knows to which device and type every part of a state goes.
            optimizer.load_state_dict(whole | {"state": whole["state"] | mine})
