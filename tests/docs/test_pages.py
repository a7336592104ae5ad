"""What the pages say is true: their commands, configurations, programs, links and quotations."""

from __future__ import annotations

import configparser
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import oda.interfaces
from oda.cli import main
from oda.config.components import COMPONENTS, FILES
from oda.config.loader import load
from oda.config.reference import render
from oda.errors import ConfigurationError
from oda.model import OperationRequest
from oda.operations.script_report import VARIABLE_PREFIX, script_variables
from tests.docs import shell
from tests.docs.codetexts import is_said
from tests.docs.pages import ROOT, Page, all_pages, examples

PAGES = all_pages()
EXAMPLES = examples()
COMMANDS = main.list_commands(click.Context(main))
SOURCES = "\n".join(file.read_text("utf-8") for file in sorted((ROOT / "oda").rglob("*.py")))
#: What the tests themselves can be told.
TEST_VARIABLES = {
    name
    for file in (ROOT / "tests").rglob("*.py")
    for name in re.findall(r"environ(?:\.get\(|\[)\"(ODA_\w+)\"", file.read_text("utf-8"))
}
NAMES_OF_OTHERS = {"verifyObject", "deferToThread"}
#: What a page leaves to its reader.
READERS_OWN = ["start_device"]
LANGUAGES = {
    *("python", "properties", "sh", "bash", "console", "json", "log"),
    *("text", "toml", "ini", "yaml", "dockerfile", "Dockerfile", ""),
}
CONNECTOR, DEVICE_INFO = FILES[0], FILES[1]
MINIMAL = {
    CONNECTOR: {"host": "localhost", "path": "/south/v80/sessions"},
    DEVICE_INFO: {"apiKey": "k"},
}
#: Files that a page names and that come with the system it describes.
_KEY_FILE = re.compile(r"^(caFile|certFile|keyFile|apiKeyFile)\s*=\s*(\S+)\s*$", re.M)

_FILE = re.compile(r"es\.amplia\.oda\.[\w.]+\.cfg")

pages = pytest.mark.parametrize("page", PAGES, ids=str)


def place(page: Page, line: int) -> str:
    """Where in the documentation, for an error."""
    return f"{page}:{line}"


@pages
def test_every_block_says_what_it_is(page: Page) -> None:
    """A language that no test here knows would not be checked."""
    assert [
        (place(page, b.line), b.language) for b in page.blocks if b.language not in LANGUAGES
    ] == []


@pages
def test_commands(page: Page) -> None:
    """Every command is one that the program's own parser accepts."""
    wrong = []
    for block in filter(shell.is_shell, page.blocks):
        if any(block.text in text for text in EXAMPLES):
            continue
        try:
            for command in shell.commands(block):
                shell.check(command)
        except shell.WrongCommandError as error:
            wrong.append(f"{place(page, block.line)}: {error}")
    assert wrong == []


@pages
def test_commands_in_the_text(page: Page) -> None:
    """A command that is only mentioned exists, too."""
    mentioned = {tuple(text.split()) for text in page.code}
    names = {words[1] for words in mentioned if words[0] == "oda" and len(words) > 1}
    assert [name for name in sorted(names) if name[0] != "-" and name not in COMMANDS] == []


@pages
def test_configurations(page: Page, tmp_path: Path) -> None:
    """Every piece of a configuration loads, without a fault or a warning, as a part of its file."""
    wrong = []
    for number, block in enumerate(page.of("properties")):
        named = re.match(r"#\s*(es\.amplia\.\S+\.cfg)\s*\n", block.text)
        found = [named[1]] if named else _FILE.findall(block.before)
        if not found:  # anything that some file may hold
            found = _FILE.findall(page.text) or list(FILES)
        candidates = list(dict.fromkeys(name for name in found if name in FILES))
        problems = [
            try_configuration(tmp_path / f"{number}-{name}", name, block.text)
            for name in candidates
        ]
        if "" not in problems:
            wrong.append((place(page, block.line), candidates, problems))
    assert wrong == []


def try_configuration(directory: Path, file: str, text: str) -> str:
    """What is wrong with ``text`` as the content of ``file``; "" when nothing is."""
    directory.mkdir()
    for name in _KEY_FILE.finditer(text):
        (directory / Path(name[2]).name).write_text("content")
    text = _KEY_FILE.sub(lambda found: f"{found[1]}={Path(found[2]).name}", text)
    for name, needed in MINIMAL.items():
        own = text if name == file else ""
        missing = [
            f"{key}={value}\n"
            for key, value in needed.items()
            if not re.search(rf"^({key}|{key}File)\s*=", own, re.M)
        ]
        (directory / name).write_text(own + "\n" + "".join(missing))
    if file not in MINIMAL:
        (directory / file).write_text(text)
    try:
        loaded = load(directory, {})
    except ConfigurationError as error:
        return str(error)
    warnings = [text for text in loaded.warnings if "skipVerify" not in text]
    # What can be read by everybody here is a matter of the test's own files.
    return "\n".join(text for text in warnings if "every user" not in text)


@pages
def test_documents(page: Page) -> None:
    """JSON, TOML and unit files can be read."""
    for block in page.of("json"):
        try:
            json.loads(block.text)
        except ValueError as error:
            pytest.fail(f"{place(page, block.line)}: {error}")
    for block in page.of("toml"):
        tomllib.loads(block.text)
    for block in page.of("ini"):
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read_string(block.text)


