"""Networks on the Hugging Face hub: fetched and pushed with huggingface_hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import __version__
from .card import CARD, README, read_card, readme
from .exporter import require
from .safetensors_export import Safetensors


def fetch(repository: str, revision: str | None = None) -> Path:
    """Fetch a network into the cache of huggingface_hub and return its folder.

    Only the weights and the card are fetched; neither holds code.

    Args:
        repository: ``owner/name``.
        revision: branch, tag or commit; only a commit always names the same network.

    Raises:
        OSError: huggingface_hub is not installed, the hub cannot be reached, or the network does not exist.
    """
    with _hub(f"{repository} cannot be fetched from the Hugging Face hub") as hub:
        files = [Safetensors.file, CARD, README]
        # If the hub does not answer, this returns what was fetched before.
        folder = Path(hub.snapshot_download(repository, revision=revision, allow_patterns=files))
    if not (folder / Safetensors.file).is_file():
        raise FileNotFoundError(f"{repository} on the Hugging Face hub holds no {Safetensors.file}")
    return folder


def push_to_hub(folder: str | Path, repository: str, private: bool | None = None, token: str | None = None) -> str:
    """Upload a network and its card, as ``shortcut-snn export`` writes them, to the Hugging Face hub.

    Args:
        folder: folder of the export.
        repository: ``owner/name``; created if it does not exist.
        private: visibility of a repository that is created; None: the default of the owner's account.
        token: access token; by default the one that ``hf auth login`` stores.

    Returns:
        Address of the commit.

    Raises:
        FileNotFoundError: the folder has no card or no safetensors file.
        OSError: huggingface_hub is not installed, or the hub cannot be reached or refuses.
    """
    folder = Path(folder)
    card = read_card(folder)
    paths: dict[str, str | bytes] = {}
    for name in (CARD, *card.files.values()):
        # A card from elsewhere could name any file of this machine.
        if Path(name).name != name or not (folder / name).is_file():
            raise FileNotFoundError(f"the card in {folder} names a file that is not in the folder: {name}")
        paths[name] = str(folder / name)
    if Safetensors.file not in paths:
        raise FileNotFoundError(f"the card in {folder} has no {Safetensors.file}: export the run to safetensors first")
    paths[README] = readme(card, repository).encode()
    with _hub(f"{repository} cannot be pushed to the Hugging Face hub") as hub:
        api = hub.HfApi(token=token, library_name="shortcut-snn", library_version=__version__)
        api.create_repo(repository, private=private, exist_ok=True)
        files = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in paths.items()]
        commit = api.create_commit(repository, files, commit_message=f"{card.name}, shortcut-snn {card.version}")
    return str(commit.commit_url)


@contextmanager
def _hub(failure: str) -> Iterator[Any]:
    """Provide huggingface_hub; any error of it becomes one OSError of one line."""
    hub = require("huggingface_hub", "the Hugging Face hub", "hub")
    try:
        yield hub
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OSError(f"{failure}: {reason}") from None
