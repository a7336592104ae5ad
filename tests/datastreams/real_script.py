"""Reads one script datastream on the real reactor and prints its outcome as JSON.

Run by ``test_real_scripts`` in a process of its own: COMMAND TYPE TIMEOUT_S.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import reactor

from oda.datastreams.scripts import ScriptGetter, ScriptRunner
from oda.settings import ScriptSettings, ValueType


def main() -> None:
    loop: Any = reactor
    runner = ScriptRunner(loop, Path.cwd(), os.environ, set_session=shutil.which("setsid"))
    runner.scripts_directory = Path.cwd()
    runner.timeout_s = float(sys.argv[3])
    settings = ScriptSettings(
        datastream_id="t", command=sys.argv[1], value_type=ValueType(sys.argv[2])
    )

    def report(outcome: Any) -> None:
        failure = getattr(outcome, "value", outcome)
        text = {"error": str(failure)} if isinstance(failure, Exception) else {"value": failure}
        sys.stdout.write(msgspec.json.encode(text).decode())
        loop.callLater(0.1, loop.stop)

    loop.callWhenRunning(lambda: ScriptGetter(settings, runner).get("").addBoth(report))
    loop.run()


if __name__ == "__main__":
    main()
