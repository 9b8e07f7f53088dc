"""What the ledger holds: its records, its parameters, where they are kept, and snapshots of them."""
