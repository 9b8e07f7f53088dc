"""What a node does next, as a pure function of what it knows."""

from fedmeta.node.reducer.memory import Memory
from fedmeta.node.reducer.step import learn, promises_of, step
from fedmeta.node.reducer.view import View, look

__all__ = ["Memory", "View", "learn", "look", "promises_of", "step"]
