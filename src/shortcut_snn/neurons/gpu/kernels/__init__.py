"""The Triton kernels, one file each; :mod:`.step` generates those of a neuron from its program."""
