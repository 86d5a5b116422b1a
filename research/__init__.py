"""Programs that make the figures of the documentation: studies and benchmarks."""
