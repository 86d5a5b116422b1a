"""The same network in every library, and its convolutions only."""
