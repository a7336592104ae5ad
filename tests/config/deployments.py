"""Configuration directories as existing deployments of ODA have them; the values are made up.

Ten of them, in the style of ODA's demonstrations and of what a platform's test suite sets up.
``warnings`` are the keys that the start warns of; everything else loads without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.config.directories import name_of

WEBSOCKET = "host=platform.example.org\nport=9955\npath=/south/v80/sessions\n"
IDENTITY = "deviceId=dev-1\napiKey=canary-key-0123456789\n"


@dataclass(frozen=True)
class Deployment:
    """``files`` are the contents by component; ``ignored`` the components that have no counterpart
    here."""

    files: Mapping[str, str | bytes]
    ignored: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    scripts: Mapping[str, str] = field(default_factory=dict)

    def write(self, configuration: Path) -> Path:
        configuration.mkdir(parents=True, exist_ok=True)
        for component, content in self.files.items():
            data = content.encode() if isinstance(content, str) else content
            (configuration / name_of(component)).write_bytes(data)
        for name, text in self.scripts.items():
            script = configuration.parent / name
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_bytes(text.encode())
            script.chmod(0o755)
        return configuration


DEPLOYMENTS = {
    "simulator": Deployment(
        {
            "connector.websocket": WEBSOCKET + "connectionTimeout=30\nkeepAliveInterval=180\n",
            "datastreams.deviceinfo": IDENTITY,
            "dispatcher.opengate": "reducedOutput=false\neventContentType=JSON\n",
            "datastreams.simulator": "sim.const=42\n",
            "subsystem.poller": "sim.const=10;10\n",
            "statemanager.realtime": "",
        },
        ignored=("datastreams.simulator", "statemanager.realtime"),
    ),
    "over MQTT before": Deployment(
        {
            "connector.websocket": "host platform.example.org\ngeneralPath south/v80/sessions/\n",
            "connector.mqtt": "brokerUrl=tcp://localhost:1883\nclientId=dev-1\nqos=1\n",
            "datastreams.mqtt": "server.uri=tcp://localhost:1883\n\\uBROKEN\n",
            "comms.modbus": "a=b\na=b\n",
            "datastreams.deviceinfo": "deviceId=dev-1\napikey=k\nserialNumberCommand=hostname\n",
        },
        ignored=("comms.modbus", "connector.mqtt", "datastreams.mqtt"),
    ),
    "scripts": Deployment(
        {
            "connector.websocket": WEBSOCKET,
            "datastreams.deviceinfo": "# Directory to get the scripts\nsource=deploy\n"
            "path=scripts\n\ndeviceId=\napiKey=k\ndevice.clock=scripts/obtainClock.sh\n"
            "device.upTime=scripts/obtainUptime.sh;LONG\n"
            "device.cpu.status=scripts/obtainCpuStatus.sh;\n",
        },
        scripts={"scripts/obtainSerialNumber.sh": "#!/bin/sh\necho serial-1\n"},
    ),
    "board FX30": Deployment(
        {
            "connector.websocket": WEBSOCKET,
            "datastreams.deviceinfofx30": "source=deploy\npath=\ndeviceId=\napiKey=k\n"
            "device.temperature.value=scripts/temperature.sh;INTEGER\ndevice.clock=\n",
            "hardware.atmanager": "portName=/dev/ttyS0\nbaudRate=115200\n",
        },
        ignored=("hardware.atmanager",),
        warnings=("device.clock",),
    ),
    "board OWA450, written on Windows": Deployment(
        {
            "connector.websocket": b"\xef\xbb\xbf"
            + WEBSOCKET.replace("\n", "\r\n").encode()
            + b"keepAliveInterval=60   \r\n",
            "datastreams.deviceinfoowa450": "deviceId\t=\tdev-1\t\r\napiKey:k\r\n"
            "device.upTime=scripts/up.sh;long\r\n",
            "subsystem.poller": "device.upTime = 30 ; 300\r\n",
        },
    ),
    "in memory, collected": Deployment(
        {
            "connector.websocket": WEBSOCKET,
            "datastreams.deviceinfo": IDENTITY,
            "dispatcher.opengate": "operationTimeout=80\nreducedOutput=\n"
            "device.temperature.value=60\ncurrent;child-1=30;300\ndevice.software=30;0\n",
            "subsystem.poller": "device.upTime=30;300\nchild.t;child-*=60\n",
            "subsystem.collector": "device.upTime=60;300\nchild.t;child-*=60;\n",
            "statemanager.inmemory": "databasePath=derby\nmaxData=4000\nforgetTime=172800\n"
            "forgetPeriod=60\nnumProcessingThreads=1\ntasksQueueSize=40\n",
        },
    ),
    "commented as in the manual": Deployment(
        {
            "connector.websocket": WEBSOCKET
            + "connectionTimeout=30 # seconds\nkeepAliveInterval=0\n",
            "datastreams.deviceinfo": IDENTITY + "! the scripts\npath=scripts\n",
            "dispatcher.opengate": "reduceBandwidthMode=true     # Reduced\n"
            "eventContentType=messagePack   # Format\ndevice.software=30;0     # Once\n",
        },
        warnings=(
            "connectionTimeout",
            "keepAliveInterval",
            "reduceBandwidthMode",
            "eventContentType",
            "device.software",
        ),
    ),
    "clock operations": Deployment(
        {
            "connector.websocket": WEBSOCKET,
            "datastreams.deviceinfo": IDENTITY,
            "operation.setclock": "clockDatastream=device.clock\n",
            "operation.synchronizeclock": "clockDatastream=device.clock\n",
            "operation.update": "rulesPath=rules/\nbackupPath=backup/\n",
        },
    ),
    "of several versions": Deployment(
        {
            "connector.websocket": WEBSOCKET
            + "generalPath=/south/v80/sessions\nconnectionTimeout=100000\nwakeUpInterval=5\n"
            "service.pid=es.amplia.oda.connector.websocket\n",
            "datastreams.deviceinfo": IDENTITY + "apikey=canary-key-0123456789\n",
            "operation.setclock": "setterThreads=2\n",
            "statemanager.inmemory": "databasePath=statemanager.bd\ncompactInterval=5\n",
        },
        warnings=("connectionTimeout", "wakeUpInterval", "setterThreads", "compactInterval"),
    ),
    "grown over years": Deployment(
        {
            "connector.websocket": "host=old.example.org\npath=p\nhost=new.example.org\n"
            "keepAliveInterval = 180\n\n# keepAliveInterval=60\n",
            "datastreams.deviceinfo": "# Gerät im Keller\ndeviceId=dev-1\n"
            "apiKey=old-key\napiKey=new-key\na.b=one.sh\na.b=two.sh\n".encode("latin-1"),
            "subsystem.poller": "a.b=30\nc\\:d=60\na.b=\\\n   90\n",
        },
        warnings=("host", "apiKey", "a.b", "a.b"),
    ),
}
