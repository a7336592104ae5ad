"""docs/examples/plugin, built and installed as its users would do it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oda.platform.testing import RunningPlatform
from tests.e2e.processes import AgentProcess, environment, write, write_configuration

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/plugin"
OPTIONS = "thermostat.period=0.2\nthermostat.min=5\nthermostat.max=25\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the module search path, with the example in it as pip installs it."""
    work = tmp_path_factory.mktemp("plugin")
    # pip leaves its traces beside what it builds: not in the repository.
    shutil.copytree(EXAMPLE, work / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*pip, *offline, "--target", str(work / "site"), str(work / "source")],
        cwd=work,
        env=environment(),
        check=True,
    )
    return work / "site"


def test_the_package_brings_no_init_of_ours(site: Path) -> None:
    """``oda`` and ``oda/plugins`` belong to the agent: an ``__init__.py`` there would hide it."""
    assert (site / "oda/plugins/thermostat.py").is_file()
    assert not list((site / "oda").rglob("__init__.py"))


def test_what_it_adds_works(site: Path, platform: RunningPlatform, tmp_path: Path) -> None:
    """The reading arrives, the setter writes, and the operation answers, in parts and at the
    end."""
    conf = write_configuration(tmp_path / "conf", platform)
    write(conf, "plugins", f"plugins=thermostat\n{OPTIONS}")
    with AgentProcess(conf, PYTHONPATH=str(site)) as agent:
        platform.wait_for_device("dev-1")
        platform.wait_for_datapoints("dev-1", "heating.temperature", 2)
        answer = platform.send_operation("dev-1", "WARM_UP", {"target": 20}, timeout_s=30)
        assert answer["resultCode"] == "SUCCESSFUL"
        assert answer["resultDescription"] == "The room has 20.0 degrees."
        assert [step["name"] for step in answer["steps"]] == ["19 degrees", "20 degrees"]
        partials = platform.operations("dev-1")[0].partials
        assert [len(partial["steps"]) for partial in partials] == [1, 2]
        answer = platform.send_operation("dev-1", "WARM_UP", {"target": 40})
        assert answer["resultCode"] == "ERROR_IN_PARAM"
        assert answer["resultDescription"] == "target: must be from 5 to 25"
        variables = [{"name": "heating.target", "value": value} for value in (17.5, "warm")]
        answer = platform.send_operation(
            "dev-1", "SET_DEVICE_PARAMETERS", {"variableList": variables}
        )
        assert [
            (entry["resultCode"], entry["resultDescription"])
            for entry in answer["steps"][0]["response"]
        ] == [("SUCCESS", "SUCCESS"), ("ERROR", "Error processing: must be a number")]
        answer = platform.send_operation(
            "dev-1", "GET_DEVICE_PARAMETERS", {"variableList": ["heating.target"]}
        )
        assert answer["steps"][0]["response"][0]["variableValue"] == 17.5
        agent.stop()
    assert "plugin thermostat loaded" in agent.text()
    assert "Traceback" not in agent.text()


def test_it_is_loaded_while_the_agent_runs(
    site: Path, platform: RunningPlatform, tmp_path: Path
) -> None:
    """A line in the configuration is enough; the connection stays."""
    conf = write_configuration(tmp_path / "conf", platform)
    with AgentProcess(conf, PYTHONPATH=str(site)) as agent:
        platform.wait_for_device("dev-1")
        write(conf, "plugins", f"plugins=thermostat\n{OPTIONS}")
        platform.wait_for_datapoints("dev-1", "heating.temperature", 1, timeout_s=30)
        assert len(platform.connections("dev-1")) == 1
        agent.stop()


@pytest.mark.parametrize(
    ("plugins", "reason"),
    [
        (
            "plugins=termostat\n",
            "plugin 'termostat' is not installed (installed: modbus, mqtt, snmp, thermostat)",
        ),
        (
            "plugins=thermostat\nthermostat.period=often\n",
            "plugin 'thermostat' can't be created: the option 'period' must be a number, not"
            " 'often'",
        ),
        (
            "plugins=thermostat\nthermostat.perod=5\n",
            "plugin 'thermostat' can't be created: unknown option 'perod'; there are period, min,"
            " max",
        ),
    ],
    ids=["missing", "wrong option", "unknown option"],
)
def test_what_keeps_the_agent_from_starting(
    site: Path, platform: RunningPlatform, tmp_path: Path, plugins: str, reason: str
) -> None:
    """A plugin that is missing or refuses its options is a start-up error, in one line."""
    conf = write_configuration(tmp_path / "conf", platform)
    write(conf, "plugins", plugins)
    with AgentProcess(conf, PYTHONPATH=str(site)) as agent:
        assert agent.wait() == 1
    assert reason in agent.text()
    assert "Traceback" not in agent.text()


def test_a_doubled_name_keeps_the_agent_from_starting(
    site: Path, platform: RunningPlatform, tmp_path: Path
) -> None:
    """Two installed plugins of one name: the agent doesn't choose; it names both modules."""
    second = tmp_path / "second/oda/plugins"
    second.mkdir(parents=True)
    shutil.copy(EXAMPLE / "oda/plugins/thermostat.py", second / "another_thermostat.py")
    conf = write_configuration(tmp_path / "conf", platform)
    write(conf, "plugins", "plugins=thermostat\n")
    with AgentProcess(conf, PYTHONPATH=f"{site}:{tmp_path / 'second'}") as agent:
        assert agent.wait() == 1
    assert (
        "plugin 'thermostat' is installed more than once: oda.plugins.another_thermostat,"
        " oda.plugins.thermostat" in agent.text()
    )
