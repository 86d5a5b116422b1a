"""Recordings of event cameras as frames: the number of events on each pixel in each slice of time.

Frames are uint8 ``[T, 2, H, W]``, T the network's time steps. Channel 0 counts events of falling brightness (off),
channel 1 events of rising brightness (on).
"""
