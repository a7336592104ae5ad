"""What a reload has to touch."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from oda.config.changes import RECONNECT_FIELDS, LineChanges, difference
from oda.settings import (
    AgentSettings,
    CollectorSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    DispatcherSettings,
    OutboxSettings,
    PluginSettings,
    PollerSettings,
    Schedule,
    ScriptSettings,
    Secret,
    StateManagerSettings,
)

BASE = AgentSettings(
    connector=ConnectorSettings(host="h", path="p"),
    device_info=DeviceInfoSettings(device_id="d", api_key=Secret("k")),
)
A, B, C = (Schedule(datastream_id=name, first_s=1, period_s=1) for name in "abc")


def changed(**sections: Any) -> AgentSettings:
    return msgspec.structs.replace(BASE, **sections)


def connector(**fields: Any) -> AgentSettings:
    return changed(connector=msgspec.structs.replace(BASE.connector, **fields))


def device_info(**fields: Any) -> AgentSettings:
    return changed(device_info=msgspec.structs.replace(BASE.device_info, **fields))


def test_equal_settings_have_no_difference() -> None:
    """Settings read twice from the same files change nothing."""
    same = msgspec.structs.replace(BASE, connector=ConnectorSettings(host="h", path="p"))
    changes = difference(BASE, same)
    assert not changes
    assert changes.components() == ()


@pytest.mark.parametrize(
    "new",
    [
        connector(host="x"),
        connector(port=1),
        connector(path="x"),
        connector(secure=True),
        connector(skip_verify=True),
        connector(key_passphrase=Secret("x")),
        connector(origin="https://x"),
        connector(proxy_user="x"),
        connector(proxy_password=Secret("x")),
        device_info(device_id="x"),
        device_info(device_id=None),
        device_info(api_key=Secret("x")),
    ],
)
def test_a_new_target_or_identity_needs_a_new_connection(new: AgentSettings) -> None:
    """Host, port, path, TLS, device id, key."""
    changes = difference(BASE, new)
    assert changes.reconnect == changes.connector | changes.device_info
    assert changes.reconnect


@pytest.mark.parametrize(
    "new",
    [
        connector(keep_alive_interval_s=1.0),
        connector(connection_timeout_s=1.0),
        connector(compression=True),
        connector(max_message_size_bytes=5000),
        device_info(script_timeout_s=1.0),
        changed(outbox=OutboxSettings(max_rows=5)),
        changed(dispatcher=DispatcherSettings(operation_timeout_s=1.0)),
        changed(poller=PollerSettings(schedules=(A,))),
        changed(collector=CollectorSettings(schedules=(A,))),
        changed(state_manager=StateManagerSettings()),
        changed(plugins=(PluginSettings(name="x"),)),
    ],
)
def test_everything_else_keeps_the_connection(new: AgentSettings) -> None:
    """Something changed, in exactly one component, and the connection stays."""
    changes = difference(BASE, new)
    assert changes
    assert len(changes.components()) == 1
    assert not changes.reconnect


def test_only_changed_schedules_are_touched() -> None:
    """Equal lines are kept, whatever their order; a changed line is removed and added."""
    slower = msgspec.structs.replace(B, period_s=9)
    old = changed(poller=PollerSettings(schedules=(A, B)))
    new = changed(poller=PollerSettings(schedules=(slower, C, A)))
    changes = difference(old, new)
    assert changes.poller_schedules == LineChanges(added=(slower, C), removed=(B,), kept=(A,))
    assert changes.components() == ("poller",)


def test_changed_scripts_are_no_new_identity() -> None:
    """Unless the serial number is the identity and the script that reads it changed."""
    clock = ScriptSettings(datastream_id="device.clock", command="c")
    serial = ScriptSettings(datastream_id="device.serialNumber", command="c")
    assert not difference(BASE, device_info(scripts=(clock, serial))).reconnect
    nameless = device_info(device_id=None)
    named = device_info(device_id=None, scripts=(clock,))
    assert not difference(nameless, named).reconnect
    assert difference(nameless, named).components() == ("device info",)
    assert difference(nameless, named).scripts.added == (clock,)
    assert difference(nameless, named).device_info == frozenset()
    numbered = device_info(device_id=None, scripts=(clock, serial))
    assert difference(named, numbered).reconnect == {"device_id"}


def test_the_state_manager_is_replaced_or_adjusted() -> None:
    """Its file coming or going needs the other kind; a changed key does not."""
    kept = changed(state_manager=StateManagerSettings())
    adjusted = changed(state_manager=StateManagerSettings(max_data=5))
    assert difference(BASE, kept).state_manager_replaced
    assert difference(kept, BASE).state_manager_replaced
    changes = difference(kept, adjusted)
    assert not changes.state_manager_replaced
    assert changes.state_manager == {"max_data"}


def test_a_plugin_with_new_options_is_removed_and_added() -> None:
    """Plugins are compared with their options."""
    one, other = PluginSettings(name="x", options={"a": "1"}), PluginSettings(name="x")
    changes = difference(changed(plugins=(one,)), changed(plugins=(other,)))
    assert (changes.plugins_added, changes.plugins_removed) == ((other,), (one,))


def test_the_fields_that_need_a_connection_exist() -> None:
    """A renamed field would silently no longer reconnect."""
    assert set(ConnectorSettings.__struct_fields__) >= RECONNECT_FIELDS
