"""The simulation in the tests: a share of its seeds, and whether it can be believed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.simulation.campaign import failures, report, smallest
from tests.simulation.disk import FakeDisk, SqliteDisk
from tests.simulation.plan import make_plan
from tests.simulation.planted import FOUND_BY, PATCHES, fails, planted
from tests.simulation.world import run

ROOT = Path(__file__).resolve().parents[2]
#: How many seeds are run here; CI runs 2,000 (``.ci/run``).
SEEDS = int(os.environ.get("ODA_SIMULATION_SEEDS", "500"))

_DIGESTS = """
from hashlib import sha256
from tests.simulation.campaign import prepare
from tests.simulation.plan import make_plan
from tests.simulation.world import run

prepare()
for seed in range(40):
    print(sha256(run(make_plan(str(seed))).history.encode()).hexdigest())
"""


@pytest.mark.parametrize("seed", ["3", "5", "7"])
def test_a_seed_gives_one_history(seed: str) -> None:
    """The same seed gives the same history, byte for byte."""
    assert run(make_plan(seed)).history == run(make_plan(seed)).history


def test_a_history_does_not_depend_on_the_process() -> None:
    """Neither the order of hashes nor that of addresses has a say in a history. The allocator of
    ``malloc`` gives other addresses."""
    told = [
        subprocess.run(
            [sys.executable, "-c", _DIGESTS],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            check=True,
            timeout=120,
        ).stdout.split()
        for variables in (
            {"PYTHONHASHSEED": "1"},
            {"PYTHONHASHSEED": "2", "PYTHONMALLOC": "malloc"},
        )
    ]
    assert len(told[0]) == 40
    assert told[0] == told[1]


def test_the_promises_hold() -> None:
    """Whatever the network, the disk, the platform and the code of others do: what was accepted
    arrives unaltered and in order, every request gets its one answer, nothing is left over."""
    for seed, _ in failures(0, SEEDS, processes=2):
        pytest.fail(report(smallest(seed)))


@pytest.mark.parametrize("seed", [str(seed) for seed in range(20, 32)])
def test_the_fake_disk_agrees_with_sqlite(seed: str) -> None:
    """The same plan has the same history on the disk in memory and on SQLite with real files."""
    plan = make_plan(seed)
    steps = tuple(
        msgspec.structs.replace(step, arguments={**step.arguments, "damage": None})
        if step.kind == "crash"
        else step
        for step in plan.steps
        if step.kind != "strike"
    )
    plan = msgspec.structs.replace(plan, steps=steps)
    assert run(plan, FakeDisk).history == run(plan, SqliteDisk).history


@pytest.mark.parametrize(("fault", "seed"), FOUND_BY.items())
def test_a_known_fault_is_found(fault: str, seed: str) -> None:
    """A fault of the past, put back, is found by a seed that is clean without it. Each fault of
    the simulation's directory ``known`` has one. The search for such seeds is
    ``python -m tests.simulation known``."""
    assert fails(ROOT / f"tests/simulation/known/{fault}.patch", seed)
    assert not run(make_plan(seed)).violations


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_known_fault_can_be_planted(patch: Path) -> None:
    """Each patch still fits the source, so that the search looks for what it says, and has a seed
    that finds it."""
    assert patch.stem in FOUND_BY
    with planted(patch) as tree:
        assert any(
            (ROOT / path.relative_to(tree)).read_bytes() != path.read_bytes()
            for path in (tree / "oda/outbox").glob("*.py")
        )
