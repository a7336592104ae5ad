"""The two dialects of ``parameters``, read as one (OpenGate protocol, "Operation request").

``normalise`` turns the parameters of a request into the object form, whichever dialect it used.
The readers below take what the operations need from the object form. All of them raise
``InvalidParameter``, which names the faulty place in the object form, for example
``variableList[2].name``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oda.errors import InvalidParameter

#: The members in which the list dialect wraps a value, and the types that each may hold.
WRAPPERS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}

#: The two spellings of the members of a ``variableList`` entry.
_SHORT_NAMES = (("variableName", "name"), ("variableValue", "value"))

#: Names of types in error messages for the platform's users.
KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
    bytes: "bytes",
    dict: "an object",
    list: "a list",
}


#: How many variables, and how many parameters, a request may hold; REFRESH_INFO reads a whole
#: device.
MAX_VARIABLES = 1000

#: How much of an unknown parameter an error message repeats, in characters.
MAX_SHOWN = 200

#: The longest name of a variable, in characters.
MAX_NAME_LENGTH = 1024


def kind_of(value: object) -> str:
    """The type of ``value``, in words."""
    return KINDS.get(type(value), f"a {type(value).__name__}")


def normalise(parameters: Any) -> dict[str, Any]:
    """The object form of ``parameters``; missing ones and ``[]`` mean no parameters.

    Entries of ``variableList`` become ``{"name", "value"}``; the operation checks anything else in
    them.
    """
    if parameters is None:
        return {}
    if isinstance(parameters, dict):
        normal = parameters
    elif isinstance(parameters, list):
        normal = _from_list_dialect(parameters)
    else:
        raise InvalidParameter(
            "parameters", f"must be an object or a list, not {kind_of(parameters)}"
        )
    variables = normal.get("variableList")
    if isinstance(variables, list):
        _limit("variableList", variables)
        normal = {**normal, "variableList": [_with_short_names(entry) for entry in variables]}
    return normal


def refuse_unknown(given: Mapping[str, Any], known: Sequence[str], where: str = "") -> None:
    """Refuse parameters that an operation does not know: ignoring them could change its meaning.

    ``where`` is the parameter whose value is ``given``. Raises ``InvalidParameter``.
    """
    for name in given:
        if name not in known:
            place = f"{where}.{name}" if where else str(name)
            raise InvalidParameter(place, f"is not known; known are {', '.join(known)}")


def read_variable_names(parameters: Mapping[str, Any]) -> list[str]:
    """The names in ``variableList``, each once: plain texts, or objects with a name."""
    names = [_name_of(entry, index) for index, entry in enumerate(_variable_list(parameters))]
    return list(dict.fromkeys(names))


def read_variables(parameters: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The names and values in ``variableList``; a value may be null but must be present."""
    variables = []
    for index, entry in enumerate(_variable_list(parameters)):
        if not isinstance(entry, dict):
            raise InvalidParameter(
                f"variableList[{index}]", f"must be an object, not {kind_of(entry)}"
            )
        name = _name_of(entry, index)
        for long_name, short_name in _SHORT_NAMES:
            if long_name in entry:
                where = f"variableList[{index}].{long_name}"
                raise InvalidParameter(where, f"is given beside another {short_name}")
        if "value" not in entry:
            raise InvalidParameter(f"variableList[{index}].value", "missing")
        variables.append((name, entry["value"]))
    return variables


def _variable_list(parameters: Mapping[str, Any]) -> list[Any]:
    entries = parameters.get("variableList")
    if entries is None:
        raise InvalidParameter("variableList", "missing")
    if not isinstance(entries, list):
        raise InvalidParameter("variableList", f"must be a list, not {kind_of(entries)}")
    return entries


def _name_of(entry: Any, index: int) -> str:
    where = f"variableList[{index}]"
    name = entry
    if isinstance(entry, dict):
        where += ".name"
        name = entry.get("name")
        if name is None:
            raise InvalidParameter(where, "missing")
    if not isinstance(name, str):
        raise InvalidParameter(where, f"must be a text, not {kind_of(name)}")
    if not name:
        raise InvalidParameter(where, "must not be empty")
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidParameter(where, f"is longer than {MAX_NAME_LENGTH} characters")
    return name


def _limit(name: str, entries: list[Any]) -> None:
    if len(entries) > MAX_VARIABLES:
        raise InvalidParameter(
            name, f"has {len(entries)} entries; at most {MAX_VARIABLES} are allowed"
        )


def _with_short_names(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    if "variableName" not in entry and "variableValue" not in entry:
        return entry
    short = dict(entry)
    for long_name, short_name in _SHORT_NAMES:
        if long_name in short:
            value = short.pop(long_name)
            if short.get(short_name) is None:
                short[short_name] = value
            elif value is not None and short[short_name] != value:
                short[long_name] = value  # both are given: the operation decides
    return short


def _from_list_dialect(parameters: list[Any]) -> dict[str, Any]:
    _limit("parameters", parameters)
    normal: dict[str, Any] = {}
    for index, entry in enumerate(parameters):
        where = f"parameters[{index}]"
        if not isinstance(entry, dict):
            raise InvalidParameter(where, f"must be an object, not {kind_of(entry)}")
        name = entry.get("name")
        if name is None:
            raise InvalidParameter(f"{where}.name", "missing")
        if not isinstance(name, str):
            raise InvalidParameter(f"{where}.name", f"must be a text, not {kind_of(name)}")
        if name in normal:
            raise InvalidParameter(name, "given twice")
        if "value" not in entry and len(entry) > 1:
            # A missing value would count as null, and the other member would be ignored.
            others = ", ".join(repr(member) for member in entry if member != "name")
            raise InvalidParameter(f"{where}.value", f"missing; there is {others[:MAX_SHOWN]}")
        normal[name] = _unwrap(entry.get("value"), name)
    return normal


def _unwrap(value: Any, name: str) -> Any:
    """The value inside its wrapper; a value without wrapper is unchanged.

    Also reads wrappers written with all their members, where the unused ones are null.
    """
    if not isinstance(value, dict) or not value or not value.keys() <= WRAPPERS.keys():
        return value
    used = [(member, held) for member, held in value.items() if held is not None]
    if not used:
        return None
    if len(used) > 1:
        raise InvalidParameter(
            name, f"is wrapped as {' and '.join(repr(member) for member, _ in used)} at once"
        )
    member, held = used[0]
    if type(held) not in WRAPPERS[member]:
        raise InvalidParameter(name, f"{member!r} must not hold {kind_of(held)}")
    return held
