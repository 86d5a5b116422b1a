"""The GPU kernels, which Triton compiles; importing a module of this package imports triton."""
