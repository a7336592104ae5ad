"""A stand-in for the OpenGate platform. It accepts devices, stores what they send, sends them
operations, and misbehaves on request. It shares only the contracts and the codecs with the
agent."""
