"""Reads the parameters of UPDATE: ``deploymentElements`` of both dialects (OpenGate protocol).

Everything is judged before anything is done. Raises ``InvalidParameter`` naming the culprit, for
instance ``deploymentElements[2].downloadUrl``. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from oda.errors import InvalidParameter
from oda.model import DeploymentElement, ElementOperation, Validator

PARAMETER = "deploymentElements"
TYPES = ("SOFTWARE", "FIRMWARE", "CONFIGURATION", "PARAMETERS", "RULE", "DEFAULT")

MAX_ELEMENTS = 100
MAX_VALIDATORS = 8
MAX_TEXT = 1024
#: A signature of minisign stands in the request as a whole.
MAX_VALIDATOR_TEXT = 4096

#: What becomes an argument of a command. It begins with no ``-``: it would be an option.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@ /-]{0,199}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:!-]{0,99}")
_KNOWN = ("bundleName", "bundleVersion", PARAMETER)
_OPTIONS = ("MANDATORY", "OPTIONAL")


def read_elements(parameters: Mapping[str, Any]) -> list[DeploymentElement]:
    """The elements by their ``order``; those of the same order as they stand."""
    for name in parameters:
        if name not in _KNOWN:
            raise InvalidParameter(str(name), f"is not known; known are {', '.join(_KNOWN)}")
    for name in ("bundleName", "bundleVersion"):
        _text(parameters, name, name)
    given = _unwrapped(parameters.get(PARAMETER))
    if not isinstance(given, list):
        problem = "missing" if given is None else "must be a list"
        raise InvalidParameter(PARAMETER, problem)
    if not given:
        raise InvalidParameter(PARAMETER, "must not be empty")
    if len(given) > MAX_ELEMENTS:
        raise InvalidParameter(
            PARAMETER, f"has {len(given)} entries; at most {MAX_ELEMENTS} are allowed"
        )
    elements = [_element(one, f"{PARAMETER}[{index}]") for index, one in enumerate(given)]
    expanded = [part for element in elements for part in _expanded(element)]
    _refuse_doubles(expanded)
    return sorted(expanded, key=lambda element: element.order)


def _element(given: Any, where: str) -> DeploymentElement:
    given = _unwrapped(given)
    if not isinstance(given, dict):
        raise InvalidParameter(where, "must be an object")
    operation = ElementOperation(
        _choice(given, where, "operation", tuple(one.text for one in ElementOperation))
    )
    option = _text(given, "option", f"{where}.option")
    if option is not None and option.upper() not in _OPTIONS:
        raise InvalidParameter(f"{where}.option", f"must be one of {', '.join(_OPTIONS)}")
    has_file = operation is not ElementOperation.UNINSTALL
    url = _text(given, "downloadUrl", f"{where}.downloadUrl")
    if has_file and not url:
        raise InvalidParameter(f"{where}.downloadUrl", "missing")
    if has_file and url:
        _check_url(url, f"{where}.downloadUrl")
    return DeploymentElement(
        name=_matching(given, "name", where, _NAME),
        version=_matching(given, "version", where, _VERSION),
        type=_choice(given, where, "type", TYPES),
        operation=operation,
        path=_text(given, "path", f"{where}.path") or "",
        download_url=url if has_file else None,
        order=_integer(given, "order", where) or 0,
        size=_integer(given, "size", where) if has_file else None,
        validators=_validators(given.get("validators"), f"{where}.validators"),
        old_name=_optional(given, "oldName", where, _NAME),
        old_version=_optional(given, "oldVersion", where, _VERSION),
        old_path=_text(given, "oldPath", f"{where}.oldPath") or None,
    )


def _expanded(element: DeploymentElement) -> list[DeploymentElement]:
    """The element, and before it the removal of what it replaces under another name or path."""
    has_moved = element.old_path not in (None, element.path)
    is_renamed = not element.path and element.old_name not in (None, element.name)
    if element.operation is not ElementOperation.UPGRADE or not (has_moved or is_renamed):
        return [element]
    removal = DeploymentElement(
        name=element.old_name or element.name,
        version=element.old_version or element.version,
        type=element.type,
        operation=ElementOperation.UNINSTALL,
        path=element.old_path or element.path,
        order=element.order,
    )
    return [removal, element]


def _refuse_doubles(elements: list[DeploymentElement]) -> None:
    """Two elements at one place would have each other's state for a backup."""
    seen: set[tuple[str, str]] = set()
    for element in elements:
        place = (element.path.rstrip("/"), "" if element.path else element.name)
        if place in seen:
            raise InvalidParameter(PARAMETER, f"names {element.path or element.name!r} twice")
        seen.add(place)


