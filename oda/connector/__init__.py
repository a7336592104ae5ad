"""The WebSocket to the platform: how it comes about, what travels over it, and how it ends.

::

    service -- link ---- connecting     who we are; one attempt, addresses raced (RFC 8305)
       |        |           factory     Autobahn's client factory, reconnecting
       |        |           address     URL, headers, key        tls, resolution: what they say
       |        |           route       which way the socket goes, and whether it still leads there
       |        |
       |        +------- session        one open connection: takes rows from the outbox, sends them
       |        |           acknowledgement  pings behind the messages, pongs that prove them
       |        |           peer, window     what is known of the platform; what the link carries
       |        |           backpressure     whether requests are read on
       |        |           rate_limit       ``outboxMaxRate``
       |        |
       |        +------- outcome        why it ended, and from that:
       |        |           redelivery       what is sent again, what is set aside
       |        |           reconnect        the pause before the next attempt
       |        |
       |        +------- status         what all that looks like from outside
       |
    current              the settings, which all of these read at the moment of use
    protocol             Autobahn's protocol behind one error boundary: it tells its *owner* (the
       |                 link) how it begins and ends, its *listener* (the session) what arrives
    upgrade, handshake   from TCP to the WebSocket; the HTTP of it
    framing              frames and messages as they stand on the wire

A row's way: ``Session.pump`` takes it from the outbox and writes it; ``Heartbeat`` sends a ping
behind it; the pong proves it (``AckBarrier``) and ``Session._proven`` retires it in the outbox.
When the connection ends first, ``PlatformLink.closed`` has ``Aftermath`` give it back.

``link`` is a state machine; its table stands there.
"""
