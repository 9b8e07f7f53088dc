"""A member's process: it trains on data that never leave, and answers for its promises on the ledger."""
