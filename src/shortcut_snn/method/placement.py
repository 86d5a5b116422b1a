"""Placements of taps: at the ends of stages, after every block, or at named submodules."""

import re
from collections.abc import Callable, Sequence

from torch import nn

from ..components.registry import suggestion

_STAGE = re.compile(r"(?:^|\.)(?:layer|stage)s?[._]?\d+$")
_NUMBERED = re.compile(r"(.*?)[._]?\d+$")


def stages(network: nn.Module) -> list[str]:
    """Return the names of a network's stages: its ``stage_names``, or submodules named layer1, stage1, ..."""
    declared = getattr(network, "stage_names", None)
    if declared is not None:
        return list(declared)
    names = [name for name, _ in network.named_modules() if _STAGE.search(name)]
    # A stage inside a stage (layer1.stage0) is not a stage of the network.
    return [name for name in names if not any(name.startswith(outer + ".") for outer in names)]


def stage_ends(network: nn.Module) -> list[str]:
    """Return the names of all stages but the last, whose output is that of the main branch.

    Raises:
        ValueError: the network has no stages, or one; name the taps instead.

    Example:
        >>> stage_ends(nn.ModuleDict({"layer1": nn.ReLU(), "layer2": nn.ReLU(), "head": nn.Identity()}))
        ['layer1']
    """
    names = _find_stages(network)
    if len(names) == 1:
        raise ValueError(f"{type(network).__name__} has one stage, {names[0]}: place taps at 'blocks', or name them")
    return names[:-1]


def _find_stages(network: nn.Module) -> list[str]:
    names = stages(network)
    if not names:
        raise ValueError(
            f"{type(network).__name__} has no submodules named layer1, layer2, ... as stages; "
            f"name the taps yourself, among: {_some_names(network)}"
        )
    return names


def every_block(network: nn.Module) -> list[str]:
    """Return the names of all blocks but the last.

    Blocks are the numbered children of the stages, as in ``layer1.0`` and ``layer1.1``. A stage with other children, or
    whose children are single layers, is one block. A stage without weights, such as dropout, is none.

    Raises:
        ValueError: the network has no stages (see :func:`stage_ends`).

    Example:
        >>> block, layer = (lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU())), nn.Linear(2, 2)
        >>> every_block(nn.ModuleDict({"layer1": nn.Sequential(block(), block()), "layer2": nn.Sequential(block())}))
        ['layer1.0', 'layer1.1']
        >>> every_block(nn.ModuleDict({"layer1": nn.Sequential(layer, nn.ReLU()), "layer2": nn.Sequential(block())}))
        ['layer1']
    """
    blocks: list[str] = []
    names = _find_stages(network)
    for stage in [name for name in names if _has_weights(network.get_submodule(name))] or names:
        children = [
            (name, child) for name, child in network.get_submodule(stage).named_children() if _has_weights(child)
        ]
        matches = [_NUMBERED.match(name) for name, _ in children]
        are_siblings = all(matches) and len({match[1] for match in matches if match}) == 1
        # A block is made of layers; a neuron, whose only child is a surrogate, is none.
        are_blocks = are_siblings and all(any(map(_has_weights, child.children())) for _, child in children)
        blocks += [f"{stage}.{name}" for name, _ in children] if are_blocks else [stage]
    return blocks[:-1]


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in nn.Module.parameters(module))


PLACEMENTS: dict[str, Callable[[nn.Module], list[str]]] = {"stages": stage_ends, "blocks": every_block}


def resolve(network: nn.Module, taps: object) -> list[str]:
    """Return the submodule names of a placement ("stages", "blocks") or of a list of names."""
    if isinstance(taps, str):
        if taps not in PLACEMENTS:
            raise ValueError(
                f"unknown placement {taps!r}: use one of {', '.join(map(repr, PLACEMENTS))}, or a list of names"
            )
        return PLACEMENTS[taps](network)
    if not isinstance(taps, Sequence) or not all(isinstance(name, str) for name in taps):
        raise TypeError(f"taps must be a placement or a list of names of submodules, got {taps!r}")
    names = list(taps)
    modules = dict(network.named_modules())
    for name in names:
        if not name or name not in modules:
            hint = suggestion(name, filter(None, modules))
            raise ValueError(
                f"no submodule {name!r} in {type(network).__name__}{hint}; there are: {_some_names(network)}"
            )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"tapped more than once: {', '.join(repeated)}")
    return names


def _some_names(network: nn.Module, limit: int = 60) -> str:
    names = [name for name, _ in network.named_modules() if name]
    more = f", ... ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
