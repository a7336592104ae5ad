"""``twistd oda-websocket``: options in, the agent's service out.

Everything else is imported when the service is made. By then the process is known to run an agent,
and can prepare itself for the imports, which take most of the start time.
"""

from __future__ import annotations

from pathlib import Path

from twisted.application.service import IService
from twisted.python import usage

from oda.garbage import search_rarely
from oda.logs.lines import LogFormat
from oda.pid_file import remove_stale
from oda.standard_streams import open_missing_streams
from oda.startup import import_autobahn


class Options(usage.Options):  # type: ignore[misc, unused-ignore]
    """Command line of ``twistd oda-websocket``."""

    synopsis = "[options]"
    longdesc = (
        "Runs the ODA device agent with the .cfg files of one directory. The secrets may also come"
        " from the environment: ODA_API_KEY, ODA_DEVICE_ID."
    )
    optParameters = [
        ["conf", "c", None, "Directory of the .cfg files [default: ./conf, then /etc/oda]"],
        [
            "log-format",
            None,
            None,
            "text, json or journal [default: text; journal where systemd's journal listens]",
        ],
    ]

    def postOptions(self) -> None:
        """Raises ``usage.UsageError`` for an unknown log format. twistd looks at its PID file right
        after this: a stale one is removed."""
        allowed = [log_format.value for log_format in LogFormat]
        if self["log-format"] not in (None, *allowed):
            raise usage.UsageError(f"--log-format must be one of {', '.join(allowed)}")
        pid_file = None if self.parent is None else self.parent.get("pidfile")
        if pid_file:
            remove_stale(Path(pid_file))


def makeService(options: Options) -> IService:
    """The agent as a service.

    Raises ``SystemExit`` with status 1 when the configuration can't be used, after writing every
    fault to standard error.
    """
    open_missing_streams()
    search_rarely()
    import_autobahn()
    from oda.process import build_process

    return build_process(options, options.parent or {})
