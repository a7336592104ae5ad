"""ODA: a device agent for the OpenGate IoT platform over WebSocket, on Twisted and Autobahn.

Embed the service ``oda.agent.Agent``, implement the contracts of ``oda.interfaces``, or run the
ready-made process ``twistd oda-websocket``.
"""

__version__ = "0.1.0"
