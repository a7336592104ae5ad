"""Conditions between keys, and between a key and the file it names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

from oda.config.files import Content, is_writable_directory
from oda.config.interpretation import Interpretation
from oda.config.keys import Key
from oda.errors import Fault
from oda.settings import ConnectorSettings, OutboxKind, OutboxSettings, Secret, UpdateSettings

MAX_KEY_BYTES = 4096

#: Keys that mean nothing without another key.
_NEEDS = (
    ("keyPassphraseFile", "keyFile"),
    ("proxyPort", "proxyHost"),
    ("proxyUser", "proxyHost"),
    ("proxyPasswordFile", "proxyHost"),
)


def check_connector(connector: Interpretation) -> None:
    """TLS keys need TLS, a proxy's port needs a proxy, a certificate needs its key."""
    for one, other in (("certFile", "keyFile"), ("proxyUser", "proxyPasswordFile")):
        if connector.has(one) != connector.has(other):
            present, absent = (one, other) if connector.has(one) else (other, one)
            connector.reject(present, f"needs {absent} as well")
    secure = connector.values.get("secure", False) or "secure" in connector.failed
    for name in ("caFile", "certFile", "keyFile", "keyPassphraseFile"):
        if connector.has(name) and not secure:
            connector.reject(name, "is for TLS only: set secure=true, or remove this line")
    if connector.values.get("skipVerify"):
        if secure:
            connector.warnings.append(
                f"{connector.places['skipVerify'].file}: skipVerify: the platform's certificate is "
                "NOT verified; anybody on the network path can read the API key and change the data"
            )
        else:
            connector.reject("skipVerify", "is for TLS only: set secure=true, or remove this line")
    for name, needed in _NEEDS:
        if connector.has(name) and not connector.has(needed):
            connector.reject(name, f"needs {needed} as well")


#: Packages need all of these commands: what can't be taken back is not installed.
_PACKAGE_KEYS = ("packageInstall", "packageRemove", "packageVersion", "packageRestore")


def check_update(update: Interpretation, connector: Interpretation, directory: Path) -> None:
    """The commands for packages belong together; the configuration, the outbox and the record of
    updates are out of the reach of ``updateRoots``."""
    present = [key for key in _PACKAGE_KEYS if update.has(key)]
    for key in _PACKAGE_KEYS:
        if present and key not in present:
            update.reject(present[0], f"needs {key} beside it")
    for key in ("updateKeyHosts", "updateKey"):
        if update.has(key) and not (
            present or update.has("updateRoots") or update.has("updateConfiguration")
        ):
            update.reject(key, "needs updateRoots, updateConfiguration or packageInstall beside it")
    own = {
        "configuration": directory,
        "outbox": connector.values.get("outboxPath", OutboxSettings().path),
        "updates": update.values.get("updateDirectory", UpdateSettings().directory),
    }
    for root in update.values.get("updateRoots", ()):
        for holds, place in own.items():
            real = Path(os.path.realpath(place))
            if real.is_relative_to(os.path.realpath(root)):
                update.reject(
                    "updateRoots", f"{root} holds {real}, where the agent keeps its {holds}"
                )


def check_databases(connector: Interpretation, state: Interpretation) -> None:
    """The outbox and the kept values need two files: each would take the other for damaged."""
    if connector.values.get("outbox") is OutboxKind.MEMORY:
        return
    outbox: Path = connector.values.get("outboxPath", OutboxSettings().path)
    history: Path | None = state.values.get("databasePath")
    if history is not None and os.path.realpath(outbox) == os.path.realpath(history):
        state.reject("databasePath", "is the same file as outboxPath; use another file")


def plaintext_warning(connector: ConnectorSettings) -> str:
    """The warning if the API key leaves this machine unencrypted; otherwise empty."""
    if connector.secure or _is_this_machine(connector.host):
        return ""
    return (
        f"the connection to {connector.host} is plaintext: anybody on the network path can read the"
        " API key and change the data; secure=true encrypts it"
    )


def _is_this_machine(host: str) -> bool:
    """Whether data sent to ``host`` stays on this machine."""
    name = host.strip("[]").lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def check_files(
    interpretation: Interpretation, read: Callable[[Path], Content]
) -> dict[Path, bytes]:
    """Check now, and not only at the first connection, that the files that keys name are readable.

    Returns the digest of each, so that a later change can be noticed.
    """
    digests: dict[Path, bytes] = {}
    for key in interpretation.component.all_keys():
        file = interpretation.values.get(key.name)
        if key.parser.anchored and isinstance(file, Path):
            content = read(file)
            if content.problem:
                interpretation.reject(key.name, f"{file} {content.problem}")
            digests[file] = hashlib.sha256(content.data).digest()
    return digests


