"""How good a starting point is for clients that took no part in training."""
