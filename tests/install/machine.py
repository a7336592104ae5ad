"""A machine to install on: this one's files under an overlay, so that nothing of it changes.

Programs run in it as on a fresh installation: with Debian's own Python, a user database that may be
changed, and a list of processes that ends with the machine. The network is this machine's, so that
pip reaches its index and the agent the stand-in platform. Needs root and Linux's overlay file
system.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: What belongs to the user or to the virtual environment that runs the tests.
_LEFT_OUT = ("PYTHON", "PYENV", "VIRTUAL_ENV", "ODA_", "XDG_", "PYTEST", "HOME", "USER", "LOGNAME")
#: Makes the overlay on a file system of its own, as the upper layer may not lie in the lower one.
_BEGIN = """
set -e
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/changes" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
[ -n "$2" ] || mount -t tmpfs -o mode=1777 tmpfs "$1/root/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$1/root/run"
rm -rf "$1/root/etc/oda" "$1/root/opt/oda" "$1/root/var/lib/oda"
touch "$1/root/run/ready"
exec sleep infinity
"""


def why_impossible(programs: Iterable[str] = ()) -> str:
    """Why there can be no such machine here; "" where there can."""
    if os.geteuid() != 0:
        return "only root can mount an overlay: run the tests as root"
    for program in ("unshare", "nsenter", "chroot", "setpriv", *programs):
        if shutil.which(program, path=_PATH) is None:
            return f"there is no {program} on this machine"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "this kernel has no overlay file system"
    tried = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False)
    return "" if tried.returncode == 0 else "this container may not mount anything"


class Machine:
    """``root`` is its root directory, as this process reaches it. ``keep_tmp``: it begins with the
    files of this machine's /tmp, too."""

    def __init__(self, directory: Path, keep_tmp: bool = False) -> None:
        self._mount = directory
        apart = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        self._process = subprocess.Popen(
            ["unshare", *apart, "sh", "-c", _BEGIN, "begin", str(directory), "keep" * keep_tmp]
        )
        self._pid = self._wait_for_child()
        self.root = Path(f"/proc/{self._pid}/root{directory}/root")
        self._wait_until_ready()

    def _wait_for_child(self) -> int:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s:
            if found := children.read_text().split():
                return int(found[0])
            time.sleep(0.01)
        raise TimeoutError("unshare started nothing")

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + 20
        while not (self.root / "run/ready").exists():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError("the overlay could not be mounted")
            time.sleep(0.01)

    def command(
        self, words: list[str], user: str = "root", cwd: str = "/", **environ: str
    ) -> tuple[list[str], dict[str, str]]:
        """The command line, and its environment, that run ``words`` in the machine. They can't set
        the clock."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(_LEFT_OUT)}
        home = "/root" if user == "root" else f"/home/{user}"
        inside = ["env", "-C", cwd, "setpriv", "--bounding-set=-sys_time", "--inh-caps=-sys_time"]
        if user != "root":
            inside += [f"--reuid={user}", f"--regid={user}", "--init-groups"]
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid"]
        enter += ["chroot", f"{self._mount}/root"]
        own = {
            "PATH": _PATH,
            "HOME": home,
            "USER": user,
            "DEBIAN_FRONTEND": "noninteractive",
            **environ,
        }
        # What enters the machine is this machine's: it keeps its own PATH.
        variables = [f"{name}={value}" for name, value in own.items()]
        return [*enter, *inside, "--", "env", *variables, *words], {**kept, "PATH": _PATH}

    def run(
        self,
        script: str,
        user: str = "root",
        cwd: str = "/",
        timeout_s: float = 1200,
        check: bool = True,
        **environ: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a piece of shell to its end; with ``check`` it must succeed."""
        command, environment = self.command(
            ["bash", "-euo", "pipefail", "-c", script], user, cwd, **environ
        )
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done

    def open_up(self, *paths: str) -> str:
        """Let every user of the machine reach these paths; gives what is missing, else ""."""
        for path in paths:
            if not (self.root / path[1:]).exists():
                return f"{path} is on another file system than /"
            for parent in (Path(path), *Path(path).parents):
                place = self.root / str(parent)[1:]
                place.chmod(place.stat().st_mode | 0o005)
        return ""

    def start(
        self, words: list[str], log: Path, user: str = "root", cwd: str = "/", **environ: str
    ) -> subprocess.Popen[bytes]:
        """Start a program of the machine; it ends with the machine at the latest."""
        command, environment = self.command(words, user, cwd, **environ)
        with log.open("wb") as stream:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def close(self) -> None:
        """End every process of the machine, and forget its files."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
