"""``python -m oda.platform``: the options of ``twistd oda-platform``, in the foreground.

One JSON line on standard output gives the addresses (``devices``, ``api``); the log goes to
standard error.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python import usage

from oda.platform.database import DatabaseUnusable
from oda.platform.service import Platform
from oda.platform.tap import Options, build_platform


def main(arguments: list[str]) -> int:
    """Run until a signal; returns the exit status."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    options = Options()
    try:
        options.parseOptions(arguments)
        platform = build_platform(options, Platform)
    except usage.UsageError as error:
        sys.stderr.write(f"oda-platform: {error}\n(--help shows the options)\n")
        return 2
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    try:
        platform.startService()
    except (CannotListenError, DatabaseUnusable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", platform.stopService)
    where = {"devices": platform.url, "api": platform.http_url}
    sys.stdout.write(json.dumps(where) + "\n")
    sys.stdout.flush()
    reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
