"""Benchmark the same spiking networks in this package and in its peers: ``python -m research.benchmarks``.

- ``plan``: the cells to measure: one network, number of time steps and precision each.
- ``peers``: the network in each library, and its dense convolutions alone.
- ``tasks``: the training step and the inference batch of each contender.
- ``measure``: agreement of the contenders, then seconds and bytes, in separate processes that take turns.
- ``report``: Markdown, CSV and chart.
"""
