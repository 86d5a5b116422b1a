"""Tasks: the steps of a contender, and the contenders of a cell."""

from .build import DENSE, SHARED, build, names, shared_state
from .task import Observation, State, Task

__all__ = ["DENSE", "SHARED", "Observation", "State", "Task", "build", "names", "shared_state"]
