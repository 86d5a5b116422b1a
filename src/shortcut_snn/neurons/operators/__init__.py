"""Custom PyTorch operators for norm + residual + neuron and for layers over spikes, with one interface per device."""
