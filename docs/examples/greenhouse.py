"""An agent inside a program of one's own: ``twistd -n --pidfile= -y greenhouse.py``."""

import os

from twisted.application.internet import TimerService
from twisted.application.service import Application
from twisted.logger import Logger
from zope.interface import implementer

from oda.agent import Agent
from oda.config.loader import find_directory, load
from oda.errors import InvalidParameter
from oda.interfaces import IDatastreamGetter, IOperation
from oda.model import HOST, Event, OperationResult, Reading

log = Logger()


@implementer(IDatastreamGetter)
class Brightness:
    """A datastream that is read when the poller or the platform asks for it."""

    datastream_id = "greenhouse.brightness"

    def devices(self):
        return [HOST]

    def get(self, device_id):
        return Reading(420)


@implementer(IOperation)
class Water:
    """An operation: WATER with the parameter litres."""

    name = "WATER"
    reads_only = False

    def execute(self, request, progress):
        litres = request.parameters.get("litres")
        if not isinstance(litres, int):
            raise InvalidParameter("litres", "must be a whole number")
        return OperationResult(description=f"{litres} l given")


def publish_temperature(agent):
    accepted = agent.publish(Event("greenhouse.temperature", 21.5))
    accepted.addErrback(lambda failure: log.warn("{why}", why=failure.getErrorMessage()))
    return accepted


settings = load(find_directory(None), os.environ).settings
agent = Agent(settings, components=[Brightness(), Water()], control=True)
sensor = TimerService(10, publish_temperature, agent)

application = Application("greenhouse")
agent.setServiceParent(application)
sensor.setServiceParent(application)
