"""The first commands of README.md and docs/quick-start.md, typed by somebody new.

The user's clone is in a directory with a blank in its name; Python and pip are Debian's own.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.docs.pages import ROOT, Page
from tests.docs.shell import is_shell
from tests.install.machine import Machine
from tests.install.source import copy_source

USER = "walker"
CLONE = f"home/{USER}/my clone"


def clone(machine: Machine) -> None:
    """Give a new user a clone."""
    machine.run(f"useradd --create-home --shell /bin/bash {USER}")
    copy_source(machine.root / CLONE)
    machine.run(f"chown -R {USER}: '/{CLONE}'")


def blocks(page: str, heading: str) -> list[str]:
    """The commands below that heading."""
    found = Page(ROOT / page)
    start = found.text[: found.text.index(f"\n## {heading}\n")].count("\n") + 1
    end = found.text.find("\n## ", found.text.index(f"\n## {heading}\n") + 1)
    last = found.text[:end].count("\n")
    return [one.text for one in found.blocks if start < one.line <= last and is_shell(one)]


def test_the_readme(machine: Machine, tmp_path: Path) -> None:
    """The first command installs without a complaint of pip's and shows readings until Ctrl-C; the
    second installs what the tests need and runs them."""
    clone(machine)
    first, second = (text.strip() for text in blocks("README.md", "Run it"))
    log = tmp_path / "demo.log"
    demo = machine.start(["bash", "-c", first], log, user=USER, cwd=f"/{CLONE}")
    deadline_s = time.monotonic() + 600
    while "device.upTime" not in log.read_text():
        assert demo.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.1)
    machine.run("pkill -INT -f 'oda demo'")
    assert demo.wait(30) in (0, 130), log.read_text()
    for complaint in ("DEPRECATION", "WARNING: ", "ERROR", "Traceback"):
        assert complaint not in log.read_text()
    some = second.replace("-m pytest", "-m pytest tests/codecs/test_registry.py")
    assert some != second
    done = machine.run(some, user=USER, cwd=f"/{CLONE}", timeout_s=1200)
    assert "100%" in done.stdout


def test_the_quick_start(machine: Machine) -> None:
    """After the page's installation the agent, the platform and the tools are there."""
    clone(machine)
    (install,) = blocks("docs/quick-start.md", "Install")
    see = "twistd --help | grep oda-websocket; twistd --help | grep oda-platform; oda --help"
    done = machine.run(f"{install}\n{see}", user=USER, cwd=f"/{CLONE}")
    assert "DEPRECATION" not in done.stdout + done.stderr
