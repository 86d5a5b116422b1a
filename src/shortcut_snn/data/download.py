"""Archives from the net, verified, and either whole or not there."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Archive(NamedTuple):
    """Where an archive is, what it is called, and its MD5 checksum."""

    url: str
    filename: str
    md5: str


def download(root: Path, folder: str, archives: Sequence[Archive], unpack_into: str = ".") -> None:
    """Download archives, verify and unpack them, and put the folder that they make into ``root``.

    Args:
        root: made if it is not there. A folder of that name in it is replaced.
        folder: what the archives make, or are unpacked into.
        archives: what to download; archives inside them are unpacked too.
        unpack_into: the folder, or "." where the archives hold it.

    Raises:
        ValueError: torchvision is not installed, or the download failed.
    """
    try:
        from torchvision.datasets.utils import download_and_extract_archive, extract_archive
    except ModuleNotFoundError as error:
        raise ValueError("a download needs torchvision: pip install 'shortcut-snn[train]'") from error
    root.mkdir(parents=True, exist_ok=True)
    # Unpacked elsewhere and renamed, so that an interrupted download leaves nothing that looks like a data set.
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch:
        place = Path(scratch, unpack_into)
        for url, filename, md5 in archives:
            try:
                download_and_extract_archive(url, str(place), filename=filename, md5=md5, remove_finished=True)
            # What is raised depends on whether the net, the checksum or the disk is at fault.
            except (OSError, RuntimeError) as error:
                raise ValueError(f"{url} could not be downloaded to {root}: {error}") from error
        for inner in sorted(place.glob("*.zip")):
            extract_archive(str(inner), str(place), remove_finished=True)
        if (root / folder).exists():
            (root / folder).rename(Path(scratch, "incomplete"))
        Path(scratch, folder).rename(root / folder)
