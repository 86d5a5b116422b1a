"""What happens when a network is trained: tasks, runs and their folders."""

from .fit import fit
from .folder import RunFolder
from .health import Health
from .interruption import Interrupted
from .task import Classification, Task
from .training import Training

__all__ = ["Classification", "Health", "Interrupted", "RunFolder", "Task", "Training", "fit"]
