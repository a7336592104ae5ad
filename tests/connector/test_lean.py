"""Autobahn comes without what an agent doesn't use, and nothing else of the process changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

_CODE = """
import json, os, sys
before = dict(os.environ)
{before}
from oda.startup import import_autobahn
import_autobahn()
loaded = sorted({{"autobahn", "click", "pycparser"}} & set(sys.modules))
unchanged = dict(os.environ) == before
import click
from autobahn.websocket import USES_NVX
print(json.dumps([loaded, unchanged, click.style("x") != "", USES_NVX]))
"""


def outcome(before: str = "", **environ: str) -> Any:
    """What a new process has loaded, whether its environment is unchanged, whether click can be
    used afterwards, and whether Autobahn uses its native code."""
    inherited = {key: value for key, value in os.environ.items() if key != "AUTOBAHN_USE_NVX"}
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(before=before)],
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_autobahn_comes_alone() -> None:
    """Neither click nor the parser for C, and both stay usable for others."""
    assert outcome() == [["autobahn"], True, True, False]


def test_what_is_there_stays() -> None:
    """An Autobahn or click that others have imported is left as it is."""
    loaded = outcome("import autobahn.twisted.websocket")[0]
    assert "click" in loaded
    assert outcome("import click")[0] == ["autobahn", "click"]


def test_the_operator_can_choose_the_native_code() -> None:
    """By Autobahn's own variable."""
    from autobahn.websocket import HAS_NVX

    if HAS_NVX:
        assert outcome(AUTOBAHN_USE_NVX="1")[3] is True
    assert outcome(AUTOBAHN_USE_NVX="no")[3] is False
