"""Which code makes frames of recordings."""

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def code_version() -> str:
    """Return a checksum of this package's source and the versions of the libraries that read recordings.

    A number that somebody has to raise is one that somebody forgets to raise.
    """
    checksum = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        checksum.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for library in ("tonic", "aedat"):
        try:
            version = metadata.version(library)
        except metadata.PackageNotFoundError:
            version = "none"
        checksum.update(f"{library} {version}\0".encode())
    return checksum.hexdigest()
