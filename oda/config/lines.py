"""The free lines of the files: schedules ``datastreamId[;devicePattern]=[first;]period``, scripts
``datastreamId=script;type``, operations by script ``OPERATION=script;option`` and log levels
``log.component=level``.

Pure; problems are ``ValueError`` texts as in ``parsers``.
"""

from __future__ import annotations

import re
import shlex

import msgspec

from oda.config.parsers import quoted
from oda.model import HOST
from oda.settings import (
    ComponentLogLevel,
    LogLevel,
    OnChange,
    Schedule,
    ScriptEffect,
    ScriptOperationSettings,
    ScriptSettings,
    ValueType,
)

SCHEDULE_ALLOWED = "period or first;period, in seconds (decimals allowed, period 0: once)"
POLL_ALLOWED = (
    SCHEDULE_ALLOWED
    + "; after them ;onChange, ;deadband=number and ;maxSilence=seconds (0: no limit)"
)
SCRIPT_ALLOWED = "script or script;type, type one of " + ", ".join(kind.value for kind in ValueType)
OPERATION_ALLOWED = "script, then ;REBOOTS or ;RESTARTS, and ;DEVICES, where they apply"
#: Operations that the agent carries out itself, and what the file has instead of a script for one.
OWN_OPERATIONS = {
    "REFRESH_INFO": "",
    "GET_DEVICE_PARAMETERS": "",
    "SET_DEVICE_PARAMETERS": "",
    "SET_CLOCK_EQUIPMENT": "",
    "SYNCHRONIZE_CLOCK": "",
    "DISCOVER": "",
    "REBOOT_EQUIPMENT": "rebootCommand",
}
LOG_PREFIX = "log."
LOG_LEVEL_ALLOWED = ", ".join(level.value for level in LogLevel)
MAX_SECONDS = 1_000_000_000.0

_LOG_COMPONENT = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_OPERATION = re.compile(r"[A-Za-z][\w.-]{0,127}", re.ASCII)
_EFFECTS = ("REBOOTS", "RESTARTS")
_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")
_ESCAPE_HELP = (
    "if ':', '=' or a blank belongs to the name, write a backslash before it: '\\:', '\\=', '\\ '"
)


def read_schedule(key: str, value: str) -> Schedule:
    """One line of the poller, the collector or the dispatcher."""
    datastream_id, device_pattern = _read_target(key)
    parts = [part.strip() for part in value.split(";")]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()  # ODA reads "60;" as "60"
    if len(parts) > 2 or not all(_SECONDS.fullmatch(part) for part in parts):
        # A long value is not shown: it may be a key in the wrong file.
        shown = quoted(value) if len(value) <= 12 else "the value"
        problem = f"{shown} is not a schedule; allowed: {SCHEDULE_ALLOWED}"
        if "=" in value or ":" in value or value.startswith(";"):
            problem += "; " + _ESCAPE_HELP
        raise ValueError(problem)
    numbers = [float(part) for part in parts]
    if max(numbers) > MAX_SECONDS:
        raise ValueError(f"{quoted(value)} is more than {MAX_SECONDS:.0f} seconds")
    return Schedule(
        datastream_id=datastream_id,
        device_pattern=device_pattern,
        first_s=numbers[0],
        period_s=numbers[-1],
    )


def read_poll(key: str, value: str) -> Schedule:
    """One line of the poller, which may say that only changes are published."""
    parts = [part.strip() for part in value.split(";")]
    first = next((i for i, part in enumerate(parts) if part[:1].isalpha()), len(parts))
    if not first or not parts[0]:
        return read_schedule(key, value)
    line = read_schedule(key, ";".join(parts[:first]))
    options = parts[first:]
    if len(options) > 1 and not options[-1]:
        options.pop()
    return msgspec.structs.replace(line, on_change=_read_changes(options)) if options else line


def _read_changes(options: list[str]) -> OnChange:
    known = {"onchange": None, "deadband": "deadband", "maxsilence": "max_silence_s"}
    numbers: dict[str, float] = {}
    seen: set[str] = set()
    for option in options:
        name, equals, number = (part.strip() for part in option.partition("="))
        field = known.get(name.lower(), "")
        if field == "":
            shown = quoted(name) if len(name) <= 12 else "what follows the period"
            raise ValueError(f"{shown} is not an option; allowed: {POLL_ALLOWED}")
        if name.lower() in seen:
            raise ValueError(f"{name} is given twice")
        seen.add(name.lower())
        if field is None and equals:
            raise ValueError(f"{name} takes no value")
        if field is None:
            continue
        if not _SECONDS.fullmatch(number) or float(number) > MAX_SECONDS:
            raise ValueError(f"{name} must be a number from 0 to {MAX_SECONDS:.0f}")
        numbers[field] = float(number)
    return OnChange(**numbers)


