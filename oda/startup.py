"""Imports Autobahn without two dependencies that an agent doesn't use.

- NVX, its native code: the wrappers compile a description of that code in each process, with cffi
  and a parser for C. The agent has its own masking and UTF-8 check (``oda.connector.framing``).
- click, which colours words in Autobahn's log lines; the agent suppresses these lines.

Only for a process that runs nothing but an agent: another user of Autobahn in the process would get
its slow Python code. docs/performance.md says what this saves.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_NATIVE = "AUTOBAHN_USE_NVX"


def import_autobahn() -> None:
    """Import Autobahn now, so that later imports find it.

    Does nothing if it is already imported. Restores the environment and the modules of the process
    before it returns. If the operator has set Autobahn's own variable, that value counts.
    """
    if "autobahn" in sys.modules:
        return
    modules: dict[str, Any] = sys.modules
    chosen, loaded = _NATIVE in os.environ, "click" in modules
    os.environ.setdefault(_NATIVE, "0")
    modules.setdefault("click", None)  # Python's mark for a module that can't be imported
    try:
        import autobahn.twisted.websocket  # noqa: F401
    finally:
        if not chosen:
            del os.environ[_NATIVE]
        if not loaded:
            del modules["click"]
