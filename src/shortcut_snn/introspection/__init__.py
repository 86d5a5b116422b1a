"""Introspection: how any network is called, reset, laid out and read.

:func:`introspect` asks one question after another, each in a file of its own: :mod:`.infer_time_loop`,
:mod:`.infer_reset`, :mod:`.infer_batch_axis`, :mod:`.infer_readout`, :mod:`.infer_taps`. Adapters of known libraries
(:mod:`.adapters`) answer first. Forward passes through copies of the network (:mod:`.probe`) answer the rest.
"""

from .adapters import Adapter, adapters_of, library_reset, steepness
from .answer import Answer, OpenQuestion, ask
from .infer_criterion import infer_criterion
from .inference import describe, introspect, reproducing_arguments
from .layers import NORMS, is_layer, stages_span_most
from .neurons import (
    custom_neurons,
    find_neurons,
    find_sequence_neurons,
    learned_by_neurons,
    reset_of,
    single_step_neurons,
    spiking_layers,
    spiking_modules,
)
from .perturb import alter
from .probe import CALL_ERRORS
from .surrogates import set_surrogate

__all__ = [
    "CALL_ERRORS",
    "NORMS",
    "Adapter",
    "Answer",
    "OpenQuestion",
    "adapters_of",
    "alter",
    "ask",
    "custom_neurons",
    "describe",
    "find_neurons",
    "find_sequence_neurons",
    "infer_criterion",
    "introspect",
    "is_layer",
    "learned_by_neurons",
    "library_reset",
    "reproducing_arguments",
    "reset_of",
    "set_surrogate",
    "single_step_neurons",
    "spiking_layers",
    "spiking_modules",
    "stages_span_most",
    "steepness",
]
