"""CPU kernels compiled by numba; importing this package imports numba."""
