"""``oda check`` as another user: what the agent's own user may read and write.

Only trying shows what a user may: modes, groups, access lists and mounts all count. So the check
gives up root's rights, in this process (``--user``) or in a child of it, and looks.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click

import oda
from oda.diagnosis.findings import Finding, Findings, Result

#: What only fits the user who typed the command.
_OF_A_SESSION = ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "RUNTIME_DIRECTORY")


class Account(NamedTuple):
    """A user of this machine, with all groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_account(name: str) -> Account:
    """The user of that name (or number). Raises ``LookupError``."""
    found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    groups = os.getgrouplist(found.pw_name, found.pw_gid)
    return Account(found.pw_name, found.pw_uid, found.pw_gid, tuple(groups), found.pw_dir)


def become(account: Account) -> None:
    """Go on as this user, for good. Raises ``OSError`` where the process is not root's."""
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    for name in _OF_A_SESSION:
        os.environ.pop(name, None)
    os.environ.update(HOME=account.home, USER=account.name, LOGNAME=account.name)


def take_user(name: str) -> Account:
    """The account for ``--user``; only root may name another user than itself."""
    try:
        account = find_account(name)
    except LookupError:
        raise click.ClickException(f"there is no user {name}: create the user first") from None
    if os.geteuid() not in (0, account.uid):
        raise click.ClickException("only root can do this for another user than itself: use sudo")
    return account


def go_to(directory: Path | None, findings: Findings) -> bool:
    """Work where the agent works, as relative paths start there. False, with a finding, where that
    is not possible."""
    if directory is None:
        return True
    try:
        os.chdir(directory)
    except FileNotFoundError:
        text = f"the service's working directory {directory} does not exist yet"
        findings.add("user", Result.WARNING, text, "start the service once: systemd makes it")
    except OSError as error:
        text = f"the service's working directory {directory} can't be used: {error.strerror}"
        findings.add("user", Result.FAILED, text, "chown it to the service's user")
    else:
        return True
    return False


def can_run(findings: Findings) -> bool:
    """Whether this user may run the agent that this process is; False with a finding."""
    for path in (sys.executable, os.path.abspath(oda.__file__)):
        if not os.access(path, os.R_OK, effective_ids=True):
            findings.add(
                "program",
                Result.FAILED,
                f"the user can't read {path}: the agent is installed where only others can read it",
                "install the agent in a directory that every user can read, such as /opt/oda",
            )
            return False
    return True


def look_as(account: Account, look: Callable[[Findings], None]) -> list[Finding]:
    """What ``look(findings)`` finds as that user, in a child process.

    The process must have no other threads, and no reactor yet. Where the child fails, that is the
    only finding.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_child(account, look, writing)
    os.close(writing)
    with open(reading, "rb") as stream:
        told = stream.read()
    os.waitpid(pid, 0)
    try:
        return [
            Finding(step=step, result=Result(result), text=text, advice=advice)
            for step, result, text, advice in json.loads(told)
        ]
    except ValueError:
        problem = "the check as this user ended without a result"
        return [Finding(step="user", result=Result.FAILED, text=problem)]


def _be_child(account: Account, look: Callable[[Findings], None], writing: int) -> Any:
    """The child's part; never returns, and never runs what the parent would do at its end."""
    with suppress(BaseException):
        findings = Findings()
        become(account)
        look(findings)
        told = [(one.step, one.result.value, one.text, one.advice) for one in findings.all]
        with open(writing, "wb") as stream:
            stream.write(json.dumps(told).encode())
    os._exit(0)
