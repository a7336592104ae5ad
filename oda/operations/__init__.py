"""Operations: what the platform asks of the device, and the one answer each request gets.

``OperationDispatcher`` is the door; the journal that remembers what was answered is the outbox's;
the five operations of the OpenGate protocol have one module each.
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
