"""Tasks: the steps of a contender, and the contenders of a cell."""

from .build import LOWER_BOUNDS, SHARED, build, names, shared_state
from .task import Observation, State, Task

__all__ = ["LOWER_BOUNDS", "SHARED", "Observation", "State", "Task", "build", "names", "shared_state"]
