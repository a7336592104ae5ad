"""The commands of the pages work side by side, in one directory of one machine."""

from __future__ import annotations

import re

import pytest

from tests.docs import shell
from tests.docs.pages import Page, all_pages

#: The ports of the stand-in platform and of the recording proxy, without options.
DEFAULT_PORTS = {"9955", "9956", "9957"}

pages = pytest.mark.parametrize("page", all_pages(), ids=str)


def words_of(page: Page) -> list[list[str]]:
    """Every command of the page's blocks, and those that its text mentions."""
    found = [
        [command.program, *command.arguments]
        for block in filter(shell.is_shell, page.blocks)
        for command in shell.commands(block)
    ]
    return found + [text.split() for text in page.code if text.startswith(("oda ", "twistd "))]


@pages
def test_no_process_in_the_foreground_writes_a_pid_file(page: Page) -> None:
    """Two of them in one directory: the second would end with "Another server is running"."""
    wrong = [
        " ".join(words)
        for words in words_of(page)
        if words[0] == "twistd"
        and "-n" in words
        and any(word.startswith("oda-") or word == "-y" for word in words)
        and not any(word.startswith("--pidfile") for word in words)
    ]
    assert wrong == []


@pages
def test_no_command_listens_where_another_one_does(page: Page) -> None:
    """A port that is given is not one that another command has without being given any."""
    wrong = [
        " ".join(words)
        for words in words_of(page)
        for port in re.findall(r"--(?:listen|port|http-port) (\d+)", " ".join(words))
        if words[0] == "oda" and port in DEFAULT_PORTS
    ]
    assert wrong == []


@pages
def test_no_two_recordings_go_to_one_file(page: Page) -> None:
    """The second would find that the file exists already."""
    files = [words[2] for words in words_of(page) if words[:2] == ["oda", "record"] and words[2:]]
    assert sorted(set(files)) == sorted(files)
