"""What a person sets and is told: configuration, policy, approvals, what has left, and checks before the start."""
