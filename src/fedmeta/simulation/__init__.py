"""Rounds, driven from outside: cohorts, their examples, clients' memory, and single steps."""
