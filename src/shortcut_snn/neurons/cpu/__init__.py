"""The kernels for CPUs, which numba compiles; only :mod:`.implementation` and :mod:`.kernels` import numba."""
