"""The compiled kernels, one file each; importing this package imports numba.

A kernel is a C function of one pointer, to a parameter struct (:data:`.build.PARAMS`). It takes work items by an atomic
counter until none is left, so any number of threads may enter it. A work item is a range of elements of a time step,
which the kernel handles tile by tile: a tile's states stay in the L1 cache over all time steps.
"""
