"""The Triton kernels: :mod:`.step` generates those of a neuron from its program, :mod:`.fixed` has the others."""
