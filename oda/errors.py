"""Every exception the agent raises on purpose.

::

    OdaError
    ├── ConfigurationError           one or more faults in the .cfg files; see its ``faults``
    ├── CodecError
    │   ├── EncodeError              a value the format can't carry; ``path`` names the member
    │   └── DecodeError              bytes that aren't a message; ``path`` names the member
    ├── OutboxError                  a message was not accepted
    │   ├── OutboxFull               the bounds are reached and the policy is to refuse
    │   ├── OutboxClosed             the agent is shutting down (or was never started)
    │   └── MessageTooLarge          no connection could ever carry it
    ├── ConnectorError
    │   └── NotConnected             a message without delivery guarantee found no connection
    ├── EventRejected                a datapoint that can't be published; ``datastream_id`` names it
    ├── DatastreamError
    │   ├── DatastreamNotFound       nobody reads (or writes) that datastream of that device
    │   ├── DatastreamTaken          somebody else reads (or writes) it already
    │   ├── ReadingFailed            a getter could not read; its text is the reason
    │   └── WritingFailed            a setter could not write; its text is the reason
    ├── OperationError               what a handler raises to choose the answer's ``result_code``
    │   ├── InvalidParameter         ERROR_IN_PARAM; ``parameter`` names the culprit
    │   ├── OperationNotSupported    NOT_SUPPORTED
    │   └── OperationFailed          ERROR_PROCESSING with a reason
    └── PluginError                  a plugin is missing, doubled or broken
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class OdaError(Exception):
    """Base of every error of this package."""


class Fault(NamedTuple):
    """One thing wrong in one configuration file.

    ``line`` counts from 1; 0 when the fault belongs to the file as a whole (a missing key).
    """

    file: str
    line: int
    key: str
    problem: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.problem}" if self.key else f"{place}: {self.problem}"


class ConfigurationError(OdaError):
    """The configuration can't be used; ``faults`` lists everything that is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class CodecError(OdaError):
    """A message could not be encoded or decoded.

    ``path`` is where, written as ``$.operation.request.id`` (``$`` is the whole message).
    """

    def __init__(self, problem: str, path: str = "$") -> None:
        self.problem = problem
        self.path = path
        super().__init__(f"{path}: {problem}")


class EncodeError(CodecError):
    """A value has no representation in the format (NaN in JSON, bytes in JSON, 2**80)."""


class DecodeError(CodecError):
    """The bytes are no message of the format, or a member has the wrong type."""


class OutboxError(OdaError):
    """The outbox did not accept a message; nothing of it will be sent."""


class OutboxFull(OutboxError):
    """The outbox has reached its bounds and its policy forbids to drop older messages."""


class OutboxClosed(OutboxError):
    """The outbox is closed: the agent is stopping or has not been started."""


class MessageTooLarge(OutboxError):
    """The message exceeds ``maxMessageSize``; no connection would carry it."""


class ConnectorError(OdaError):
    """The connection to the platform is unusable."""


class NotConnected(ConnectorError):
    """There is no open connection and the message was not to be kept."""


class EventRejected(OdaError):
    """A datapoint can't be published; the others of the same call were not accepted either."""

    def __init__(self, datastream_id: str, problem: str) -> None:
        self.datastream_id = datastream_id
        self.problem = problem
        super().__init__(f"datastream {datastream_id!r}: {problem}")


class DatastreamError(OdaError):
    """A datastream could not be read or written."""


class DatastreamNotFound(DatastreamError):
    """Nobody reads (or writes) that datastream of that device."""


class DatastreamTaken(DatastreamError):
    """Somebody else reads (or writes) that datastream of that device; the text names both."""


class ReadingFailed(DatastreamError):
    """A getter failed; the text is the reason given to the platform."""


class WritingFailed(DatastreamError):
    """A setter failed; the text is the reason given to the platform."""


class OperationError(OdaError):
    """Raised by an operation to end with an answer other than SUCCESSFUL."""

    result_code = "ERROR_PROCESSING"


#: A longer name of a parameter is cut in the text of an error: it may come from the wire.
_MAX_PARAMETER_LENGTH = 100


class InvalidParameter(OperationError):
    """A parameter is missing or wrong; answered as ERROR_IN_PARAM."""

    result_code = "ERROR_IN_PARAM"

    def __init__(self, parameter: str, problem: str) -> None:
        if len(parameter) > _MAX_PARAMETER_LENGTH:
            parameter = parameter[:_MAX_PARAMETER_LENGTH] + "..."
        self.parameter = parameter
        self.problem = problem
        super().__init__(f"{parameter}: {problem}")


class OperationNotSupported(OperationError):
    """Nobody handles that operation; answered as NOT_SUPPORTED."""

    result_code = "NOT_SUPPORTED"


class OperationFailed(OperationError):
    """The operation was tried and failed; answered as ERROR_PROCESSING with this reason."""


class PluginError(OdaError):
    """A plugin named in the configuration is missing, doubled or could not be created."""
