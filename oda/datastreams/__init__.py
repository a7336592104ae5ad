"""Readings and settings of the device: registry, device info, scripts, system readings, clock."""
