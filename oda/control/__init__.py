"""The local socket through which other processes of this machine talk to the running agent."""
