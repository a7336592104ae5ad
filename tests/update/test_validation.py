"""Digests and signatures: what passes, and what does not."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from oda.errors import InvalidParameter, OperationFailed
from oda.model import DeploymentElement, ElementOperation, ResultCode, Validator
from oda.settings import UpdateKey
from oda.update.validation import check_validators, compare, digests, trusted_comment, verify
from tests.update.world import Progress, World, begin, outcome, request

PRIVATE = Ed25519PrivateKey.generate()
KEY = UpdateKey(
    b"12345678",
    PRIVATE.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw),
)


def element(**more: Any) -> DeploymentElement:
    usual: dict[str, Any] = {
        "name": "n",
        "version": "1",
        "type": "SOFTWARE",
        "operation": ElementOperation.INSTALL,
        "path": "p",
    }
    return DeploymentElement(**{**usual, **more})


def sign(
    data: bytes,
    comment: str,
    private: Ed25519PrivateKey = PRIVATE,
    key_id: bytes = KEY.id,
    algorithm: bytes = b"ED",
) -> str:
    """A signature as ``minisign -S`` writes it."""
    signature = private.sign(hashlib.blake2b(data).digest())
    both = private.sign(signature + comment.encode())
    return (
        "untrusted comment: signature from a secret key\n"
        f"{b64encode(algorithm + key_id + signature).decode()}\n"
        f"trusted comment: {comment}\n"
        f"{b64encode(both).decode()}\n"
    )


@pytest.mark.parametrize("name", ["MD5", "sha-1", "SHA256", "sha_384", "SHA-512"])
@pytest.mark.parametrize("form", ["hex", "HEX", "base64"])
def test_digests(tmp_path: Path, name: str, form: str) -> None:
    """Each algorithm is known by its usual names, and its digest in the usual forms."""
    file = tmp_path / "f"
    file.write_bytes(b"data")
    folded = name.replace("-", "").replace("_", "").lower()
    digest = hashlib.new(folded, b"data").digest()
    value = {"hex": digest.hex(), "HEX": digest.hex().upper()}.get(form, b64encode(digest).decode())
    right = element(validators=(Validator(name, value),))
    check_validators(right, "e")
    compare(right, digests(file, right))
    file.write_bytes(b"Data")
    with pytest.raises(OperationFailed, match="not that of the request"):
        compare(right, digests(file, right))


@pytest.mark.parametrize(
    ("kind", "value", "member"),
    [("CRC", "00", "type"), ("MD5", "00", "value"), ("SHA256", "zz" * 32, "value")],
)
def test_validators_that_are_none(kind: str, value: str, member: str) -> None:
    """What can't be checked is refused, rather than taken for right."""
    with pytest.raises(InvalidParameter, match=rf"validators\[0\]\.{member}"):
        check_validators(element(validators=(Validator(kind, value),)), "e")


def test_a_signature_of_the_key(tmp_path: Path) -> None:
    """What minisign would accept, with the comment that names the element."""
    file = tmp_path / "f"
    file.write_bytes(b"data")
    verify(element(), sign(b"data", "n 1 p"), digests(file, element()), KEY)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (sign(b"other", "n 1 p"), "not that of this file"),
        (sign(b"data", "n 2 p"), "the signature is for"),
        (sign(b"data", "n 1 elsewhere"), "the signature is for"),
        (sign(b"data", "n 1 p", Ed25519PrivateKey.generate()), "not that of this file"),
        (sign(b"data", "n 1 p", key_id=b"another."), "another key"),
        (sign(b"data", "n 1 p", algorithm=b"Ed"), "older form"),
        (sign(b"data", "x").replace("trusted comment: x", "trusted comment: n 1 p"), "not that"),
        ("", "none of minisign"),
        ("untrusted comment:\nAAAA\ntrusted comment: x\nAAAA", "its length"),
        ("untrusted comment:\n!\ntrusted comment: x\nAAAA", "its base64"),
    ],
    ids=[
        "file",
        "version",
        "path",
        "key",
        "key id",
        "legacy",
        "comment",
        "none",
        "short",
        "base64",
    ],
)
def test_any_other_signature(tmp_path: Path, text: str, reason: str) -> None:
    """A signature for another file, version or place, or of another key, is none."""
    file = tmp_path / "f"
    file.write_bytes(b"data")
    with pytest.raises(OperationFailed, match=reason):
        verify(element(), text, digests(file, element()), KEY)


