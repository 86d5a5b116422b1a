"""Which kernels the tests of this folder hold against plain PyTorch: numba's, or in a process of its own Triton's.

See ``test_triton.py``, which starts that process.
"""

import importlib
import os

KERNELS = os.environ.get("SHORTCUT_SNN_BACKEND", "numba")
DEVICE = "cuda" if KERNELS == "triton" and os.environ.get("TRITON_INTERPRET") != "1" else "cpu"
# Channels of a layer that is many pieces of work.
MANY = 24 if KERNELS == "numba" else 6
module = importlib.import_module(f"shortcut_snn.neurons.{'gpu' if KERNELS == 'triton' else 'cpu'}.implementation")
