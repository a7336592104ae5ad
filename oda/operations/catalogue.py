"""The operations of the platform's catalogue that this agent carries out only where the
configuration says how, and the texts that say which key would allow one. Pure."""

from __future__ import annotations

from collections.abc import Mapping

#: The file that allows them.
FILE = "es.amplia.oda.operations.scripts.cfg"

NOT_SUPPORTED_TEXT = "Operation not supported by the device"

#: What needs a line of its own in ``FILE``.
BY_SCRIPT = (
    "EQUIPMENT_DIAGNOSTIC",
    "FACTORY_RESET",
    "POWER_OFF",
    "POWER_OFF_EQUIPMENT",
    "POWER_ON_EQUIPMENT",
    "REFRESH_LOCATION",
    "REFRESH_PRESENCE",
    "REQUEST_MEASURE",
    "RESET_COMMUNICATIONS",
    "SET_LOCATION",
    "SHUT_DOWN_COMMUNICATIONS",
    "START_SOFTWARE",
    "STATUS",
    "STATUS_DIAGNOSTIC",
    "STOP_SOFTWARE",
    "WAKE_UP_COMMUNICATIONS",
)


def refusal(key: str) -> str:
    """Why an operation is refused that ``key`` of ``FILE`` would allow."""
    return f"{NOT_SUPPORTED_TEXT}: {key} in {FILE} would allow it"


#: Why an operation of the catalogue is refused while no component carries it out.
REFUSALS: Mapping[str, str] = {
    "REBOOT_EQUIPMENT": refusal("rebootCommand"),
    **{name: refusal(f"{name}=<script>") for name in BY_SCRIPT},
}
