"""Rounds, driven from outside: who takes part, on which examples, and one step after another."""
