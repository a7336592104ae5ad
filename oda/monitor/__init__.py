"""What the agent counts and reports about itself."""
