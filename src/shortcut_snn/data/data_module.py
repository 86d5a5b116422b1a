"""The loaders of a LightningDataModule."""

from typing import Any

from torch.utils.data import DataLoader

from ..random_state import RandomStream


def loaders_of_module(module: Any) -> tuple[Any, ...]:
    """Return the loaders of a LightningDataModule; without a test loader, the validation loader takes its place.

    Training and validation come from one ``setup("fit")``, as in Lightning, because each setup may split at random.
    Every hook runs with the same seed, so the split is the same in every run and in ``setup("test")``.
    """
    name = type(module).__name__
    for hook in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"):
        if _overrides(module, hook):
            raise ValueError(
                f"{name}.{hook}() would not run, because only the loaders of a data module are used; move its work to "
                "the loaders' collate_fn"
            )
    with RandomStream(0):
        module.prepare_data()
    with RandomStream(0):
        module.setup("fit")
    loaders = []
    for part in ("train", "val", "test"):
        if not _overrides(module, f"{part}_dataloader"):
            continue
        with RandomStream(0):
            if part == "test":
                module.setup("test")
            loader = getattr(module, f"{part}_dataloader")()
        if isinstance(loader, list | tuple) and len(loader) == 1:
            loader = loader[0]
        if not isinstance(loader, DataLoader):
            raise ValueError(f"{name}.{part}_dataloader() must return a DataLoader, got a {type(loader).__name__}")
        loaders.append(loader)
    if len(loaders) < 2:
        raise ValueError(f"{name} needs a train_dataloader and a test_dataloader or val_dataloader")
    return tuple(loaders)


def _overrides(module: Any, hook: str) -> bool:
    """Return whether a data module defines a hook itself; Lightning's own are methods of DataHooks."""
    method = getattr(module, hook, None)
    return method is not None and not method.__func__.__qualname__.startswith("DataHooks.")
