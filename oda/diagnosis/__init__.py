"""What ``oda check`` finds out, step by step from the configuration to a proven ping."""
