"""Helpers that know nothing of spiking networks: calls and state of modules, files, text, statistics, memory."""
