"""The request in both dialects, and what is refused in it, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oda.errors import InvalidParameter
from oda.model import ElementOperation, OperationRequest
from oda.operations.request import recognise
from oda.update.elements import MAX_ELEMENTS, read_elements

VECTORS = Path(__file__).parents[1] / "vectors" / "operations.json"
ELEMENT = {
    "name": "e",
    "version": "1",
    "type": "SOFTWARE",
    "downloadUrl": "http://127.0.0.1/x",
    "path": "p",
    "order": 1,
    "operation": "INSTALL",
    "option": "MANDATORY",
}


def read(*elements: Any) -> Any:
    return read_elements({"deploymentElements": list(elements)})


def test_the_recorded_request_is_understood() -> None:
    """The vector of the reference agent."""
    recorded = next(
        one for one in json.loads(VECTORS.read_text()) if one["name"].startswith("UPDATE")
    )
    request = recognise(recorded["request"], "dev-1")
    assert isinstance(request, OperationRequest)
    (element,) = read_elements(request.parameters)
    assert (element.name, element.path, element.operation) == ("e", "p", ElementOperation.INSTALL)
    assert element.download_url == "http://127.0.0.1/x"


def test_the_list_dialect_says_the_same() -> None:
    """Values wrapped as ``string`` and ``array``, as the older documentation has them."""
    request = recognise(
        {
            "operation": {
                "request": {
                    "id": "1",
                    "name": "UPDATE",
                    "parameters": [
                        {"name": "bundleName", "value": {"string": "b"}},
                        {"name": "bundleVersion", "value": {"string": "2.0.0"}},
                        {
                            "name": "deploymentElements",
                            "type": "string",
                            "value": {"array": [{**ELEMENT, "validators": [], "size": 334}]},
                        },
                    ],
                }
            }
        },
        "dev-1",
    )
    assert isinstance(request, OperationRequest)
    (element,) = read_elements(request.parameters)
    (same,) = read({**ELEMENT, "size": 334})
    assert element == same


def test_unused_members_may_be_null() -> None:
    """What the platform does not know it may leave out, or send as null."""
    nulls = dict.fromkeys(("oldName", "oldVersion", "oldPath", "validators", "size"))
    assert read({**ELEMENT, **nulls}) == read(ELEMENT)


def test_an_upgrade_under_another_path_removes_the_old_one() -> None:
    """``oldPath`` becomes a removal of its own, before the installation."""
    removal, upgrade = read({**ELEMENT, "operation": "UPGRADE", "oldPath": "q", "oldVersion": "0"})
    assert (removal.operation, removal.path, removal.version) == (
        ElementOperation.UNINSTALL,
        "q",
        "0",
    )
    assert upgrade.path == "p"
    assert len(read({**ELEMENT, "operation": "UPGRADE", "oldPath": "p"})) == 1


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"name": None}, "name: missing"),
        ({"name": "-rf"}, "name: must begin"),
        ({"version": ""}, "version: missing"),
        ({"version": "--force"}, "version: must begin"),
        ({"type": "GAME"}, "type: must be one of"),
        ({"operation": "BURN"}, "operation: must be one of"),
        ({"operation": None}, "operation: missing"),
        ({"option": "MAYBE"}, "option: must be one of"),
        ({"downloadUrl": None}, "downloadUrl: missing"),
        ({"downloadUrl": "file:///etc/passwd"}, "downloadUrl: must be an address"),
        ({"downloadUrl": "http://u:p@h/x"}, "downloadUrl: must hold no user"),
        ({"downloadUrl": "http://h/a b"}, "downloadUrl: holds a character"),
        ({"downloadUrl": "http://h:0/"}, "downloadUrl: must be an address"),
        ({"downloadUrl": 7}, "downloadUrl: must be a text"),
        ({"path": "x" * 1025}, "path: is longer"),
        ({"path": "a\0b"}, "path: holds a NUL"),
        ({"size": -1}, "size: must be a whole number"),
        ({"order": "first"}, "order: must be a whole number"),
        ({"validators": {}}, "validators: must be a list"),
        ({"validators": [7]}, r"validators\[0\]: must be an object"),
        ({"validators": [{"type": "MD5"}]}, r"validators\[0\].value: missing"),
        ({"validators": [{"type": "MD5", "value": "0"}] * 9}, "validators: has more than 8"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], culprit: str) -> None:
    """Nothing is guessed: the platform reads which member of which element it is."""
    with pytest.raises(InvalidParameter, match=rf"deploymentElements\[1\]\.{culprit}"):
        read({**ELEMENT, "path": "other"}, {**ELEMENT, **change})


@pytest.mark.parametrize(
    ("parameters", "culprit"),
    [
        ({}, "deploymentElements: missing"),
        ({"deploymentElements": []}, "must not be empty"),
        ({"deploymentElements": "x"}, "must be a list"),
        ({"deploymentElements": [7]}, r"deploymentElements\[0\]: must be an object"),
        ({"deploymentElements": [ELEMENT] * (MAX_ELEMENTS + 1)}, "at most 100"),
        ({"deploymentElements": [ELEMENT, ELEMENT]}, "names 'p' twice"),
        ({"deploymentElements": [ELEMENT], "bundleName": 7}, "bundleName: must be a text"),
        ({"deploymentElements": [ELEMENT], "force": True}, "force: is not known"),
    ],
)
def test_wrong_parameters(parameters: dict[str, Any], culprit: str) -> None:
    """The list as a whole, and what stands beside it."""
    with pytest.raises(InvalidParameter, match=culprit):
        read_elements(parameters)
