"""The syntax of Java properties, line numbers, encodings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.config.properties import MAX_BYTES, Entry, read_properties


def entries(text: str | bytes) -> list[tuple[str, str, int]]:
    content = text.encode() if isinstance(text, str) else text
    found = read_properties("f.cfg", content)
    assert found.faults == ()
    return [(entry.key, entry.value, entry.line) for entry in found.entries]


def faults(text: str | bytes) -> list[tuple[int, str]]:
    content = text.encode() if isinstance(text, str) else text
    return [(fault.line, fault.key) for fault in read_properties("f.cfg", content).faults]


@pytest.mark.parametrize(
    "line",
    ["key=value", "key:value", "key value", "key = value", "  key\t:  value  ", "k\\u0065y=value"],
)
def test_every_separator_separates(line: str) -> None:
    """``=``, ``:`` and blanks all end the key, and blanks around them don't count."""
    assert entries(line) == [("key", "value", 1)]


def test_lines_are_counted_over_comments_blanks_and_continuations() -> None:
    """An entry's line is the physical line it begins in, whatever stands before it."""
    text = "# one\n! two\n\na=1\nb=2,\\\n   3,\\\n   4\n\nc=5\r\nd=6\re=7"
    assert entries(text) == [
        ("a", "1", 4),
        ("b", "2,3,4", 5),
        ("c", "5", 9),
        ("d", "6", 10),
        ("e", "7", 11),
    ]


def test_escapes_belong_to_the_text() -> None:
    """An escaped separator is part of the key; \\uXXXX and surrogate pairs are characters."""
    assert entries("a\\:b\\ c\\=d=x\\u00e9\\ud83d\\ude00\\\\") == [("a:b c=d", "xé😀\\", 1)]


def test_utf8_comes_first_then_latin_1() -> None:
    """UTF-8 is read as such, with or without byte order mark; other bytes as ISO-8859-1."""
    assert entries("name=España".encode()) == [("name", "España", 1)]
    assert entries(b"\xef\xbb\xbfname=a") == [("name", "a", 1)]
    assert entries("name=España".encode("latin-1")) == [("name", "España", 1)]


@pytest.mark.parametrize("content", ["a=1".encode("utf-16"), b"a=1\n" * (MAX_BYTES // 4 + 1)])
def test_what_is_no_configuration_file_is_one_fault(content: bytes) -> None:
    """UTF-16 and huge files are named as what they are."""
    found = read_properties("f.cfg", content)
    assert len(found.faults) == 1
    assert not found.entries
    assert not found.readable


def test_of_a_doubled_key_the_last_line_counts() -> None:
    """As in Java, whose files may rely on it; each line that was replaced is told."""
    found = read_properties("f.cfg", b"a=1\nb=2\n\\u0061=3\na 4\n")
    assert found.faults == ()
    assert found.entries == (Entry("b", "2", 2), Entry("a", "4", 4))
    assert found.repeated == ((Entry("a", "1", 1), 3), (Entry("a", "3", 3), 4))


def test_a_malformed_escape_hides_nothing_behind_it() -> None:
    """The fault names line and key, the lines behind it are read."""
    found = read_properties("f.cfg", b"a=1\nb=x\\u12G4\nc\\u=1\nd=\\uzzzz\nd=2\na=7")
    assert [(fault.line, fault.key) for fault in found.faults] == [
        (2, "b"),
        (3, "c\\u"),
        (4, "d"),
    ]
    assert [entry.key for entry in found.entries] == ["d", "a"]


def test_a_malformed_escape_does_not_show_its_value() -> None:
    """It may stand in the API key."""
    (fault,) = read_properties("f.cfg", b"apiKey=abc\\u12xy").faults
    assert "12" not in fault.problem


@pytest.mark.parametrize("text", ["a=x\0y", "a=x\\u0000y", "a=\\ud800", "\\ud800=1", "a\\nb=1"])
def test_what_is_no_text_is_a_fault(text: str) -> None:
    """Control characters and half surrogates can't be sent or logged."""
    assert [line for line, _ in faults(text)] == [1]


@pytest.mark.parametrize("separator", ["\x11", "\\u0007", "\x7f", "\\ud800"])
def test_a_damaged_separator_does_not_show_what_follows(separator: str) -> None:
    """The line may be that of the API key."""
    (fault,) = read_properties("f.cfg", f"apiKey{separator}canary".encode()).faults
    assert fault.key == "apiKey"
    assert "canary" not in str(fault)


def test_a_line_without_key_is_a_fault() -> None:
    """``=value`` names nothing."""
    assert faults("=value") == [(1, "")]


TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x10FFFF, exclude_categories=("Cs", "Cc"))
)


def render(text: str, key: bool, ascii_only: bool) -> str:
    shown = ""
    for index, character in enumerate(text):
        if (
            character == "\\"
            or (key and character in "=:# !\t")
            or (character == " " and not index)
        ):
            shown += "\\" + character
        elif ascii_only and ord(character) > 126:
            units = character.encode("utf-16-be")
            shown += "".join(
                f"\\u{units[i] * 256 + units[i + 1]:04x}" for i in range(0, len(units), 2)
            )
        else:
            shown += character
    return shown


@given(
    st.dictionaries(TEXT.filter(str.strip), TEXT.map(str.strip), max_size=8),
    st.sampled_from(["=", ":", " = ", "\t:"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
)
def test_what_is_written_is_read_back(
    values: dict[str, str], separator: str, newline: str, ascii_only: bool, comments: bool
) -> None:
    """Any keys and values, escaped by the rules, come back with their line numbers."""
    lines: list[str] = []
    expected = []
    for key, value in values.items():
        if comments:
            lines.append("# comment \\")
        expected.append((key, value, len(lines) + 1))
        lines.append(render(key, True, ascii_only) + separator + render(value, False, ascii_only))
    assert entries(newline.join(lines).encode()) == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_crashing(content: bytes) -> None:
    """Whatever a file contains, the outcome is entries and faults, each with a line of the file."""
    found = read_properties("f.cfg", content)
    last = content.count(b"\n") + content.count(b"\r") + 1
    assert all(0 <= fault.line <= last for fault in found.faults)
    assert all(1 <= entry.line <= last for entry in found.entries)
