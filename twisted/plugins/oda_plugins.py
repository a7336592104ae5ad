"""What ``twistd`` can run: the agent, and the stand-in platform to try it against."""

from twisted.application.service import ServiceMaker

oda_websocket = ServiceMaker(
    "ODA over WebSocket",
    "oda.tap",
    "The ODA device agent: publishes datapoints to OpenGate and answers its operations.",
    "oda-websocket",
)

oda_platform = ServiceMaker(
    "ODA stand-in platform",
    "oda.platform.tap",
    "A stand-in for the OpenGate platform, to try and test devices against.",
    "oda-platform",
)
