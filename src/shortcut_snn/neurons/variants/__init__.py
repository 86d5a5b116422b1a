"""Neurons other than IF, LIF and PLIF, one file for each."""
