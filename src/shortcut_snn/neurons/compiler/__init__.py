"""From one time step of a neuron in plain PyTorch to a program, its backward pass, and the source text of both."""
