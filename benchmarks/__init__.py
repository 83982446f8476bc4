"""Speed and memory, measured beside the peers. Never a test, never a gate."""
