"""What a contender does in a step; which contenders a cell has."""

from .build import FLOORS, SHARED, build, names, shared_state
from .task import Observation, State, Task

__all__ = ["FLOORS", "SHARED", "Observation", "State", "Task", "build", "names", "shared_state"]
