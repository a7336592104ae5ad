"""The WebSocket to the platform: its address, its life, and what travels over it."""