def take_key_file(device_info: Interpretation, read: Callable[[Path], Content]) -> None:
    """Replace ``apiKeyFile`` by the key in it. The text of a fault never shows the content."""
    if device_info.has("apiKey") and device_info.has("apiKeyFile"):
        line = device_info.places["apiKey"].line
        where = f" (line {line})" if line else ""
        device_info.reject("apiKeyFile", f"is set together with apiKey{where}: keep one of the two")
        return
    key = _read_secret(device_info, "apiKeyFile", "the API key", read)
    if key is not None:
        device_info.values["apiKey"] = Secret(key.strip())


def take_secret_files(
    connector: Interpretation, read: Callable[[Path], Content]
) -> dict[str, Secret]:
    """The contents of the connector's secret files, by the field that each fills."""
    found = {}
    for key in _secret_files(connector):
        secret = _read_secret(connector, key.name, key.holds, read)
        if secret is not None:
            found[key.content] = Secret(secret)
    return found


def _secret_files(interpretation: Interpretation) -> list[Key]:
    return [key for key in interpretation.component.all_keys() if key.content]


def _read_secret(
    interpretation: Interpretation, name: str, content: str, read: Callable[[Path], Content]
) -> str | None:
    """The single line in the file that the key names; None, with a fault, if there is none. The
    text of a fault never shows the content."""
    file = interpretation.values.get(name)
    if not isinstance(file, Path) or name in interpretation.failed:
        return None
    try:
        # Blanks may belong to a passphrase; the end of the line does not.
        secret = read(file).data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        interpretation.reject(name, f"{file} is not UTF-8 text")
        return None
    what = content.removeprefix("the ")
    if not secret.strip():
        interpretation.reject(name, f"{file} is empty; it must hold {content}")
    elif not secret.strip().isprintable() or len(secret) > MAX_KEY_BYTES:
        interpretation.reject(name, f"{file} must hold one line: the {what}, nothing else")
    else:
        return secret
    return None


def check_permissions(
    device_info: Interpretation, connector: Interpretation, read: Callable[[Path], Content]
) -> None:
    """Report each file with a secret that every user of the machine can read: as a warning, or as a
    fault with ``strictPermissions``. Call this before the secrets are taken."""
    strict = bool(device_info.values.get("strictPermissions", False))
    for interpretation, key, content in (
        (device_info, "apiKey", "the API key"),
        (device_info, "apiKeyFile", "the API key"),
        (connector, "keyFile", "the private key"),
        *((connector, key.name, key.holds) for key in _secret_files(connector)),
    ):
        place = interpretation.places.get(key)
        if place is None or key in interpretation.failed:
            continue
        named = interpretation.values.get(key)
        file = named if isinstance(named, Path) else Path(place.file)
        if not read(file).is_public:  # also false for a variable of the environment
            continue
        name = "this file" if str(file) == place.file else str(file)
        problem = f"{name} holds {content}, and every user of this machine can read it: chmod o-r"
        if strict:
            interpretation.reject(key, problem + " (strictPermissions=true)")
        else:
            interpretation.warnings.append(str(place.fault(problem)))


def check_writable(
    device_info: Interpretation,
    operations: Interpretation,
    directory: Path,
    files: Iterable[Path],
    read: Callable[[Path], Content],
) -> tuple[list[Fault], list[str]]:
    """Report what every user of the machine can write: the directory, those of the scripts, and the
    files that are used. Returns faults (with ``strictPermissions``) and warnings."""
    scripts = [one.values.get("path") for one in (device_info, operations)]
    named = [one for one in scripts if isinstance(one, Path)]
    directories = list(dict.fromkeys([directory, *named]))
    places = [one for one in directories if is_writable_directory(one)]
    places.extend(file for file in dict.fromkeys(files) if read(file).is_writable)
    text = "can be written by every user of this machine: chmod o-w it"
    if device_info.values.get("strictPermissions", False):
        return [Fault(str(one), 0, "", f"{text} (strictPermissions=true)") for one in places], []
    return [], [f"{one}: {text}" for one in places]
