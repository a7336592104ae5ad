"""How this agent uses a Java ODA's installation; reads and never writes (``oda check --migrate``
and ``oda init --from``)."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from oda.config.checks import plaintext_warning
from oda.config.components import COMPONENTS, DEVICE_INFO, STATE_MANAGER
from oda.config.connection import CONNECTOR
from oda.config.files import read
from oda.config.loader import LoadedConfiguration, load
from oda.config.properties import read_properties
from oda.datastreams.deviceinfo import (
    SERIAL_NUMBER,
    SERIAL_NUMBER_SCRIPTS,
    USUAL_SCRIPT,
    is_there,
)
from oda.datastreams.script_command import find_command
from oda.diagnosis.differences import DIFFERENCES, UNSAID
from oda.diagnosis.effective import key_source
from oda.diagnosis.findings import Findings, Result
from oda.diagnosis.installation import (
    Installation,
    find_installation,
    left_alone,
    why_ignored,
)
from oda.errors import ConfigurationError
from oda.logs.redaction import Redactor
from oda.settings import AgentSettings, DeviceInfoSettings, ScriptSettings
from oda.telemetry.place import find_place
from oda.wording import counted

#: Replaces the host while the rest of an installation without our connector's file is examined.
_NO_HOST = "localhost"
_HOST_VARIABLE = "ODA_HOST"
#: Words with a meaning for a shell.
_SHELL_SIGNS = frozenset(("|", "||", "&", "&&", ";", "<", ">", ">>", "2>&1", "2>/dev/null"))
_REFUSED_BY_URLS = re.compile(r"[/?#&+%]|[^ -~]")


class Migration:
    """One examination of an installation: adds everything it finds to ``findings``.

    ``host`` is the platform's, for an installation without our connector's file that gets one.
    """

    def __init__(
        self, directory: Path, findings: Findings, environ: Mapping[str, str], host: str = ""
    ) -> None:
        self._directory = directory
        self._findings = findings
        self._environ = dict(environ)
        self._host = host

    def run(self) -> tuple[Installation, LoadedConfiguration] | None:
        """The installation and its configuration; None if that can't be read."""
        try:
            installation = find_installation(self._directory)
        except ConfigurationError as error:
            self._findings.add_faults(error)
            return None
        self._report_place(installation)
        if not _has_connector(installation):
            given = self._environ.get(_HOST_VARIABLE)
            self._environ[_HOST_VARIABLE] = self._host or given or _NO_HOST
        try:
            loaded = load(installation.configuration, self._environ)
        except ConfigurationError as error:
            self._findings.add_faults(error)
            self._findings.add(
                "scripts",
                Result.SKIPPED,
                "identity, scripts and state are checked once this is fixed",
            )
            return None
        settings = loaded.settings
        # Other lines may hold the key too: a command, a datastream named by mistake.
        self._findings.clean = Redactor([settings.device_info.api_key.reveal()]).clean
        self._try("files", lambda: self._report_files(installation, loaded))
        self._try("keys", lambda: self._report_keys(loaded))
        self._try("api key", lambda: self._report_key(installation, loaded))
        used: list[Path] = []
        self._try("identity", lambda: used.extend(self._report_identity(installation, settings)))
        self._try(
            "scripts",
            lambda: used.extend(self._report_scripts(installation, settings.device_info)),
        )
        self._try("state", lambda: used.extend(self._report_state(installation, settings)))
        self._try("left alone", lambda: self._report_rest(installation, used))
        return installation, loaded

    def _try(self, step: str, report: Callable[[], None]) -> None:
        """If this user may not read something, only that part of the report is lost."""
        try:
            report()
        except OSError as error:
            text = f"{error.filename}: {error.strerror}" if error.strerror else str(error)
            advice = "correct the path, or run this as a user who may read it"
            self._findings.add(step, Result.WARNING, text, advice)

    def _report_place(self, installation: Installation) -> None:
        root = installation.root.absolute()
        self._findings.add(
            "installation",
            Result.OK,
            f"configuration in {installation.configuration}; relative paths start at {root}",
            "start the agent in that directory",
            configuration=str(installation.configuration),
            root=str(root),
        )
        has_host = self._host or self._environ.get(_HOST_VARIABLE)
        if not has_host and not _has_connector(installation):
            self._findings.add(
                "files",
                Result.FAILED,
                f"{CONNECTOR.file} is missing: this agent needs it for the platform's address",
                "oda init NEW_DIRECTORY --from DIRECTORY --host HOST writes it",
                file=CONNECTOR.file,
            )

    # -- files and keys ----------------------------------------------------------------------

    def _report_files(self, installation: Installation, loaded: LoadedConfiguration) -> None:
        for file in loaded.read:
            self._findings.add("files", Result.OK, f"{file}: is used", file=file)
        for file in loaded.ignored:
            text = f"{file}: is left alone: {why_ignored(file)}"
            self._findings.add("files", Result.SKIPPED, text, file=file)
        if warning := plaintext_warning(loaded.settings.connector):
            self._findings.add("keys", Result.WARNING, warning)
        for warning in loaded.warnings:
            self._findings.add("keys", Result.WARNING, warning)
        for note in loaded.notes:
            self._findings.add("keys", Result.OK, note)

    def _report_key(self, installation: Installation, loaded: LoadedConfiguration) -> None:
        source = key_source(loaded.settings, self._environ)
        self._findings.add("api key", Result.OK, f"from {source}")
        for component in (DEVICE_INFO.file, *DEVICE_INFO.variants):
            if component in loaded.read:
                self._report_mode(installation.configuration / component)

    def _report_mode(self, file: Path) -> None:
        """Who may read the file with the key. The loader warns if every user may read it."""
        mode = file.stat().st_mode & 0o777
        if mode & 0o070:
            self._findings.add(
                "api key",
                Result.WARNING,
                f"{file} has the mode {mode:04o}: its group can read or write it",
                f"chmod 600 {shlex.quote(str(file))}, as the agent's user",
            )

    def _report_keys(self, loaded: LoadedConfiguration) -> None:
        """A finding for each key that differs; the others are counted."""
        same = 0
        for component in COMPONENTS:
            names = [name for name in (component.file, *component.variants) if name in loaded.read]
            said = set()
            for name in names:
                file = loaded.directory / name
                for entry in read_properties(str(file), read(file).data).entries:
                    key = component.key(entry.key)
                    canonical = key.name if key is not None else entry.key
                    said.add(canonical)
                    place = f"{file}:{entry.line}: {entry.key}"
                    if "${" in entry.value:
                        self._report_placeholder(place, name, entry.key)
                    text = DIFFERENCES.get(component.file, {}).get(canonical, "")
                    if not text or not entry.value:
                        same += 1
                        continue
                    shown = f"{place}: {text}"
                    self._findings.add("keys", Result.OK, shown, file=name, key=entry.key)
            for canonical, text in UNSAID.get(component.file, {}).items():
                if canonical not in said:
                    shown = f"{component.file}: no line {canonical}: {text}"
                    self._findings.add("keys", Result.OK, shown, file=component.file, key=canonical)
        same_lines = counted(same, "other line")
        self._findings.add("keys", Result.OK, f"read unchanged: {same_lines}")

    def _report_placeholder(self, place: str, file: str, key: str) -> None:
        self._findings.add(
            "keys",
            Result.WARNING,
            f"{place}: ${{...}} is read literally; ODA's framework replaces it by a system"
            " property",
            "write the value itself",
            file=file,
            key=key,
        )

    # -- who the device is, its scripts ------------------------------------------------------

    def _report_identity(self, installation: Installation, settings: AgentSettings) -> list[Path]:
        info = settings.device_info
        scripts = [one for one in info.scripts if one.datastream_id in SERIAL_NUMBER_SCRIPTS]
        usual = (installation.root / info.path / USUAL_SCRIPT).absolute() if info.path else None
        if info.device_id is not None:
            text = "is deviceId"
            if _REFUSED_BY_URLS.search(info.device_id):
                self._findings.add(
                    "identity",
                    Result.WARNING,
                    "deviceId is percent-encoded in the URL (as UTF-8); ODA sent some of its"
                    " characters unchanged, or as '?'",
                    "check by which id the platform knows this device",
                )
        elif scripts:
            text = f"is what the script of {scripts[0].datastream_id} writes"
        elif usual is not None and is_there(usual):
            text = f"is what {usual} writes, as in ODA"
            self._find(
                installation,
                ScriptSettings(datastream_id=SERIAL_NUMBER, command=shlex.quote(str(usual))),
            )
            self._findings.add("identity", Result.OK, f"the device's id {text}")
            return [usual]
        elif usual is not None and not os.path.isdir(usual.parent):
            self._findings.add(
                "identity",
                Result.WARNING,
                f"without deviceId the device's id is what {USUAL_SCRIPT} in 'path' writes, and"
                f" {usual.parent} is not a directory: the agent connects once it is",
                "put the scripts there, or write deviceId=...",
            )
            return []
        else:
            self._findings.add(
                "identity",
                Result.WARNING,
                "without deviceId and a script the device's id is this machine's own serial number",
                "write deviceId=..., with the id by which the platform knows the device",
            )
            return []
        self._findings.add("identity", Result.OK, f"the device's id {text}")
        return []

    def _report_scripts(self, installation: Installation, info: DeviceInfoSettings) -> list[Path]:
        found = [self._find(installation, script, info) for script in info.scripts]
        used = [path for path in found if path is not None]
        if info.path is not None:
            scripts = installation.root / info.path
            used.append(scripts)
            self._report_unused(scripts, {_program(one) for one in info.scripts})
        if info.source is not None:
            used.append(installation.root / info.source)
        return used

    def _find(
        self,
        installation: Installation,
        script: ScriptSettings,
        info: DeviceInfoSettings | None = None,
    ) -> Path | None:
        """Whether the script can be run. Does not show the command: it may hold a password."""
        directory = info.path if info is not None else None
        name = _program(script)
        root = installation.root.absolute()
        try:
            argv = find_command(script.command, root, directory, self._environ)
        except ValueError as error:
            self._findings.add(
                "scripts",
                Result.WARNING,
                f"{script.datastream_id}: {error}",
                self._advice(installation, name, info),
                datastream=script.datastream_id,
            )
            return None
        path = next(Path(word) for word in argv if Path(word).name == name)
        if os.access(path, os.X_OK):
            text = f"{script.datastream_id}: {path}"
        else:
            text = (
                f"{script.datastream_id}: {path} is not executable (chmod +x); the agent runs it"
                " with the interpreter that it names"
            )
        self._findings.add("scripts", Result.OK, text, datastream=script.datastream_id)
        for_a_shell = [word for word in shlex.split(script.command) if word in _SHELL_SIGNS]
        if for_a_shell:
            self._findings.add(
                "scripts",
                Result.WARNING,
                f"{script.datastream_id}: no shell reads the command: {for_a_shell[0]!r} is an"
                " argument of the program",
                "put the command into a script, and name that",
                datastream=script.datastream_id,
            )
        return path

    def _advice(
        self, installation: Installation, name: str, info: DeviceInfoSettings | None
    ) -> str:
        if info is not None and info.source is not None:
            candidate = installation.root / info.source / name
            if candidate.is_file() and info.path is not None:
                target = installation.root / info.path
                words = map(shlex.quote, ("cp", str(candidate), f"{target}/"))
                return f"'source' has it: {' '.join(words)}"
        return "fix it there, or remove the line"

    def _report_unused(self, scripts: Path, named: set[str]) -> None:
        try:
            entries = sorted(scripts.iterdir())
        except OSError as error:
            text = f"'path' names {scripts}: {error.strerror or error}"
            self._findings.add("scripts", Result.WARNING, text, "see 'path'")
            return
        for entry in entries:
            if entry.is_file() and entry.name not in {*named, USUAL_SCRIPT}:
                text = f"{entry}: no line names it, is left alone"
                self._findings.add("scripts", Result.SKIPPED, text, file=str(entry))

    # -- the state, and what is left ---------------------------------------------------------

    def _report_state(self, installation: Installation, settings: AgentSettings) -> list[Path]:
        state = settings.state_manager
        if state is None or state.database_path is None:
            return []
        database = installation.root / state.database_path
        key = f"{STATE_MANAGER.file}: databasePath"
        try:
            place = find_place(database)
        except OSError as error:
            text = f"{key}: {database}: {error.strerror or error}"
            self._findings.add("state", Result.WARNING, text, "name another file")
            return [database]
        if place.note:
            self._findings.add(
                "state",
                Result.WARNING,
                f"{key}: {place.note}; this agent keeps its values in {place.path}",
                "ODA's stored values are not taken over: let ODA publish them before you stop it",
                database=str(database),
            )
        else:
            self._findings.add("state", Result.OK, f"{key}: values are kept in {place.path}")
        return [database, place.path]

    def _report_rest(self, installation: Installation, used: list[Path]) -> None:
        for name, reason in left_alone(installation, used):
            self._findings.add("left alone", Result.SKIPPED, f"{name}: {reason}", file=name)


def _has_connector(installation: Installation) -> bool:
    return CONNECTOR.file in os.listdir(installation.configuration)


def _program(script: ScriptSettings) -> str:
    """The name of the file that the line's command runs."""
    return Path(shlex.split(script.command)[0]).name
