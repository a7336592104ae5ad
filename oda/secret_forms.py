"""How a secret may be written: the one list that everything that masks uses.

Whoever has heard a secret may repeat it in another form, and each letter in a form of its own: as
it is, as percent escapes (in either case, and escaped again), as HTML entities, with a backslash
before it, as ``\\x`` or ``\\u`` escape; and the whole in hexadecimal or base64. One pattern finds
them all. It holds no repetition without a bound, so that the search takes no longer than the text
is long, whatever the text holds.

A secret that is no UTF-8 (bytes, or a text in which Python has escaped bytes) has each of its bytes
as a letter. Somebody else may have taken the byte for the letter of Latin-1 with this number, or
for none, and written U+FFFD: these forms are found as well.

Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

#: What stands in the place of a secret.
MASK = "***"


#: What decoders write in the place of a byte that is no UTF-8.
_REPLACEMENT = "\ufffd"


def pattern_of(secret: str | bytes) -> str:
    """A regular expression for every form of ``secret``, which is not empty. A byte that is no
    UTF-8 stands there as Python escapes it (U+DC80 to U+DCFF)."""
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
    except UnicodeEncodeError:  # other halves of surrogates
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
    # Last: the letter itself may be how its other forms begin.
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
    """The names that HTML has for a letter, those with a semicolon first."""
    if letter.isascii() and letter.isalnum():
        return []
    from html.entities import html5  # a large table, for few keys

    names = [name for name, character in html5.items() if character == letter]
    return sorted(names, key=len, reverse=True)


def _as_bytes(pattern: str) -> bytes:
    """The pattern for bytes. Escaped bytes are themselves, other surrogates as UTF-8 has them."""
    return b"".join(
        part.encode(
            "utf-8", "surrogateescape" if "\udc80" <= part[0] <= "\udcff" else "surrogatepass"
        )
        for part in re.split("([\udc80-\udcff]+)", pattern)
        if part
    )


class SecretForms:
    """Finds the secrets in texts and bytes. Empty ones are not looked for."""

    def __init__(self, secrets: Iterable[str | bytes] = ()) -> None:
        found = {_bytes_of(secret) for secret in secrets}
        ordered = sorted(found - {b""}, key=len, reverse=True)
        pattern = "|".join(pattern_of(secret) for secret in ordered)
        self._text = re.compile(pattern) if pattern else None
        self._bytes = re.compile(_as_bytes(pattern)) if pattern else None

    def mask(self, text: str) -> str:
        """``text`` with ``MASK`` in the place of each form of each secret."""
        return text if self._text is None else self._text.sub(MASK, text)

    def mask_bytes(self, data: bytes) -> bytes:
        """The same for bytes, whose length stays: stars in the place of what was found."""
        if self._bytes is None:
            return data
        return self._bytes.sub(lambda found: b"*" * len(found[0]), data)
