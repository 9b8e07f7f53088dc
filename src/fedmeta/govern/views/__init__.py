"""What is asked of a state, and of the events that led to it."""
