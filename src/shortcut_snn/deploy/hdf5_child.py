"""Read an HDF5 file in a process of its own: the library behind it may crash on a damaged file, or read others.

``python hdf5_child.py FILE`` writes safetensors to its output: arrays by their paths, texts as JSON in the metadata.
What it cannot read it says in one line on its error stream, and ends with status 3.
"""

import json
import os
import sys
from typing import Any

MEMORY, MOST_BYTES, MOST_OBJECTS, MOST_DEPTH = 8 << 30, 2 << 30, 200_000, 8


def main(path: str) -> int:
    """Copy the file to the output."""
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # no filters from elsewhere
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass
    import h5py
    import numpy as np
    from safetensors.numpy import save

    arrays: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    left = {"bytes": MOST_BYTES, "objects": MOST_OBJECTS}

    def copy(group: Any, prefix: str, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise ValueError("groups are nested too deeply")
        for name in group:
            left["objects"] -= 1
            if left["objects"] < 0:
                raise ValueError("it holds too many objects")
            if type(group.get(name, getlink=True)).__name__ != "HardLink":
                raise ValueError(f"{prefix}{name} is a link")
            item = group[name]
            if not hasattr(item, "dtype"):
                copy(item, f"{prefix}{name}/", depth + 1)
                continue
            if item.is_virtual or item.external:
                raise ValueError(f"{prefix}{name} is not plain data")
            left["bytes"] -= item.size * max(item.dtype.itemsize, 1)
            if left["bytes"] < 0:
                raise ValueError("it holds too much data")
            if h5py.check_string_dtype(item.dtype) is not None:
                text = item.asstr("utf-8")[()]
                texts[prefix + name] = text if isinstance(text, str) else text.tolist()
            elif item.dtype.kind in "fiub":
                value = np.asarray(item[()])
                native = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("=")))
                arrays[prefix + name] = native.reshape(value.shape)
            else:
                raise ValueError(f"{prefix}{name} is of the kind {item.dtype}")

    with h5py.File(path, "r") as file:
        copy(file, "", 0)
    sys.stdout.buffer.write(save(arrays, metadata={"texts": json.dumps(texts)}))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except Exception as error:  # whatever the library stumbles over
        print(" ".join(f"{type(error).__name__}: {error}".split())[:300], file=sys.stderr)
        sys.exit(3)
