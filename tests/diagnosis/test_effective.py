"""The settings in force, without their secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from oda.config.components import COMPONENTS
from oda.diagnosis.effective import (
    effective,
    key_source,
    render_settings,
    settings_document,
)
from oda.settings import (
    AgentSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    OperationsSettings,
    PluginSettings,
    PollerSettings,
    Schedule,
    ScriptEffect,
    ScriptOperationSettings,
    ScriptSettings,
    Secret,
    StateManagerSettings,
    ValueType,
)

KEY = "canary-key"


def settings(**changes: Any) -> AgentSettings:
    return AgentSettings(
        **{
            "connector": ConnectorSettings(host="h.example", path="/p"),
            "device_info": DeviceInfoSettings(
                api_key=Secret(KEY),
                scripts=(
                    ScriptSettings(
                        datastream_id="t",
                        command=f"read --password {KEY}",
                        value_type=ValueType.FLOAT,
                    ),
                ),
            ),
            "plugins": (PluginSettings(name="bus", options={"password": KEY}),),
            "state_manager": StateManagerSettings(),
            "operations": OperationsSettings(
                reboot_command=f"reboot-it {KEY}",
                scripts=(
                    ScriptOperationSettings(
                        name="PUMP",
                        command=f"pump {KEY}",
                        effect=ScriptEffect.REBOOTS,
                        serves_devices=True,
                    ),
                    ScriptOperationSettings(name="VALVE", command=f"valve {KEY}"),
                ),
            ),
            **changes,
        }
    )


def test_no_secret_shows() -> None:
    """Neither the key, nor the command of a script, nor what a plugin is told."""
    shown = (
        render_settings(settings()) + msgspec.json.encode(settings_document(settings())).decode()
    )
    assert KEY not in shown
    assert "apiKey=***" in shown
    assert "t=***;FLOAT" in shown
    assert "bus.password=***" in shown
    assert "rebootCommand=***" in shown
    assert "restartCommand=***" not in shown
    assert "PUMP=***;REBOOTS;DEVICES\n" in shown
    assert "VALVE=***\n" in shown


def test_every_key_of_every_file_is_there() -> None:
    """Also those with a default, also those without a value."""
    document = settings_document(settings())
    for component in COMPONENTS:
        for key in component.all_keys():
            assert key.name in document[component.file]
    assert document["es.amplia.oda.connector.websocket.cfg"]["caFile"] is None
    assert document["es.amplia.oda.connector.websocket.cfg"]["keepAliveInterval"] == "180"


def test_a_default_is_marked_as_such() -> None:
    """What somebody has set stands out; a value equal to its default counts as the default."""
    lines = render_settings(settings()).splitlines()
    assert "  host=h.example" in lines
    assert "  secure=false (default)" in lines
    assert not [line for line in lines if line.startswith("  caFile")]


def test_schedules_are_shown_as_they_are_written() -> None:
    """datastreamId[;devicePattern]=first;period."""
    poller = PollerSettings(
        schedules=(
            Schedule(datastream_id="a", first_s=1.0, period_s=60.0),
            Schedule(datastream_id="b", device_pattern="x*", first_s=0.5, period_s=0.0),
        )
    )
    found = {
        item.key: item.value
        for item in effective(settings(poller=poller))
        if item.file.endswith("poller.cfg")
    }
    assert found == {"a": "1;60", "b;x*": "0.5;0"}


def test_the_state_managers_file_shows_only_where_it_is_used() -> None:
    """Its presence alone chooses the manager."""
    assert "statemanager" in render_settings(settings())
    assert "statemanager" not in render_settings(settings(state_manager=None))


def test_where_the_key_comes_from() -> None:
    """The environment overrides the file; a key file is named."""
    assert "ODA_API_KEY" in key_source(settings(), {"ODA_API_KEY": KEY})
    assert "ODA_API_KEY_FILE" in key_source(settings(), {"ODA_API_KEY_FILE": "f"})
    assert "deviceinfo.cfg" in key_source(settings(), {"ODA_API_KEY": ""})
    named = DeviceInfoSettings(api_key=Secret(KEY), api_key_file=Path("/k"))
    assert key_source(settings(device_info=named), {}) == "the file /k"
