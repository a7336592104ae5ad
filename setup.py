"""Build script: all metadata is in setup.cfg. It writes the time of the build into the package, and
clears what an earlier build has left."""

import os
import re
import shutil
import time
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Writes ``oda/built.py`` anew in what is built. ``SOURCE_DATE_EPOCH`` (seconds since 1970) is
    the time instead of the clock's where it is set, so that a build can be made again.

    setuptools puts everything that it finds in ``build/lib`` into the wheel. A module that was
    removed from the source since the last build would be installed for ever."""

    def run(self) -> None:
        if not self.editable_mode:
            for package in ("oda", "twisted"):
                shutil.rmtree(Path(self.build_lib, package), ignore_errors=True)
        super().run()
        if self.editable_mode:
            return  # the source itself is used
        built_ms = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time()) * 1000
        module = Path(self.build_lib, "oda", "built.py")
        line = re.compile(r"^(BUILT_MS: Final = )([0-9_]+)$", re.MULTILINE)
        text, count = line.subn(
            lambda found: f"{found[1]}{max(built_ms, int(found[2]))}", module.read_text()
        )
        if count != 1:
            raise RuntimeError(f"{module} does not name BUILT_MS once")
        module.unlink()  # it may be a link to the source
        module.write_text(text)


setup(cmdclass={"build_py": BuildPy})
