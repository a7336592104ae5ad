"""The agent's log: what gets in, how often it may say the same, and what a line looks like."""
