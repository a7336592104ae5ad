"""What the measured processes share: how they are metered, and what they answer.

It imports nothing that costs memory: each process is measured with what it imports itself.
"""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any


def cpu_s() -> float:
    """CPU seconds of this process so far."""
    times = os.times()
    return times.user + times.system


def resident_mib() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Meter:
    """Wall and CPU time between ``start`` and ``report``."""

    def start(self) -> None:
        self.wall, self.cpu = time.perf_counter(), cpu_s()

    def report(self, **more: Any) -> None:
        """Print the line that the runner reads."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        line = {"wall_s": time.perf_counter() - self.wall, "cpu_s": cpu_s() - self.cpu}
        print(json.dumps({**line, "peak_mib": peak, **more}), flush=True)


def answer_to(request: dict[str, Any], device: str) -> dict[str, Any]:
    """What a baseline answers to an operation request."""
    name = request["name"]
    entry = {"variableName": "q", "resultCode": "SUCCESS", "resultDescription": "SUCCESS"}
    if name == "GET_DEVICE_PARAMETERS":
        entry["variableValue"] = 17  # type: ignore[assignment]
    step = {"name": name, "result": "SUCCESSFUL", "description": "", "response": [entry]}
    response = {
        "id": request["id"],
        "deviceId": device,
        "path": [],
        "name": name,
        "resultCode": "SUCCESSFUL",
        "steps": [step],
    }
    return {"version": "9.0", "operation": {"response": response}}