def _validators(given: Any, where: str) -> tuple[Validator, ...]:
    given = _unwrapped(given)
    if given is None:
        return ()
    if not isinstance(given, list):
        raise InvalidParameter(where, "must be a list")
    if len(given) > MAX_VALIDATORS:
        raise InvalidParameter(where, f"has more than {MAX_VALIDATORS} entries")
    found = []
    for index, one in enumerate(given):
        place = f"{where}[{index}]"
        if not isinstance(one, dict):
            raise InvalidParameter(place, "must be an object")
        kind = _text(one, "type", f"{place}.type")
        value = _text(one, "value", f"{place}.value", MAX_VALIDATOR_TEXT)
        if not kind or not value:
            raise InvalidParameter(f"{place}.{'value' if kind else 'type'}", "missing")
        found.append(Validator(kind, value))
    return tuple(found)


def _check_url(url: str, where: str) -> None:
    """No address but one of a web server. What it names is never repeated in a reason: it may hold
    a token."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, has_host = urlsplit(""), False
    if not has_host or parts.scheme not in ("http", "https"):
        raise InvalidParameter(where, "must be an address http://... or https://...")
    if parts.username is not None or parts.password is not None:
        raise InvalidParameter(where, "must hold no user and password")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidParameter(where, "holds a character that no address has: write it as %XX")


# -- members -------------------------------------------------------------------------------------


def _unwrapped(value: Any) -> Any:
    """What the list dialect wraps as ``array`` or ``object`` inside of a value, too."""
    if isinstance(value, dict) and len(value) == 1:
        for wrapper, kind in (("array", list), ("object", dict)):
            if isinstance(value.get(wrapper), kind):
                return value[wrapper]
    return value


def _text(given: Mapping[str, Any], name: str, where: str, longest: int = MAX_TEXT) -> str | None:
    value = given.get(name)
    if isinstance(value, dict) and value.keys() == {"string"}:
        value = value["string"]
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidParameter(where, "must be a text")
    if len(value) > longest:
        raise InvalidParameter(where, f"is longer than {longest} characters")
    if "\0" in value:
        raise InvalidParameter(where, "holds a NUL")
    return value


def _matching(given: Mapping[str, Any], name: str, where: str, form: re.Pattern[str]) -> str:
    value = _optional(given, name, where, form)
    if value is None:
        raise InvalidParameter(f"{where}.{name}", "missing")
    return value


def _optional(given: Mapping[str, Any], name: str, where: str, form: re.Pattern[str]) -> str | None:
    place = f"{where}.{name}"
    value = _text(given, name, place)
    if value is None or value == "":
        return None
    if not form.fullmatch(value):
        raise InvalidParameter(
            place, "must begin with a letter or digit and hold letters, digits and ._+- only"
        )
    return value


def _choice(given: Mapping[str, Any], where: str, name: str, allowed: tuple[str, ...]) -> str:
    place = f"{where}.{name}"
    value = _text(given, name, place)
    if not value:
        raise InvalidParameter(place, f"missing; must be one of {', '.join(allowed)}")
    if value.upper() not in allowed:
        raise InvalidParameter(place, f"must be one of {', '.join(allowed)}")
    return value.upper()


def _integer(given: Mapping[str, Any], name: str, where: str) -> int | None:
    place = f"{where}.{name}"
    value = given.get(name)
    if isinstance(value, dict) and value.keys() == {"number"}:
        value = value["number"]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise InvalidParameter(place, "must be a whole number, not negative")
    return value
