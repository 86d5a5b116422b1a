"""Faults: random damage and bad input for the command, whose answers are judged by one rule."""
