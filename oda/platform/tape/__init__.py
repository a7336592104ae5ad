"""A device's session on file: recorded, and played back to a platform or to a device."""
