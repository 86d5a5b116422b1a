"""Recordings of event cameras as frames: how many events fell on each pixel in each slice of time.

Frames are uint8 ``[T, 2, H, W]``, T the network's time steps; channel 0 counts events of falling brightness (off),
channel 1 those of rising (on).
"""
