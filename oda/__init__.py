"""ODA: a device agent for the OpenGate IoT platform over WebSocket, on Twisted and Autobahn.

``oda.agent.Agent`` is the service to embed, ``oda.interfaces`` the contracts to implement, and
``twistd oda-websocket`` the ready-made process.
"""

__version__ = "0.1.0"
