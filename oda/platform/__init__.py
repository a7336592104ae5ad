"""A stand-in for the OpenGate platform: it accepts devices, keeps what they send, sends them
operations and misbehaves on purpose. It shares only the contracts and the codecs with the agent."""
