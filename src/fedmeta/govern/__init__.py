"""The ledger of a federation: who its members are, whom they elect, what a round did, and who is paid why."""
