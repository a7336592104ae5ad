"""The workflows of the forge: they parse, fit their schema, and name what exists."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
#: YAML 1.1 reads the key ``on`` as true.
ON: Any = True

files = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def read(file: Path) -> dict[Any, Any]:
    """The workflow."""
    document: dict[Any, Any] = yaml.safe_load(file.read_text())
    return document


def named(name: str) -> dict[Any, Any]:
    """The workflow of that name."""
    return read(ROOT / ".github/workflows" / name)


def commands(file: Path) -> list[str]:
    """All commands of all jobs."""
    steps = [step for job in read(file)["jobs"].values() for step in job.get("steps", [])]
    return [step["run"] for step in steps if "run" in step]


def test_they_fit_the_schema() -> None:
    """Each is what the forge understands, and no job can hang for hours."""
    assert len(FILES) == 3
    checker = [sys.executable, "-m", "check_jsonschema"]
    for schema in ("vendor.github-workflows", "custom.github-workflows-require-timeout"):
        done = subprocess.run(
            [*checker, "--builtin-schema", schema, *map(str, FILES)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@files
def test_they_name_what_exists(file: Path) -> None:
    """Other workflows, scripts, directories and jobs that a workflow names are there, and what one
    job downloads another one uploads."""
    workflow = read(file)
    for job in workflow["jobs"].values():
        if "uses" in job:
            assert (ROOT / job["uses"]).is_file()
        needs = job.get("needs", [])
        assert {needs} if isinstance(needs, str) else set(needs) <= workflow["jobs"].keys()
    for command in commands(file):
        for path in re.findall(r"(?<![\w./-])((?:\.ci|deploy|tests)/[\w./-]+)", command):
            assert (ROOT / path).exists(), path
    text = file.read_text()
    for step in re.findall(r"download-artifact@\S+\n\s+with:\n\s+name: (\S+)", text):
        assert f"name: {step}\n" in text


@files
def test_commands_are_good_shell(file: Path) -> None:
    """shellcheck finds nothing in the commands; the forge's expressions are words to the shell."""
    linter = Path(sys.executable).parent / "shellcheck"
    text = "\n".join(re.sub(r"\$\{\{.*?\}\}", "word", command) for command in commands(file))
    done = subprocess.run(
        [str(linter), "--shell=bash", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_every_supported_python_is_tested() -> None:
    """The versions that setup.cfg claims are those that the tests run on."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    claimed = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    assert claimed == ["3.11", "3.12", "3.13", "3.14"]
    for name, job in (("tests.yml", "test"), ("packages.yml", "try")):
        assert named(name)["jobs"][job]["strategy"]["matrix"]["python"] == claimed


def test_a_tag_releases_what_was_tested() -> None:
    """A release begins with a tag that is the version, and publishes only after tests and
    packages."""
    release = named("release.yml")
    assert release[ON] == {"push": {"tags": ["v*"]}}
    assert set(release["jobs"]["publish"]["needs"]) == {"tests", "packages"}
    for name in ("tests.yml", "packages.yml"):
        assert "workflow_call" in named(name)[ON]
    setup = (ROOT / "setup.cfg").read_text()
    (version,) = re.findall(r"^version = (\S+)$", setup, re.M)
    changelog = (ROOT / "deploy/debian/package/changelog").read_text()
    assert changelog.startswith(f"oda-websocket ({version}) ")
