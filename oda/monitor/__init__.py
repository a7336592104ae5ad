"""What the agent counts and shows of itself."""
