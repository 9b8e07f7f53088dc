"""The gate, the core and the trainer as processes of their own."""
