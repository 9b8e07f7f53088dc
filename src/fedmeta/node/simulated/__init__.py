"""A federation of nodes in one process, under a clock and a network that follow a seed."""
