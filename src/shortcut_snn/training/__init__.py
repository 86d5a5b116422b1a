"""What happens when a network is trained: tasks, runs and their folders."""

from .classification import Classification
from .folder import RunFolder
from .health import Health
from .interruption import Interrupted
from .muon import Muon
from .run import fit
from .task import Task
from .training import Training

__all__ = ["Classification", "Health", "Interrupted", "Muon", "RunFolder", "Task", "Training", "fit"]
