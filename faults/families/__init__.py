"""One file a family of faults."""
