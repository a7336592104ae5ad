"""A verified double of the script runner: the test says what each script writes and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from zope.interface import implementer

from oda.errors import ReadingFailed
from oda.interfaces import IScriptRunner
from oda.model import ScriptOutput


class Script:
    """One run."""

    def __init__(
        self,
        command: str,
        variables: Mapping[str, str],
        written: bytes,
        on_output: Callable[[bytes], None],
        survives: bool,
    ) -> None:
        self.command = command
        self.variables = dict(variables)
        self.stdin = written
        self.survives = survives
        self.was_cancelled = False
        self._on_output = on_output
        self._output = b""
        self.ended: Deferred[ScriptOutput] = Deferred(self._cancel)

    def _cancel(self, _: object) -> None:
        self.was_cancelled = True

    def write(self, output: bytes) -> None:
        self._output += output
        self._on_output(output)

    def end(self, failure: str = "") -> None:
        self.ended.callback(ScriptOutput(self._output, failure))

    def fail(self, reason: str) -> None:
        self.ended.errback(ReadingFailed(reason))


@implementer(IScriptRunner)
class FakeRunner:
    """Keeps every run."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []

    def run_once(
        self,
        command: str,
        variables: Mapping[str, str],
        written: bytes,
        on_output: Callable[[bytes], None],
        survives: bool = False,
    ) -> Deferred[ScriptOutput]:
        script = Script(command, variables, written, on_output, survives)
        self.scripts.append(script)
        return script.ended