@pages
def test_links(page: Page) -> None:
    """Links within the project lead to a file and a heading that are there."""
    broken = []
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.path if not path else (page.path.parent / path).resolve()
        if (
            not target.exists()
            or not target.is_relative_to(ROOT)
            or (anchor and anchor not in Page(target).anchors)
        ):
            broken.append(link)
    assert broken == []


@pages
def test_what_the_log_says(page: Page) -> None:
    """Quoted log lines are such as the code writes."""
    quoted = [(b.line, line) for b in page.of("log") for line in b.text.splitlines() if line]
    quoted += [(0, text) for text in re.findall(r"\blog\s+(?:line|says):?\s+`([^`]+)`", page.prose)]
    for table in re.findall(r"^\| the log says \|.*\n\|[-|]+\n((?:\|.*\n)+)", page.prose, re.M):
        quoted += [(0, row.split("`")[1]) for row in table.splitlines()]
    assert [(place(page, line), text) for line, text in quoted if not is_said(text)] == []


@pages
def test_names(page: Page) -> None:
    """Modules, interfaces, files and environment variables that are named exist."""
    text = "\n".join([*page.code, *(block.text for block in page.of("python"))])
    missing = [
        name
        for name in set(re.findall(r"\bI[A-Z][a-z]\w+\b", "\n".join(page.code)))
        if not hasattr(oda.interfaces, name)
    ]
    for name in set(re.findall(r"(?<![\w./@-])oda(?:\.[A-Za-z_]\w*)+", text)):
        # Plugins are installed by their users.
        if not name.startswith("oda.plugins.") and not exists(name):
            missing.append(name)
    for name in set(
        re.findall(r"^(?:benchmarks|conf|deploy|docs|oda|tests)/\S*$", "\n".join(page.code), re.M)
    ):
        # "oda/plugins" is also a directory in a package of the reader's.
        if not (ROOT / name).exists() and not name.startswith("oda/plugins"):
            missing.append(name)
    variables = {key.variable for component in COMPONENTS for key in component.overridable()}
    variables |= shell.variables_of(shell.main) | TEST_VARIABLES
    asked = OperationRequest("1", "WATER", parameters={"litres": 5})
    variables |= {*script_variables(asked, "dev-1"), VARIABLE_PREFIX}
    for name in set(re.findall(r"\bODA_[A-Z][A-Z_]+\b", page.text)):
        if name not in variables:
            missing.append(name)
    for name in set(re.findall(r"^([a-z]+[A-Z]\w*)(?:=\S*)?$", "\n".join(page.code), re.M)):
        field = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        if name not in NAMES_OF_OTHERS and not re.search(rf"\b({name}|{field})\b", SOURCES):
            missing.append(name)
    if page.path.name not in ("migrating.md", "migrating-keys.md", "field.md"):
        for name in set(re.findall(r"\bes\.amplia\.oda\.[\w.]+?\.cfg\b", page.text)):
            if name not in {*FILES, *(one for each in COMPONENTS for one in each.variants)}:
                missing.append(name)
    assert missing == []


def exists(name: str) -> bool:
    """Whether a dotted name is a module of ours, or something in one."""
    module, *rest = name.split(".")
    found = importlib.import_module(module)
    for index, part in enumerate(rest):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join([module, *rest[: index + 1]]))
            except ImportError:
                return False
        found = getattr(found, part)
    return True


def test_the_pages_that_the_code_names() -> None:
    """``see docs/...`` in a docstring, a message or a default configuration leads somewhere."""
    files = [*(ROOT / "oda").rglob("*.py"), *(ROOT / "conf").iterdir()]
    named = {
        (str(file.relative_to(ROOT)), name)
        for file in files
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text("utf-8"))
    }
    assert [pair for pair in named if not (ROOT / pair[1]).is_file()] == []


def test_the_keys_of_the_readme() -> None:
    """Its table names keys that exist, in their files, with their defaults."""
    wrong = []
    sections = render().split("\n## ")
    for row in re.findall(
        r"^\| `(es\.amplia\S+)` \|(.*)\|$", (ROOT / "README.md").read_text(), re.M
    ):
        file, cells = row
        (section,) = [text for text in sections if text.startswith(f"`{file}`")]
        rows = dict(re.findall(r"^\| `([\w<>.]+)` \| (.*?) \|", section, re.M))
        for key, default in re.findall(r"`(\w+)`(?: \((\w+)[^)]*\))?", cells):
            if key not in rows or (default not in ("", "the") and rows[key] != f"`{default}`"):
                wrong.append((file, key, default))
    assert wrong == []


def test_programs(tmp_path: Path) -> None:
    """The Python of a page is an excerpt of an example, or a program that runs and whose names,
    types and calls fit the code."""
    programs = []
    for page in PAGES:
        blocks = [b for b in page.of("python") if not any(b.text in text for text in EXAMPLES)]
        if blocks:
            program = tmp_path / f"page_{page.path.stem.replace('-', '_').lower()}.py"
            program.write_text("\n\n".join(block.text for block in blocks))
            programs.append(program)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)}
    commands = [[str(program)] for program in programs]
    commands.append(
        [
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--no-cache",
            "--select",
            "F821",
            "--config",
            f"builtins={READERS_OWN}",
            ".",
        ]
    )
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
