"""The rules: what a transaction, a deadline or the end of a block changes."""
