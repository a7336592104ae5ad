"""Imports Autobahn without two things it brings that an agent doesn't use.

- Its wrappers of native code (NVX) describe that code anew in each process, with cffi and a parser
  for C. Masking and UTF-8 are the agent's own (``oda.connector.framing``).
- click, with which it colours words in its log lines; the agent silences these lines.

Only for a process that is nothing but an agent: another user of Autobahn in it would get its slow
ways in Python. What it saves is in docs/performance.md.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_NATIVE = "AUTOBAHN_USE_NVX"


def import_autobahn() -> None:
    """Import it now, so that later imports find it.

    Does nothing where it has been imported. The environment and the modules of the process are as
    before when this returns; where the operator has set Autobahn's own variable, that counts.
    """
    if "autobahn" in sys.modules:
        return
    modules: dict[str, Any] = sys.modules
    chosen, loaded = _NATIVE in os.environ, "click" in modules
    os.environ.setdefault(_NATIVE, "0")
    modules.setdefault("click", None)  # Python's own sign for a module that can't be imported
    try:
        import autobahn.twisted.websocket  # noqa: F401
    finally:
        if not chosen:
            del os.environ[_NATIVE]
        if not loaded:
            del modules["click"]
