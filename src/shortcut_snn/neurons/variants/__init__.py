"""Neuron models other than IF, LIF and PLIF, one file each."""
