"""What the process keeps out of its log."""

from __future__ import annotations

import base64
from pathlib import Path

from oda.logs.redaction import Redactor
from oda.process import secrets_of
from oda.settings import AgentSettings, ConnectorSettings, DeviceInfoSettings, Secret


def test_every_secret_of_the_settings_is_kept_out_of_the_log() -> None:
    """The API key, the passphrase of the private key and the proxy's password show in no line, and
    the password neither as it travels (RFC 7617: user and password together in base64)."""
    settings = AgentSettings(
        connector=ConnectorSettings(
            host="h",
            path="p",
            key_passphrase_file=Path("f"),
            key_passphrase=Secret("canary-one"),
            proxy_user="user",
            proxy_password_file=Path("g"),
            proxy_password=Secret("canary-two"),
        ),
        device_info=DeviceInfoSettings(api_key=Secret("canary-three")),
    )
    travelling = base64.b64encode(b"user:canary-two").decode()
    line = f"canary-one canary-two canary-three {travelling}"
    assert Redactor(secrets_of(settings)).clean(line) == "*** *** *** ***"


def test_a_secret_that_is_not_there_hides_nothing() -> None:
    """Without a passphrase and a password only the API key is looked for."""
    settings = AgentSettings(
        connector=ConnectorSettings(host="h", path="p"),
        device_info=DeviceInfoSettings(api_key=Secret("canary-three")),
    )
    assert secrets_of(settings) == ["canary-three"]
