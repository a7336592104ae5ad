"""The checks of the pages can fail: each finds what it is there to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import shell
from tests.docs.codetexts import is_said
from tests.docs.pages import Block, Page, slug
from tests.docs.test_pages import exists, try_configuration


def run(text: str, language: str = "sh") -> None:
    """Check the commands of a block."""
    for command in shell.commands(Block(language, text, 1, "")):
        shell.check(command)


@pytest.mark.parametrize(
    "text",
    [
        "oda demo --every 2 --for 3\n",
        "oda send --conf conf a=1 | cat\n",
        "oda --help\n",
        "ODA_DEVICE_ID=d twistd -n --pidfile= oda-websocket --conf conf\n",
        "twistd -n oda-platform --key k &\n",
        "twistd --pidfile= -n -y greenhouse.py\n",
        "python3 -m venv .venv && .venv/bin/pip install '.[test]'\n",
        "curl -s -X PUT -d '{\"freeze\": true}' \\\n  http://127.0.0.1:9956/faults\n",
        "curl http://127.0.0.1:9100/metrics > metrics.txt\n",
        "sudo -u oda oda send a=1\n",
    ],
)
def test_right_commands(text: str) -> None:
    """None of them is found fault with."""
    run(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("oda dmeo\n", "no command 'dmeo'"),
        ("oda demo --evry 2\n", "No such option"),
        ("oda send --conf conf\n", "Missing argument"),
        ("true; twistd -n oda-websoket\n", "oda-websoket"),
        ("twistd -n oda-websocket --config conf\n", "config"),
        ("twistd -n oda-platform --port many\n", "Parameter type enforcement failed"),
        ("ODA_DEVICEID=d oda demo\n", "ODA_DEVICEID"),
        ("frobnicate now\n", "unknown program 'frobnicate'"),
        ("python -m oda.nothing\n", "no module oda.nothing"),
        ("pip install '.[tests]'\n", "no extra 'tests'"),
        ("pip install docs/example/plugin\n", "is no package"),
        ("curl http://127.0.0.1:9956/device\n", "no GET /device"),
        ("curl 'http://127.0.0.1:9956/devices/d/operations?limit=1&wat=1'\n", "wat"),
        ('curl http://127.0.0.1:9956/devices/d/operations -d \'{"nam": "X"}\'\n', "nam"),
        ("curl http://127.0.0.1:9100/metric\n", "no /metric"),
        ("echo 'open\n", "No closing quotation"),
    ],
)
def test_wrong_commands(text: str, problem: str) -> None:
    """Each is refused with its reason."""
    with pytest.raises(shell.WrongCommandError, match=problem):
        run(text.replace("true; ", "echo a; "))


def test_a_console_is_what_was_typed_only() -> None:
    """Lines without a prompt are output."""
    run("$ oda --version\nfrobnicate\n", "console")


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("es.amplia.oda.connector.websocket.cfg", "host=h\npath=/p\nport=1\n", ""),
        ("es.amplia.oda.connector.websocket.cfg", "secure=true\ncaFile=/etc/ca.pem\n", ""),
        ("es.amplia.oda.connector.websocket.cfg", "prot=1\n", "prot: unknown key"),
        ("es.amplia.oda.subsystem.poller.cfg", "a=60\n", ""),
        ("es.amplia.oda.subsystem.poller.cfg", "a=60 # s\n", "comments need their own line"),
        ("es.amplia.oda.subsystem.poller.cfg", "a=soon\n", "is not a schedule"),
    ],
)
def test_configurations(tmp_path: Path, file: str, text: str, problem: str) -> None:
    """Faults and warnings are found; what a piece leaves out is no fault."""
    found = try_configuration(tmp_path / "conf", file, text)
    assert (problem in found) if problem else not found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("connected to ws://h:1/p/d in 0.03 s", True),
        ("connected with ws://h:1/p/d in 0.03 s", False),
        ("no connection: the TCP connection broke; connecting again in 1.0 s", True),
        ("no connection: the cable was eaten; connecting again in 1.0 s", False),
        ("conf/es.amplia.oda.plugins.cfg:1: prot: unknown key, did you mean port?", True),
        ("conf/es.amplia.oda.plugins.cfg:1: prot: unknown key, buy a new one", False),
        ("Error: no agent is running with this configuration (nothing answers at /a)", True),
        ("Error: somebody else is running", False),
    ],
)
def test_log_lines(line: str, said: bool) -> None:
    """Only what the code may write, the reason within a line included."""
    assert is_said(line) is said


def test_pages_are_taken_apart(tmp_path: Path) -> None:
    """Blocks know their language, place and section; links in blocks are none."""
    file = tmp_path / "page.md"
    file.write_text(
        "# One `two`, three\n[a](b.md#c)\n```sh\n# [x](y)\nls\n```\n## Four\nfive\n```\nsix\n```\n"
    )
    page = Page(file)
    assert [(block.language, block.line, block.before.strip()) for block in page.blocks] == [
        ("sh", 3, "# One `two`, three\n[a](b.md#c)"),
        ("", 9, "## Four\nfive"),
    ]
    assert page.links == ["b.md#c"]
    assert page.anchors == {"one-two-three", "four"}
    assert slug("What `create` returns") == "what-create-returns"


def test_dotted_names() -> None:
    """Modules, and what is in them."""
    assert exists("oda.agent.Agent")
    assert exists("oda.platform.testing")
    assert not exists("oda.agent.Agentur")
    assert not exists("oda.nothing")
