"""Introspection: how any network is called, reset, laid out and read.

:func:`introspect` asks one question after another, each in a file of its own: :mod:`.infer_time_loop`,
:mod:`.infer_reset`, :mod:`.infer_batch_axis`, :mod:`.infer_readout`, :mod:`.infer_taps`. Adapters of known libraries
(:mod:`.adapters`) answer first. Forward passes through copies of the network (:mod:`.probe`) answer the rest.
"""

from .inference import introspect

__all__ = ["introspect"]
