"""What Triton compiles for GPUs: one file for each kernel."""
