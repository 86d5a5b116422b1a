"""Custom PyTorch operators, with one interface (:mod:`.interface`) that the CPU and GPU kernels implement."""
