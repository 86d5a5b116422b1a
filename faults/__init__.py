"""Faults and bad input by the hundred, made with a seed, tried on the command, and judged by rule."""
