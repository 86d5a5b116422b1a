"""Downloads of data sets: verified, and complete or absent."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class RemoteArchive(NamedTuple):
    """An archive to download: its address, its file name and its MD5 checksum."""

    url: str
    filename: str
    md5: str


def download(root: Path, folder: str, archives: Sequence[RemoteArchive]) -> None:
    """Download and unpack archives so that ``folder`` appears in ``root`` complete or not at all.

    Args:
        root: the folder to download into; created.
        folder: name of the folder that holds the unpacked data set.
        archives: files to download; zip files within them are unpacked too.
    """
    from torchvision.datasets.utils import download_and_extract_archive, extract_archive

    root.mkdir(parents=True, exist_ok=True)
    # The folder is renamed only when it is complete, so that an interrupted download cannot pass for a data set.
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
        target = Path(temporary, folder)
        for url, filename, md5 in archives:
            try:
                download_and_extract_archive(url, str(target), filename=filename, md5=md5, remove_finished=True)
            # OSError for the network and the disk, RuntimeError for a wrong checksum.
            except (OSError, RuntimeError) as error:
                raise ValueError(f"{url} could not be downloaded to {root}: {error}") from error
        for inner in sorted(target.glob("*.zip")):
            extract_archive(str(inner), str(target), remove_finished=True)
        target.rename(root / folder)
