"""What ``oda check`` says of UPDATE: what may be installed, and what stands in its way."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from oda.config.loader import LoadedConfiguration
from oda.diagnosis.findings import Findings, Result

_STEP = "update"


def check_update(configuration: LoadedConfiguration, findings: Findings) -> None:
    """Look at the places and programs that UPDATE would need; nothing where it is off."""
    update = configuration.settings.update
    commands = [
        command
        for command in (
            update.package_install,
            update.package_remove,
            update.package_version,
            update.package_restore,
        )
        if command
    ]
    if not (update.roots or update.configuration or commands):
        return
    for root in update.roots:
        _check_directory(root, "updateRoots", findings)
    if update.configuration:
        _check_directory(configuration.directory, "updateConfiguration", findings)
    for command in commands:
        program = shlex.split(command)[0]
        if not os.access(program, os.X_OK):
            findings.add(
                _STEP, Result.WARNING, f"{program} can't be run", "see the commands for packages"
            )
    kinds = [
        *(["files"] if update.roots else []),
        *(["configuration"] if update.configuration else []),
        *(["packages"] if commands else []),
    ]
    text = f"the platform may install {', '.join(kinds)}"
    if update.key is not None:
        findings.add(_STEP, Result.OK, f"{text}, signed by updateKey")
    else:
        findings.add(
            _STEP,
            Result.WARNING,
            f"{text} without a signature: whoever orders in the platform's name decides what runs",
            "set updateKey (docs/updates.md)",
        )


def _check_directory(directory: Path, key: str, findings: Findings) -> None:
    if not directory.is_dir():
        findings.add(_STEP, Result.FAILED, f"{key}: {directory} is no directory", "make it")
    elif not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        text = f"{key}: this user may not write into {directory}"
        findings.add(_STEP, Result.WARNING, text, "let the agent's user write there")
