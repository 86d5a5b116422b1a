"""The same spiking networks in this library and in its peers, side by side: ``python -m benchmarks``.

- ``plan``: which cells (one network, number of time steps and precision) are measured.
- ``peers``: the network built in each library, and the floor, its convolutions alone.
- ``tasks``: what one contender does in a step.
- ``measure``: agreement first, then seconds and bytes, in separate processes that take turns.
- ``report``: Markdown, CSV, chart and the table of targets.
"""
