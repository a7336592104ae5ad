"""The rules of the house: who imports whom, and what a pure module may not touch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "oda"
CONTRACTS = {
    "oda.model",
    "oda.errors",
    "oda.settings",
    "oda.interfaces",
    "oda.boundary",
    "oda.wording",
    "oda.log",
    "oda.timestamps",
    "oda.troubles",
}
PACKAGES = {
    "codecs",
    "config",
    "connector",
    "control",
    "datastreams",
    "diagnosis",
    "logs",
    "monitor",
    "operations",
    "outbox",
    "platform",
    "telemetry",
    "update",
}
#: What a package may import besides the contracts and itself.
EXTRA = {
    "platform": {
        *("codecs", "monotonic", "peer_bounds", "private_files", "secret_forms", "verification"),
        "logs",  # both processes write their log alike
    },
    "control": {"private_files"},
    "outbox": {"private_files"},
    "connector": {"deferreds", "peer_bounds", "secret_forms", "verification"},
    "datastreams": {"built", "slices", "verification"},
    "logs": {"secret_forms"},
    "operations": {"deferreds"},
    "telemetry": {"deferreds", "private_files", "slices"},
    "extensions.py": {"plugins"},
    "field.py": {"threads"},
    "plugins": {"field", "threads"},
    "last_resort.py": {"threads"},
    # It goes the connector's way, and shows what the tables of the configuration hold.
    "diagnosis": {"config", "connector", "private_files", "verification"},
    # It goes the connector's way, and judges a configuration as the loader does.
    "update": {"config", "connector", "peer_bounds", "private_files", "verification"},
}
#: The only modules that may know several packages.
SHELLS = {
    "agent.py",
    "assembly.py",
    "reload.py",
    "supervision.py",
    "upkeep.py",
    "local_control.py",
    "process.py",
    "tap.py",
    "cli.py",
    "commands",
}


def modules() -> Iterator[Path]:
    return (path for path in sorted(ROOT.rglob("*.py")) if "__pycache__" not in path.parts)


def imports(path: Path) -> set[str]:
    """Every ``oda`` module that ``path`` imports, also inside functions."""
    package = ["oda", *path.relative_to(ROOT).parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            found.add(module)
            if module == "oda":
                found.update(f"oda.{alias.name}" for alias in node.names)
    return {name for name in found if name.split(".")[0] == "oda" and name != "oda"}


def package_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("path", list(modules()), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_house_rules(path: Path) -> None:
    """Contracts know only contracts; a package knows the contracts and itself, no other package."""
    top = path.relative_to(ROOT).parts[0]
    if top in SHELLS:
        return
    wanted = imports(path)
    if f"oda.{path.stem}" in CONTRACTS and path.parent == ROOT:
        assert wanted <= CONTRACTS
        return
    allowed = {top} | EXTRA.get(top, set())
    strangers = {
        name for name in wanted if name not in CONTRACTS and package_of(name) not in allowed
    }
    assert not strangers, f"{path} imports {sorted(strangers)}"


def test_every_package_is_covered() -> None:
    """A new package has to be named here, with what it may know."""
    packages = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert packages <= PACKAGES | {"commands", "plugins"}


@pytest.mark.parametrize("path", list(modules()), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_installs_the_reactor_by_being_imported(path: Path) -> None:
    """The reactor is passed in: importing a module must not choose one."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet":
            assert "reactor" not in {alias.name for alias in node.names}, path


@pytest.mark.parametrize("path", list(modules()), ids=lambda p: str(p.relative_to(ROOT)))
def test_time_and_chance_are_passed_in(path: Path) -> None:
    """No logic asks the wall clock or the random module by itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            assert called not in {"time.time", "random.random", "random.uniform"}, (
                f"{path}:{node.lineno} calls {called}()"
            )
