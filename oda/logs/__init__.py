"""The agent's log: which events it shows, how often it repeats one, and how a line looks."""
