"""The same network in every library, and the floor."""
