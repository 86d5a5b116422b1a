"""The CPU kernels, which numba compiles. ``implementation``, ``launch`` and ``kernels`` import numba."""
