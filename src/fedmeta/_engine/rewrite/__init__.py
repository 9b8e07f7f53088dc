"""Traced programs in faster forms: the same results, other operations."""
