"""Networks of all conventions, in one call: what is found is right, or asked for in a sentence that leads to it."""

import copy
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from shortcut_snn import Shortcut, attach
from shortcut_snn._utils.calls import inputs_of
from shortcut_snn.introspection.perturb import alter

from ..method.toys import hooks
from .zoo import CLASSES, ZOO, Entry

AXES = ({"batch_axis": 0}, {"batch_axis": 1})
OPEN = {name: entry for name, entry in ZOO.items() if entry.cure in AXES}
"""Those that labels tell enough of: time from samples."""
entries = pytest.mark.parametrize("entry", ZOO.values(), ids=ZOO)


def wrapped(entry: Entry, network: nn.Module, x: Any) -> Shortcut:
    lines: list[str] = []
    options = {"example": x, "log": lines.append, **entry.given}
    if entry.asks is not None:
        with pytest.raises(ValueError, match=entry.asks):
            attach(network, **options)
        options |= entry.cure
    model = attach(network, **options)
    assert lines[0].startswith(model.layout.summary())
    return model


def call(model: nn.Module, network: nn.Module, x: Any) -> Any:
    args, kwargs = inputs_of(network, tree_map_only(Tensor, torch.clone, x))
    return model(*args, **kwargs)


def by_hand(entry: Entry, network: nn.Module, x: Any) -> Tensor:
    """What its authors read from a network that nobody has called before."""
    network, x = copy.deepcopy(network).eval(), tree_map_only(Tensor, torch.clone, x)
    torch.manual_seed(0)
    with torch.no_grad():
        return network(x) if entry.read is None else entry.read(network, x)


@entries
def test_inferred_layout_is_right(entry: Entry) -> None:
    torch.manual_seed(1)
    network, x = entry.make(), entry.example()
    if not any(map(nn.parameter.is_lazy, network.parameters())):
        fresh, weights = copy.deepcopy(network), {key: value.clone() for key, value in network.state_dict().items()}
    else:
        fresh, weights = None, {}
    hooked = hooks(network)
    keys, modes = list(network.state_dict()), [module.training for module in network.modules()]
    before, drawn, other = [leaf.clone() for leaf in tensors(x)], torch.get_rng_state(), random.getstate()

    if entry.asks is not None and not entry.cure:
        with pytest.raises(ValueError, match=entry.asks):
            attach(network, example=x)
        return
    model = wrapped(entry, network, x)

    # Nothing of the network, the example or the random numbers has changed.
    assert list(network.state_dict()) == keys
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items() if weights)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(a, b) and a.shape == b.shape for a, b in zip(tensors(x), before, strict=True))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert random.getstate() == other
    assert hooks(network) == hooked + len(model.taps.names)

    # The branches are as wide as what they tap has channels, and the axes are where they are.
    assert model.layout.batch_axis == entry.batch
    assert model.layout.num_classes == CLASSES
    widths = tuple(branch.classifier.in_features for branch in model.branches)
    assert widths
    assert entry.widths is None or set(widths) <= entry.widths, widths
    model.train()
    output = call(model, network, x)
    assert {tuple(logits.shape) for logits in output.branches} == {tuple(output.main.shape)}

    # A gradient comes to the first layer through the branches alone; there can be a second backward pass, and what
    # comes of a batch does not depend on the batch before.
    sum(logits.square().sum() for logits in output.branches).backward()
    first = next(parameter for parameter in network.parameters() if parameter.dim() > 1)
    assert not entry.first or (first.grad is not None and first.grad.isfinite().all() and first.grad.any())
    output = call(model, network, alter(x, entry.batch, None))
    (sum(logits.sum() for logits in output.branches) + output.main.sum()).backward()

    # The main output is what its authors read, whatever came before, and samples are independent.
    model.eval()
    torch.manual_seed(0)
    main = call(model, network, x).main.detach()
    if fresh is not None:
        fresh.load_state_dict(network.state_dict())
        torch.testing.assert_close(main, by_hand(entry, fresh, x), rtol=1e-4, atol=1e-5)
    torch.manual_seed(0)
    changed = call(model, network, alter(x, entry.batch, 1)).main.detach()
    others = [number for number in range(len(main)) if number != 1]
    if entry.independent:
        torch.testing.assert_close(changed[others], main[others], rtol=1e-4, atol=1e-5)

    assert model.strip(check=x) is network
    assert list(network.state_dict()) == keys
    assert hooks(network) <= hooked


@pytest.mark.parametrize("entry", OPEN.values(), ids=OPEN)
def test_labels_resolve_what_the_example_leaves_open(entry: Entry) -> None:
    network, x = entry.make(), entry.example()
    asked = attach(copy.deepcopy(network), example=x, log=lambda line: None, **entry.cure)
    labels = torch.arange(x.shape[entry.batch]) + CLASSES - x.shape[entry.batch]
    told = attach(network, example=x, labels=labels, log=lambda line: None)
    assert told.layout.taps == asked.layout.taps
    assert torch.equal(told(x).main, asked(x).main)
    fields = ("library", "run", "batch_axis", "time_axis", "time_steps", "readout", "num_classes")
    assert [getattr(told.layout, name) for name in fields] == [getattr(asked.layout, name) for name in fields]


def tensors(x: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)]
