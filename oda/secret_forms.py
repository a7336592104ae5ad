"""The forms in which a secret may appear: the single list for all masking.

A peer that knows a secret may repeat it in another form, and each letter in a different one: plain,
as percent escapes (in either case, even escaped again), as HTML entities, after a backslash, as
``\\x`` or ``\\u`` escape; or the whole secret in hexadecimal or base64. One pattern finds them all.
It has no unbounded repetition, so the search time is linear in the length of the text.

In a secret that is not UTF-8 (bytes, or a text in which Python has escaped bytes), each byte counts
as a letter. Other software may have decoded such a byte as Latin-1, or failed and written U+FFFD:
the pattern finds these forms as well.

Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

#: Replaces a secret.
MASK = "***"


#: Decoders replace a byte that is not UTF-8 with this.
_REPLACEMENT = "\ufffd"


def pattern_of(secret: str | bytes) -> str:
    """A regular expression for every form of ``secret``, which must not be empty. Bytes that are
    not UTF-8 appear there in Python's escaped form (U+DC80 to U+DCFF)."""
    data = _bytes_of(secret)
    whole = [_of_bytes(data, "")]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole.append(re.escape(encode(data).decode().rstrip("=")))
    return "|".join([_of_letters(data), *whole])


def _bytes_of(secret: str | bytes) -> bytes:
    if isinstance(secret, bytes):
        return secret
    try:
        return secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # other surrogates
        return secret.encode("utf-8", "surrogatepass")


def _of_letters(data: bytes) -> str:
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return "".join(_of_wild_byte(byte) for byte in data)
    return "".join(_of_letter(letter) for letter in text)


def _of_wild_byte(byte: int) -> str:
    letter = chr(byte)
    if letter.isascii():
        return _of_letter(letter)
    itself = bytes((byte,))
    forms = [
        _of_bytes(itself, "%(?:25){0,3}"),
        _of_bytes(itself, r"\\{1,4}[xX]"),
        itself.decode("ascii", "surrogateescape"),
        _of_letter(letter),
        _of_letter(_REPLACEMENT),
    ]
    return f"(?:{'|'.join(forms)})"


def _of_letter(letter: str) -> str:
    code, data = ord(letter), letter.encode("utf-8", "surrogatepass")
    forms = [
        _of_bytes(data, "%(?:25){0,3}"),
        _of_bytes(data, r"\\{1,4}[xX]"),
        "".join(rf"\\{{1,4}}[uU]{_hexadecimal(unit)}" for unit in _utf16(code)),
        f"&(?:amp;)?#0{{0,7}}{code};?",
        f"&(?:amp;)?#[xX]0{{0,7}}{_hexadecimal(f'{code:x}')};?",
        *(f"&(?:amp;)?{re.escape(name)}" for name in _entities(letter)),
    ]
    if letter == " ":
        forms.append(r"\+")
    if not letter.isascii():
        forms.append(re.escape(data.decode("latin-1")))
    # Last, because the other forms may start with the letter itself.
    forms.append(rf"\\{{0,4}}{re.escape(letter)}" if letter != "\\" else r"\\{1,8}")
    return f"(?:{'|'.join(forms)})"


def _of_bytes(data: bytes, before: str) -> str:
    return "".join(before + _hexadecimal(f"{byte:02x}") for byte in data)


def _hexadecimal(digits: str) -> str:
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)


def _utf16(code: int) -> list[str]:
    if code < 0x10000:
        return [f"{code:04x}"]
    code -= 0x10000
    return [f"{0xD800 + (code >> 10):04x}", f"{0xDC00 + (code & 0x3FF):04x}"]


def _entities(letter: str) -> list[str]:
    """HTML's names for a letter, those with a semicolon first."""
    if letter.isascii() and letter.isalnum():
        return []
    from html.entities import html5  # imported late: a large table that few keys need

    names = [name for name, character in html5.items() if character == letter]
    return sorted(names, key=len, reverse=True)


def _as_bytes(pattern: str) -> bytes:
    """The pattern for bytes. Escaped bytes become themselves, other surrogates become UTF-8."""
    return b"".join(
        part.encode(
            "utf-8", "surrogateescape" if "\udc80" <= part[0] <= "\udcff" else "surrogatepass"
        )
        for part in re.split("([\udc80-\udcff]+)", pattern)
        if part
    )


class SecretForms:
    """Finds the secrets in texts and bytes. Ignores empty secrets."""

    def __init__(self, secrets: Iterable[str | bytes] = ()) -> None:
        found = {_bytes_of(secret) for secret in secrets}
        ordered = sorted(found - {b""}, key=len, reverse=True)
        pattern = "|".join(pattern_of(secret) for secret in ordered)
        self._text = re.compile(pattern) if pattern else None
        self._bytes = re.compile(_as_bytes(pattern)) if pattern else None

    def mask(self, text: str) -> str:
        """``text`` with ``MASK`` in place of each form of each secret."""
        return text if self._text is None else self._text.sub(MASK, text)

    def mask_bytes(self, data: bytes) -> bytes:
        """Like ``mask``, for bytes; keeps the length by writing a star for each byte found."""
        if self._bytes is None:
            return data
        return self._bytes.sub(lambda found: b"*" * len(found[0]), data)
