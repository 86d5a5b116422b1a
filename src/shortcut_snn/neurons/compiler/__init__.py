"""Compile one time step of a neuron: trace it, differentiate it, and write the source text of its kernels.

The stages, one file each, in the order in which a step passes them:

1. :mod:`.trace` records ``neuron.step`` as a graph of torch operations, and keeps the result with the neuron.
2. :mod:`.lowering` translates the graph to a program (:mod:`.program`), the intermediate representation.
3. :mod:`.backward` derives the program of the backward pass and chooses the values that it saves.
4. ``program.simplify`` shortens both, and ``program.emit`` writes them as Python source.
5. The packages ``cpu`` and ``gpu`` compile that source to kernels; :mod:`~..sequence` computes their parameters.
"""
