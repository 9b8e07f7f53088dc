"""What a node does next, as a pure function of what it knows."""
