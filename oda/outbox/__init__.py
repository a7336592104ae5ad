"""Store and forward: what was accepted is kept here until the platform has acknowledged it."""
