"""The same network in every library, and its dense convolutions alone."""