def _read_target(key: str) -> tuple[str, str]:
    parts = [part.strip() for part in key.split(";")]
    if len(parts) > 2:
        raise ValueError("more than one ';' in the name; allowed: datastreamId[;devicePattern]")
    if not parts[0]:
        raise ValueError("no datastream before the ';'; allowed: datastreamId[;devicePattern]")
    if "*" in parts[0]:
        raise ValueError("a datastream can't contain '*'; only the device pattern after ';' can")
    device_pattern = parts[1] if len(parts) == 2 else HOST
    if device_pattern.count("*") > 1:
        raise ValueError("more than one '*' in the device pattern; allowed: an id, or one '*'")
    return parts[0], device_pattern


def read_script(key: str, value: str) -> ScriptSettings:
    """One script line of the device info file. An error never shows the command, because a misspelt
    ``apiKey`` would put the key there."""
    if ";" in key:
        raise ValueError("a script reads the host device only: the name can't contain ';'")
    # A ';' with nothing behind it has no meaning, as in the reference agent.
    command, separator, type_name = value.rstrip("; \t").rpartition(";")
    if not separator:
        command, type_name = type_name, ""
    command, type_name = command.strip(), type_name.strip().upper()
    if not command:
        raise ValueError(f"names no script; allowed: {SCRIPT_ALLOWED}")
    if type_name and type_name not in ValueType.__members__:
        shown = quoted(type_name) if type_name.isalpha() else "the text after the last ';'"
        raise ValueError(f"{shown} is not a type; allowed: {SCRIPT_ALLOWED}")
    check_command(command)
    return ScriptSettings(
        datastream_id=key,
        command=command,
        value_type=ValueType[type_name] if type_name else ValueType.STRING,
    )


def read_script_operation(key: str, value: str) -> ScriptOperationSettings:
    """One line of the operations' file."""
    if not _OPERATION.fullmatch(key):
        raise ValueError(
            "is no name of an operation; allowed: letters, digits, '_', '-' and '.', as the"
            " platform writes it"
        )
    if key in OWN_OPERATIONS:
        instead = OWN_OPERATIONS[key]
        hint = f"; set {instead}" if instead else " and can't be replaced by a script"
        raise ValueError(f"the agent carries out {key} itself{hint}")
    command, effects, serves_devices = value, [], False
    while True:
        rest, separator, word = command.rstrip("; \t").rpartition(";")
        option = word.strip().upper()
        if not separator or not option.isalpha():
            command = command.rstrip("; \t")
            break
        if option in _EFFECTS:
            effects.append(ScriptEffect[option])
        elif option == "DEVICES":
            serves_devices = True
        else:
            raise ValueError(f"{quoted(word.strip())} is no option; allowed: {OPERATION_ALLOWED}")
        command = rest
    if len(effects) > 1:
        raise ValueError("has two of the options REBOOTS and RESTARTS; keep one")
    if not command:
        raise ValueError(f"names no script; allowed: {OPERATION_ALLOWED}")
    check_command(command)
    return ScriptOperationSettings(
        name=key,
        command=command,
        effect=effects[0] if effects else ScriptEffect.NONE,
        serves_devices=serves_devices,
    )


def check_command(command: str) -> None:
    """Refuse a command that can't be split into a program and its arguments."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"the command can't be split into words: {error}") from None
    if not words:
        raise ValueError("names no program")
    if "=" in words[0]:
        raise ValueError(f"the name of the program contains '='; {_ESCAPE_HELP}")


def read_log_level(key: str, value: str) -> ComponentLogLevel:
    """One line of the monitor's file."""
    component = key.removeprefix(LOG_PREFIX).removeprefix("oda.")
    if component == key or not _LOG_COMPONENT.fullmatch(component):
        raise ValueError(
            f"unknown key; allowed: monitorPort, monitorInterface, logLevel, "
            f"{LOG_PREFIX}<component> as in {LOG_PREFIX}connector"
        )
    levels = {level.value: level for level in LogLevel}
    if value.lower() not in levels:
        raise ValueError(f"{quoted(value)} is not allowed; allowed: {LOG_LEVEL_ALLOWED}")
    return ComponentLogLevel(component=component, level=levels[value.lower()])
