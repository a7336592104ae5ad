"""Every exception the agent raises on purpose.

::

    OdaError
    ├── ConfigurationError           one or more faults in the .cfg files; see its ``faults``
    ├── CodecError
    │   ├── EncodeError              a value the format can't carry; ``path`` names the member
    │   └── DecodeError              bytes that aren't a message; ``path`` names the member
    ├── OutboxError                  the outbox did not accept a message
    │   ├── OutboxFull               the outbox is at its bounds and its policy is to refuse
    │   ├── OutboxClosed             the agent is shutting down (or was never started)
    │   └── MessageTooLarge          no connection could carry the message
    ├── ConnectorError
    │   └── NotConnected             there is no connection for a message without guarantee
    ├── EventRejected                a datapoint that can't be published; ``datastream_id`` names it
    ├── DatastreamError
    │   ├── DatastreamNotFound       nothing reads (or writes) that datastream of that device
    │   ├── DatastreamTaken          another component already reads (or writes) the datastream
    │   ├── ReadingFailed            a getter could not read; its text is the reason
    │   └── WritingFailed            a setter could not write; its text is the reason
    ├── OperationError               raised by a handler to choose the answer's ``result_code``
    │   ├── InvalidParameter         ERROR_IN_PARAM; ``parameter`` names the wrong one
    │   ├── OperationNotSupported    NOT_SUPPORTED
    │   └── OperationFailed          ERROR_PROCESSING with a reason
    └── PluginError                  a plugin is missing, duplicate or broken
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class OdaError(Exception):
    """Base of every error of this package."""


class Fault(NamedTuple):
    """One thing wrong in one configuration file.

    ``line`` counts from 1; 0 means the file as a whole (a missing key).
    """

    file: str
    line: int
    key: str
    problem: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.problem}" if self.key else f"{place}: {self.problem}"


class ConfigurationError(OdaError):
    """The configuration can't be used; ``faults`` lists everything that is wrong."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class CodecError(OdaError):
    """A message could not be encoded or decoded.

    ``path`` is the place, written as ``$.operation.request.id`` (``$`` is the whole message).
    """

    def __init__(self, problem: str, path: str = "$") -> None:
        self.problem = problem
        self.path = path
        super().__init__(f"{path}: {problem}")


class EncodeError(CodecError):
    """The format can't represent a value (NaN or bytes in JSON, 2**80)."""


class DecodeError(CodecError):
    """The bytes are not a message of the format, or a member has the wrong type."""


class OutboxError(OdaError):
    """The outbox did not accept a message; no part of it will be sent."""


class OutboxFull(OutboxError):
    """The outbox is at its bounds, and its policy forbids dropping older messages."""


class OutboxClosed(OutboxError):
    """The outbox is closed: the agent is stopping or was never started."""


class MessageTooLarge(OutboxError):
    """The message exceeds ``maxMessageSize``; no connection could carry it."""


class ConnectorError(OdaError):
    """The connection to the platform can't be used."""


class NotConnected(ConnectorError):
    """There is no open connection, and the message must not be stored."""


class EventRejected(OdaError):
    """A datapoint can't be published; no other datapoint of the same call was accepted either."""

    def __init__(self, datastream_id: str, problem: str) -> None:
        self.datastream_id = datastream_id
        self.problem = problem
        super().__init__(f"datastream {datastream_id!r}: {problem}")


class DatastreamError(OdaError):
    """A datastream could not be read or written."""


class DatastreamNotFound(DatastreamError):
    """Nothing reads (or writes) that datastream of that device."""


class DatastreamTaken(DatastreamError):
    """Another component already reads (or writes) the datastream; the text names both."""


class ReadingFailed(DatastreamError):
    """A getter failed; the text is the reason given to the platform."""


class WritingFailed(DatastreamError):
    """A setter failed; the text is the reason given to the platform."""


class OperationError(OdaError):
    """An operation raises this to end with an answer other than SUCCESSFUL."""

    result_code = "ERROR_PROCESSING"


#: Longer parameter names are cut in error texts: the name may come from the wire.
_MAX_PARAMETER_LENGTH = 100


class InvalidParameter(OperationError):
    """A parameter is missing or wrong; the answer is ERROR_IN_PARAM."""

    result_code = "ERROR_IN_PARAM"

    def __init__(self, parameter: str, problem: str) -> None:
        if len(parameter) > _MAX_PARAMETER_LENGTH:
            parameter = parameter[:_MAX_PARAMETER_LENGTH] + "..."
        self.parameter = parameter
        self.problem = problem
        super().__init__(f"{parameter}: {problem}")


class OperationNotSupported(OperationError):
    """No handler knows that operation; the answer is NOT_SUPPORTED."""

    result_code = "NOT_SUPPORTED"


class OperationFailed(OperationError):
    """The operation ran and failed; the answer is ERROR_PROCESSING with this reason."""


class PluginError(OdaError):
    """A plugin named in the configuration is missing, duplicate, or can't be created."""
