"""The container file: what a linter says of it, and its instructions on a machine of the tests.

There is no builder of images where the tests run, so the instructions are carried out one by one.
The base image's Python 3.12 is replaced by the machine's.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from oda.platform.testing import RunningPlatform
from tests.docs.pages import ROOT
from tests.e2e.processes import KEY, write_configuration
from tests.install.machine import Machine

FILE = ROOT / "deploy/container/Containerfile"


def instructions() -> list[tuple[str, str]]:
    """The instructions with their arguments; continued lines are joined, comments left out."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.M).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in text.splitlines() if line]


def copy_context(target: Path) -> None:
    """What the builder gets: the entries that ``.dockerignore`` names."""
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source = ROOT / line[1:]
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, target / line[1:])


def test_a_linter_finds_nothing() -> None:
    """hadolint finds nothing to improve."""
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([str(linter), str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_instructions(machine: Machine, platform: RunningPlatform, tmp_path: Path) -> None:
    """The image's agent, started as the image's user, connects with the configuration that is
    mounted and the id from the environment; the health check agrees."""
    machine.run("ln -sf /usr/bin/python3 /usr/local/bin/python")
    (machine.root / "src").mkdir()
    environ: dict[str, str] = {}
    user, entry, arguments, health = "root", [""], [""], ""
    for instruction, text in instructions():
        match instruction:
            case "COPY" if not text.startswith("--from"):
                assert text == ". /src"
                copy_context(machine.root / "src")
            case "RUN":
                machine.run(text, user=user)
            case "ENV":
                name, value = text.split("=", 1)
                environ[name] = value
            case "USER":
                # As the image's own table of users has it.
                user = machine.run(f"getent passwd {text} | cut -d: -f1").stdout.strip()
            case "ENTRYPOINT":
                entry = json.loads(text)
            case "CMD":
                arguments = json.loads(text)
            case "HEALTHCHECK":
                health = shlex.join(json.loads(text.split("CMD ", 1)[1]))
    assert user == "oda"
    path = environ["PATH"].replace("$PATH", "/usr/bin:/bin")
    conf = write_configuration(
        tmp_path / "conf", platform, "of-the-file", poller="device.upTime=1;1\n"
    )
    shutil.copytree(conf, machine.root / "etc/oda")
    log = tmp_path / "agent.log"
    variables = {"PATH": path, "ODA_DEVICE_ID": "container-1", "ODA_API_KEY": KEY}
    machine.start([*entry, *arguments], log, user=user, cwd="/var/lib/oda", **variables)
    platform.wait_for_device("container-1", 180)
    machine.run(health, user=user, cwd="/var/lib/oda", **variables)