def test_the_comment_of_a_removal() -> None:
    """A signature for an installation removes nothing."""
    removal = element(operation=ElementOperation.UNINSTALL)
    assert trusted_comment(removal) == "uninstall n 1 p"
    verify(removal, sign(b"", "uninstall n 1 p"), digests(None, removal), KEY)


@pytest.fixture
def signed_world(tmp_path: Path) -> World:
    """A device that installs what is signed."""
    return World(tmp_path, f"updateKey={KEY}\n")


def test_nothing_is_installed_without_a_signature(signed_world: World) -> None:
    """Where ``updateKey`` is set every element needs one: beside the file, or in the request."""
    world, update = signed_world, signed_world.boot()
    unsigned = world.element("a", b"new")
    result = outcome(begin(update, request(unsigned), Progress()))
    assert result.description == "a 2: its signature: the server answered 404"
    world.offer("a.minisig", sign(b"new", "a 2 a").encode())
    result = outcome(begin(update, request(unsigned), Progress()))
    assert result.result_code is ResultCode.SUCCESSFUL, result
    removal = world.element("a", None)
    result = outcome(begin(update, request(removal), Progress()))
    assert "needs a MINISIGN validator" in result.description
    removal["validators"] = [{"type": "MINISIGN", "value": sign(b"", "uninstall a 2 a")}]
    assert outcome(begin(update, request(removal), Progress())).result_code is (
        ResultCode.SUCCESSFUL
    )


def test_a_signed_element_replaces_nothing_else(signed_world: World) -> None:
    """``oldPath`` is not signed: what it names needs a removal of its own."""
    world = signed_world
    moved = world.element("a", b"new", operation="UPGRADE", oldPath="b")
    with pytest.raises(InvalidParameter, match="UNINSTALL of its own"):
        outcome(begin(world.boot(), request(moved), Progress()))


@pytest.mark.parametrize(
    ("signed", "data", "other"),
    [
        (
            element(name="n", version="1", path="p q"),
            b"x",
            element(name="n 1", version="p", path="q"),
        ),
        (
            element(operation=ElementOperation.UNINSTALL),
            b"",
            element(name="uninstall n", version="1", path="p"),
        ),
        (
            element(operation=ElementOperation.UNINSTALL),
            b"",
            element(name="uninstall", version="n", path="1 p"),
        ),
    ],
    ids=["another place", "an empty file", "an empty file elsewhere"],
)
def test_a_signature_is_for_one_element_only(
    tmp_path: Path, signed: DeploymentElement, data: bytes, other: DeploymentElement
) -> None:
    """The words of the comment can't be read as another name, version, path or operation."""
    text = sign(data, trusted_comment(signed))
    file = tmp_path / "f"
    file.write_bytes(data)
    with pytest.raises(OperationFailed, match="a name must hold no blank"):
        verify(other, text, digests(file, other), KEY)


def test_no_validator_is_passed_over(tmp_path: Path) -> None:
    """A signature that nobody can check is none, and a second one would not be looked at."""
    world = World(tmp_path)
    signature = {"type": "MINISIGN", "value": sign(b"new", "a 2 a")}
    signed = world.element("a", b"new", validators=[signature])
    with pytest.raises(InvalidParameter, match="updateKey is not set"):
        outcome(begin(world.boot(), request(signed), Progress()))
    twice = element(validators=(Validator("MINISIGN", "x"), Validator("minisign", "y")))
    with pytest.raises(InvalidParameter, match=r"validators\[1\]: is a second MINISIGN"):
        check_validators(twice, "e")
