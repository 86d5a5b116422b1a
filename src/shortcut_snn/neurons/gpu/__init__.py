"""The kernels for GPUs, which Triton compiles; importing a module of this package imports triton."""
