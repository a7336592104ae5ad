"""The WebSocket to the platform: how it opens, what it carries, and how it ends.

::

    service -- link ---- connecting     identify the device; one attempt races addresses (RFC 8305)
       |        |           factory     Autobahn's client factory, reconnecting
       |        |           address     URL, headers, key        tls, resolution: as named
       |        |           route       whether the device's own network ended the connection
       |        |
       |        +------- session        one open connection: takes rows from the outbox, sends them
       |        |           acknowledgement  pings behind the messages, pongs that prove them
       |        |           peer, window     what the agent knows of the platform, and of the link
       |        |           backpressure     whether to go on reading requests
       |        |           rate_limit       ``outboxMaxRate``
       |        |
       |        +------- outcome        why a connection ended; this decides:
       |        |           redelivery       what to send again, what to set aside
       |        |           reconnect        how long to wait before the next attempt
       |        |
       |        +------- status         the state of the connection, for those who ask
       |
    current              the settings; every part reads them at the moment of use
    protocol             Autobahn's protocol behind one error boundary. It tells its *owner* (the
       |                 link) when it opens and ends, and its *listener* (the session) what arrives
    upgrade, handshake   from TCP to the WebSocket, and the HTTP that this takes
    framing              frames and messages as they stand on the wire

The way of a row: ``Session.pump`` takes it from the outbox and writes it. ``Heartbeat`` sends a
ping behind it. The pong proves the row (``AckBarrier``), and ``Session._proven`` retires it in the
outbox. If the connection ends first, ``PlatformLink.closed`` has ``Aftermath`` give the row back.

``link`` is a state machine; its docstring holds the table.
"""
