"""A Modbus device behind an agent, by configuration alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.platform.testing import RunningPlatform
from tests.e2e.processes import AgentProcess, write, write_configuration
from tests.plugins.test_modbus import Server


def test_a_modbus_device_at_the_platform(platform: RunningPlatform, tmp_path: Path) -> None:
    """Polled values arrive at the platform; the platform reads and writes a register. The device
    goes away and comes back, and a line that is added while the agent runs works at once."""
    pytest.importorskip("pymodbus")
    server = Server()
    conf = write_configuration(tmp_path / "conf", platform, poller="boiler.t;meter=0;1\n")
    lines = (
        f"plugins=modbus\nmodbus.connection.c=host:127.0.0.1, port:{server.port}, timeout:1\n"
        "modbus.datastream.boiler.t;meter=connection:c, table:input, address:7, scale:0.5\n"
    )
    write(conf, "plugins", lines)
    with AgentProcess(conf) as agent:
        platform.wait_for_device("dev-1")
        platform.wait_for_datapoints("meter", "boiler.t", 2)
        assert {one.value for one in platform.datapoints("meter")} == {3.5}
        lines += "modbus.datastream.target=connection:c, table:holding, address:9, write:true\n"
        write(conf, "plugins", lines)
        agent.wait_for_log("configuration changed")
        platform.send_operation(
            "dev-1", "SET_DEVICE_PARAMETERS", {"variableList": [{"name": "target", "value": 42}]}
        )
        answer = platform.send_operation(
            "dev-1", "GET_DEVICE_PARAMETERS", {"variableList": ["target"]}
        )
        assert answer["steps"][0]["response"][0]["variableValue"] == 42
        server.stop()
        answer = platform.send_operation(
            "dev-1", "GET_DEVICE_PARAMETERS", {"variableList": ["target"]}
        )
        assert answer["steps"][0]["response"][0]["resultCode"] == "ERROR"
        server.start()
        answer = platform.send_operation(
            "dev-1", "GET_DEVICE_PARAMETERS", {"variableList": ["target"]}
        )
        assert answer["steps"][0]["response"][0]["variableValue"] == 9
        agent.stop()
    server.close()
