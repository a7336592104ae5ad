"""Whether a downloaded file is the one that was meant: digests and signatures.

A digest of the request proves that nothing was lost on the way. A signature proves who made the
file, whatever account ordered the update. It is one of minisign: Ed25519 over the BLAKE2b-512
digest of the file, and over a comment that it makes trustworthy. The comment has to name the
element: a signature can't be taken for another file's or another place's.

``digests`` blocks; the caller runs it in a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from pathlib import Path

from oda.errors import InvalidParameter, OperationFailed
from oda.model import DeploymentElement, ElementOperation, Validator
from oda.settings import UpdateKey

MINISIGN = "MINISIGN"
#: By the letters and digits of a validator's type.
_ALGORITHMS: Mapping[str, str] = {
    "MD5": "md5",
    "SHA1": "sha1",
    "SHA256": "sha256",
    "SHA384": "sha384",
    "SHA512": "sha512",
}
_SIGNED = "blake2b"
_CHUNK_BYTES = 1024 * 1024

_UNINSTALL = "uninstall"
_UNTRUSTED, _TRUSTED = "untrusted comment:", "trusted comment: "
#: The signature of a digest. "Ed" is the older one of the whole file.
_HASHED = b"ED"
_SIGNATURE_BYTES = 2 + 8 + 64
#: A file of a signature is no longer.
MAX_SIGNATURE_BYTES = 4096


def check_validators(element: DeploymentElement, where: str, has_key: bool = True) -> None:
    """Raises ``InvalidParameter`` for a validator of an unknown type, or whose value is none, and
    for one that nobody would look at: all have to hold."""
    signatures = 0
    for index, validator in enumerate(element.validators):
        kind = _folded(validator.type)
        place = f"{where}.validators[{index}]"
        if kind == MINISIGN:
            signatures += 1
            if not has_key:
                raise InvalidParameter(place, f"{MINISIGN} can't be checked: updateKey is not set")
            if signatures > 1:
                raise InvalidParameter(place, f"is a second {MINISIGN}")
            continue
        if kind not in _ALGORITHMS:
            known = ", ".join([*_ALGORITHMS, MINISIGN])
            raise InvalidParameter(f"{place}.type", f"must be one of {known}")
        if _digest_of(validator) is None:
            raise InvalidParameter(f"{place}.value", f"is no {kind} digest, hexadecimal or base64")


def digests(file: Path | None, element: DeploymentElement) -> dict[str, bytes]:
    """The digests of the file that the element's validators, and a signature, need. Blocks."""
    names = {
        _ALGORITHMS[kind] for one in element.validators if (kind := _folded(one.type)) != MINISIGN
    }
    making = {name: hashlib.new(name, usedforsecurity=False) for name in (*sorted(names), _SIGNED)}
    if file is not None:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                for one in making.values():
                    one.update(chunk)
    return {name: one.digest() for name, one in making.items()}


def compare(element: DeploymentElement, found: Mapping[str, bytes]) -> None:
    """Raises ``OperationFailed`` where a digest is not that of the request."""
    for validator in element.validators:
        kind = _folded(validator.type)
        if kind == MINISIGN:
            continue
        wanted = _digest_of(validator)
        if wanted is None or not hmac.compare_digest(wanted, found[_ALGORITHMS[kind]]):
            raise OperationFailed(f"the file's {kind} is not that of the request")


def signature_in(element: DeploymentElement) -> str | None:
    """The signature that stands in the request."""
    for validator in element.validators:
        if _folded(validator.type) == MINISIGN:
            return validator.value
    return None


def trusted_comment(element: DeploymentElement) -> str:
    """What the signature of the element has to say besides. Raises ``OperationFailed`` for a name
    with which two elements could have the same comment: one of several words, or ``uninstall``."""
    if " " in element.name or element.name == _UNINSTALL:
        raise OperationFailed(
            f"updateKey is set: a name must hold no blank and not be {_UNINSTALL!r}"
        )
    words = [element.name, element.version, *([element.path] if element.path else [])]
    if element.operation is ElementOperation.UNINSTALL:
        words.insert(0, _UNINSTALL)
    return " ".join(words)


def verify(
    element: DeploymentElement, text: str, found: Mapping[str, bytes], key: UpdateKey
) -> None:
    """Raises ``OperationFailed`` unless ``text`` is the signature of the element by ``key``."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    signature, comment, comment_signature = _parts(text.splitlines())
    if signature[:2] != _HASHED:
        raise OperationFailed("the signature is of an older form: sign with minisign 0.10 or newer")
    if signature[2:10] != key.id:
        raise OperationFailed("the file is signed with another key than updateKey")
    public = Ed25519PublicKey.from_public_bytes(key.public)
    try:
        public.verify(signature[10:], found[_SIGNED])
        public.verify(comment_signature, signature[10:] + comment.encode())
    except InvalidSignature:
        raise OperationFailed("the signature is not that of this file by updateKey") from None
    wanted = trusted_comment(element)
    if comment != wanted:
        raise OperationFailed(
            f"the signature is for {comment[:200]!r}; this element needs one for {wanted!r}"
        )


def _parts(lines: Iterable[str]) -> tuple[bytes, str, bytes]:
    """The signature with its head, the trusted comment, and the signature of that."""
    given = [line for line in lines if line.strip()]
    if len(given) != 4 or not given[0].startswith(_UNTRUSTED) or not given[2].startswith(_TRUSTED):
        raise OperationFailed("the signature is none of minisign")
    try:
        signature = b64decode(given[1], validate=True)
        comment_signature = b64decode(given[3], validate=True)
    except ValueError:
        raise OperationFailed("the signature is none of minisign: its base64 is damaged") from None
    if len(signature) != _SIGNATURE_BYTES:
        raise OperationFailed("the signature is none of minisign: its length is another")
    return signature, given[2].removeprefix(_TRUSTED), comment_signature


def _folded(kind: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", kind.upper())


def _digest_of(validator: Validator) -> bytes | None:
    """The digest that a validator names; None where its value is none of its type."""
    length = hashlib.new(_ALGORITHMS[_folded(validator.type)], usedforsecurity=False).digest_size
    value = validator.value.strip()
    try:
        digest = (
            bytes.fromhex(value) if len(value) == 2 * length else b64decode(value, validate=True)
        )
    except ValueError:
        return None
    return digest if len(digest) == length else None
