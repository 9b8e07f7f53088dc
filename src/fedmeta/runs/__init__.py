"""A run: the loop over rounds, and its folder."""
