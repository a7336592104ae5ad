"""Operations: requests from the platform, and the one answer to each request.

``OperationDispatcher`` is the entry point. The journal that remembers answers belongs to the
outbox. Each of the five operations of the OpenGate protocol has its own module.
"""

from oda.operations.dispatcher import OperationDispatcher
from oda.operations.get_device_parameters import GetDeviceParameters
from oda.operations.refresh_info import RefreshInfo
from oda.operations.set_clock_equipment import SetClockEquipment
from oda.operations.set_device_parameters import SetDeviceParameters
from oda.operations.synchronize_clock import SynchronizeClock

__all__ = [
    "GetDeviceParameters",
    "OperationDispatcher",
    "RefreshInfo",
    "SetClockEquipment",
    "SetDeviceParameters",
    "SynchronizeClock",
]
