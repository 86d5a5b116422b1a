"""Trained networks by name: those of this package, of a folder of folders, and of the Hugging Face hub."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import __version__
from ..components import suggestion
from .card import CARD, README, Card, markdown, read_card
from .extra import need
from .network_file import ELSEWHERE, SUFFIX, Safetensors

VARIABLE = "SHORTCUT_SNN_MODELS"
WEIGHTS = Safetensors.file
TRAINED = Path(__file__).parents[1] / "trained"
"""Networks that come with the package, a folder each as ``shortcut-snn export`` writes it."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def models_folder() -> Path:
    """Return the folder of a person's own networks: ``SHORTCUT_SNN_MODELS``, or ``~/.cache/shortcut-snn/models``."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "shortcut-snn" / "models")


def places(root: str | Path | None = None) -> list[Path]:
    """Return the folders in which names are looked up, the first that has one counts."""
    return [models_folder(), TRAINED] if root is None else [Path(root)]


def names(root: str | Path | None = None) -> list[str]:
    """Return the names of the networks in a folder of them; by default a person's own and those of this package.

    Example:
        >>> from shortcut_snn import load
        >>> from shortcut_snn.deploy import card, names
        >>> "digits-resnet18" in names(), load("digits-resnet18").classes[:3], card("digits-resnet18").data["name"]
        (True, ('0', '1', '2'), "scikit-learn's digits")
    """
    return sorted({path.parent.name for place in places(root) for path in place.glob(f"*/{WEIGHTS}")})


def find(name: str | Path, root: str | Path | None = None, revision: str | None = None) -> Path:
    """Return the file, or the folder, that a name stands for; fetch it if it is one of the hub.

    Raises:
        FileNotFoundError: nothing has this name; the message lists those there are.
        OSError: the hub cannot be reached, or its client is not installed.
    """
    path = Path(name)
    if path.is_file() or (path / WEIGHTS).is_file():
        return path
    if not path.is_absolute() and ".." not in path.parts:
        for place in places(root):
            if path.parts and (place / path / WEIGHTS).is_file():
                return place / path
    if path.exists():
        return path
    # A folder of that name here is most likely meant, whose networks are nobody else's business.
    elsewhere = path.suffix not in (SUFFIX, *ELSEWHERE) and not path.parent.is_dir()
    if elsewhere and _HUB_NAME.fullmatch(str(name)):
        return fetch(str(name), revision)
    known = names(root)
    where = " and ".join("this package" if place == TRAINED else str(place) for place in places(root))
    raise FileNotFoundError(
        f"no network {str(name)!r}{suggestion(str(name), known)}: there is no such path, and in {where} there are: "
        f"{', '.join(known) or 'none'}"
    )


@contextmanager
def _hub(repository: str, what: str) -> Iterator[Any]:
    """Give the hub's client within a block; what it raises becomes one sentence."""
    needed = "a network of the Hugging Face hub"
    hub, errors = need("huggingface_hub", needed, "hub"), need("huggingface_hub.errors", needed, "hub")
    constants = need("huggingface_hub.constants", needed, "hub")
    before = constants.HF_HUB_DISABLE_TELEMETRY
    # Else it tells the hub what is installed here.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield hub
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, ValueError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OSError(f"{repository} cannot be {what} the Hugging Face hub: {first}") from None
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before


def fetch(repository: str, revision: str | None = None) -> Path:
    """Fetch a network of the Hugging Face hub into its client's cache, and return the folder.

    Only the weights and the card are fetched; neither holds code.

    Args:
        repository: ``owner/name``.
        revision: branch, tag or commit; name a commit to get the same network for ever.

    Raises:
        OSError: huggingface_hub is not installed, or the network is not there or cannot be reached.
    """
    with _hub(repository, "fetched from") as hub:
        folder = Path(hub.snapshot_download(repository, revision=revision, allow_patterns=[WEIGHTS, CARD, README]))
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"{repository} on the Hugging Face hub holds no {WEIGHTS}")
    return folder


def push(folder: Path, repository: str, private: bool | None = None, token: str | None = None) -> str:
    """Upload a folder that ``shortcut-snn export`` wrote; see :meth:`.Inference.push_to_hub`."""
    if not (folder / CARD).is_file():
        raise FileNotFoundError(f"no card {folder / CARD}: write network and card with shortcut-snn export")
    card = read_card(folder)
    paths = {name: folder / name for name in (CARD, *card.files.values())}
    # A card from elsewhere could name any file of this machine.
    if missing := [name for name, path in paths.items() if Path(name).name != name or not path.is_file()]:
        raise FileNotFoundError(f"the card in {folder} names what is no file there: {missing[0]}")
    if WEIGHTS not in card.files.values():
        raise FileNotFoundError(
            f"the card in {folder} speaks of no {WEIGHTS}, without which a network of the hub cannot be loaded: export "
            "the same run to safetensors too"
        )
    files: dict[str, str | bytes] = {name: str(path) for name, path in paths.items()}
    files[README] = markdown(card, repository).encode()
    with _hub(repository, "pushed to") as hub:
        api = hub.HfApi(token=token, library_name="shortcut-snn", library_version=__version__)
        api.create_repo(repository, private=private, exist_ok=True)
        adds = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
        commit = api.create_commit(repository, adds, commit_message=f"{card.name}, shortcut-snn {card.version}")
    return str(commit.commit_url)


def card(name: str | Path, root: str | Path | None = None, revision: str | None = None) -> Card:
    """Return the card of a network: data, recipe, accuracy, and energy where it is known.

    Raises:
        FileNotFoundError: there is no such network, or it has no card.
        OSError: the hub cannot be reached, or its client is not installed.
        ValueError: the card is damaged.
    """
    found = find(name, root, revision)
    return read_card(found if found.is_dir() else found.parent)
