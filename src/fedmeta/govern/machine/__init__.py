"""The state machine: genesis, execution, headers, and the application that an engine drives."""
