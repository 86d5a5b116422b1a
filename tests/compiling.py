"""What differs between versions of ``torch.compile``."""

import torch

FULLGRAPH = torch.__version__ >= "2.13"
"""Whether neurons compile without a graph break."""
