"""docs/migrating.md and docs/migrating-keys.md say nothing that no test proves: this module names
each row of their tables and each item of their lists, with its tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from oda.diagnosis.differences import DIFFERENCES
from tests.docs.pages import ROOT, Page

PROSE = "\n".join(
    Page(ROOT / "docs" / name).prose for name in ("migrating.md", "migrating-keys.md")
)

_EXISTING = "config/test_existing_deployments.py::"
_LOADER = "config/test_loader.py::"
_MIGRATION = "diagnosis/test_migration.py::"

#: By section, what begins a row or an item, and the tests that prove what it says.
PROOFS: dict[str, dict[str, tuple[str, ...]]] = {
    "What replaces what": {
        "OSGi bundles": ("e2e/test_agent.py::test_twistd_knows_both_plugins",),
        "connector.websocket": (_EXISTING + "test_a_deployment_loads_unchanged",),
        "datastreams.deviceinfo": (_EXISTING + "test_script_lines_with_and_without_types",),
        "dispatcher.opengate": (_EXISTING + "test_a_deployment_loads_unchanged",),
        "subsystem.poller": (_LOADER + "test_schedule_lines",),
        "statemanager.inmemory": (
            _LOADER + "test_the_presence_of_its_file_chooses_the_state_manager",
        ),
        "connectors for MQTT": (_EXISTING + "test_a_deployment_with_other_components",),
        "datastreams of Modbus": (
            "e2e/test_field.py::test_a_modbus_device_at_the_platform",
            "plugins/test_snmp.py::test_every_version_reads",
            "plugins/test_mqtt.py::test_messages_become_events",
        ),
        "datastreams of GPIO": (
            "e2e/test_plugin.py::test_what_it_adds_works",
            "e2e/test_agent.py::test_oda_send_publishes_through_the_running_agent",
        ),
        "rule engine": (_MIGRATION + "test_every_component_has_a_reason",),
        "bundles of your own": ("e2e/test_plugin.py::test_what_it_adds_works",),
        "Logback's": ("config/test_monitor_file.py::test_every_key_is_read",),
    },
    "es.amplia.oda.connector.websocket.cfg": {
        "host": ("wire/test_address.py::test_ipv6_host",),
        "port": (_EXISTING + "test_the_port_is_not_another_one_with_tls",),
        "path": (
            "wire/test_address.py::test_path_arrives",
            _LOADER + "test_both_names_of_the_path_are_understood",
            _EXISTING + "test_empty_values_that_existing_files_have",
        ),
        "connectionTimeout": (
            "wire/test_timeout.py::test_the_stages_share_one_limit",
            _EXISTING + "test_zero_seconds_are_a_warning",
        ),
        "keepAliveInterval": (
            "wire/test_keepalive.py::test_a_dead_connection_is_noticed",
            _EXISTING + "test_zero_seconds_are_a_warning",
        ),
        "The API key travels": (
            "wire/test_address.py::test_key_arrives_in_the_header",
            "wire/test_address.py::test_key_arrives_in_the_query",
        ),
        "Device ids are percent-encoded": ("wire/test_address.py::test_device_id_arrives",),
        "JSON goes out": ("wire/test_delivery.py::test_json_frames_follow_the_setting",),
        "Operations are accepted": ("wire/test_connection.py::test_operation_is_answered",),
    },
    "es.amplia.oda.datastreams.deviceinfo.cfg": {
        "deviceId": (
            "datastreams/test_host.py::test_the_serial_number_as_id",
            "datastreams/test_host.py::test_the_script_of_the_serial_number",
            "datastreams/test_host.py::test_the_usual_script_of_the_serial_number",
        ),
        "apiKey": (
            _EXISTING + "test_an_old_device_info_file",
            _LOADER + "test_the_key_comes_from_a_file",
            _LOADER + "test_variables_override_files",
        ),
        "source": (_MIGRATION + "test_scripts_are_found_or_the_reason_is_told",),
        "path": ("datastreams/test_script_command.py::test_in_the_scripts_directory",),
        "serialNumberCommand": (_EXISTING + "test_an_old_device_info_file",),
        "es.amplia.oda.datastreams.deviceinfofx30.cfg": (
            _EXISTING + "test_the_identity_in_the_file_of_a_board",
            _EXISTING + "test_two_files_of_the_identity_are_a_fault_that_names_both",
        ),
        "The datastreams of": ("datastreams/test_host.py::test_a_script_replaces_the_built_in",),
        "<datastream>=<script>;<type>": (
            "datastreams/test_script_output.py::test_values",
            "datastreams/test_scripts.py::test_a_value_counts_whatever_the_status_is",
            "datastreams/test_scripts.py::test_the_time_limit",
            "datastreams/test_scripts.py::test_the_output_limit",
            _MIGRATION + "test_a_command_for_a_shell_is_told",
        ),
    },
    "es.amplia.oda.dispatcher.opengate.cfg": {
        "reducedOutput": (
            _EXISTING + "test_comments_behind_values_as_the_documentation_of_oda_shows_them",
            "wire/test_delivery.py::test_the_reduced_form_goes_out_only_fresh",
        ),
        "eventContentType": (_LOADER + "test_values_are_typed",),
        "operationTimeout": (
            "operations/test_execution.py::test_the_time_limit_cancels_and_answers",
        ),
        "<datastream>[;<device>]=[<first>;]<period>": (
            _LOADER + "test_schedule_lines",
            "telemetry/test_dispatcher.py::test_a_line_collects_its_events",
            "telemetry/test_dispatcher.py::test_a_line_with_period_0_collects_once",
        ),
    },
    "es.amplia.oda.operation.setclock.cfg": {
        "clockDatastream": (
            _EXISTING + "test_the_clock_operations_have_files_of_their_own",
            "security/test_clock.py::test_a_clock_of_a_plugin_needs_no_permission",
        ),
    },
    "es.amplia.oda.subsystem.poller.cfg": {
        "A device pattern": (
            "test_device_patterns.py::test_which_devices_a_pattern_names",
            _LOADER + "test_wrong_schedule_lines",
        ),
        "Periods don't drift": ("telemetry/test_schedules.py::test_it_does_not_drift",),
        "A reading that takes": (
            "telemetry/test_schedules.py::test_a_slow_action_is_not_begun_twice",
        ),
        "A reading that fails": (
            "telemetry/test_schedules.py::test_a_failing_action_does_not_stop_the_others",
        ),
    },
    "es.amplia.oda.statemanager.inmemory.cfg": {
        "databasePath": (
            _MIGRATION + "test_the_database_of_kept_values",
            "telemetry/test_place.py::test_what_another_program_has_there_stays_as_it_is",
        ),
        "GET_DEVICE_PARAMETERS": (
            "telemetry/test_inmemory.py::test_get_reads_the_source",
            "telemetry/test_inmemory.py::test_get_answers_from_what_is_kept_of_what_nobody_reads",
            "telemetry/test_requests.py::"
            "test_what_a_request_reads_does_not_wait_for_the_dispatchers_line",
        ),
        "maxData": (
            "telemetry/test_history.py::test_only_max_data_values_are_kept_of_each_place",
            "telemetry/test_history.py::test_old_values_are_forgotten",
            "telemetry/test_inmemory.py::test_old_values_are_forgotten_in_time",
        ),
        "numProcessingThreads": (_EXISTING + "test_keys_without_a_meaning_here_are_noted",),
    },
    "Relative paths": {
        "Those of ODA's": (
            "datastreams/test_script_command.py::test_relative_to_the_working_directory",
            _EXISTING + "test_paths_of_existing_files_stay_as_written",
            _MIGRATION + "test_the_root_and_its_configuration_directory_are_the_same_installation",
        ),
        "A script's plain": ("datastreams/test_script_command.py::test_a_program_of_the_system",),
        "Those of new": (_LOADER + "test_relative_files_start_at_the_configuration_directory",),
    },
    "Stricter": {
        "an unknown key": (
            _EXISTING + "test_what_has_no_clear_meaning_is_a_fault_that_says_what_to_change",
        ),
        "path and generalPath": (
            _EXISTING + "test_two_spellings_of_a_key_that_contradict_each_other",
        ),
        "an empty value": (
            _EXISTING + "test_what_has_no_clear_meaning_is_a_fault_that_says_what_to_change",
        ),
        "${name}": (_MIGRATION + "test_a_placeholder_is_told",),
        "secure=yes": (_LOADER + "test_a_wrong_line_is_named_with_what_is_allowed",),
        "a schedule with": (
            _LOADER + "test_wrong_schedule_lines",
            _LOADER + "test_wrong_script_lines",
        ),
    },
    "Existing lines": {
        "a key that": (_EXISTING + "test_of_lines_that_stand_twice_the_last_counts",),
        "any other unknown": (_EXISTING + "test_a_key_of_another_version_is_read_past",),
        "a comment behind": (
            _EXISTING + "test_comments_behind_values_as_the_documentation_of_oda_shows_them",
        ),
        "keepAliveInterval=0 and": (
            _EXISTING + "test_zero_seconds_are_a_warning",
            _EXISTING + "test_a_deployment_loads_unchanged",
        ),
        "a script line": (_EXISTING + "test_a_script_line_without_a_script_is_no_line",),
    },
    "Operation by operation": {
        "REFRESH_INFO": (
            "operations/test_vectors.py::test_recorded_request_gets_recorded_answer",
            "operations/test_vectors.py::test_list_dialect_gets_the_same_answer",
        ),
        "SET_CLOCK_EQUIPMENT": (
            "operations/test_operations.py::test_set_clock_takes_its_members_flat_or_wrapped",
            "operations/test_vectors.py::test_clock_operations_in_every_form",
        ),
        "SYNCHRONIZE_CLOCK": (
            "operations/test_operations.py::test_synchronize_prefers_the_source_of_the_request",
            "operations/test_operations.py::test_without_a_time_source_the_time_of_the_host_counts",
            "operations/test_vectors.py::test_clock_operations_in_every_form",
        ),
        "both clock operations": (
            "security/test_clock.py::test_the_platform_sets_the_clock_without_permission",
            "security/test_clock.py::test_a_clock_of_a_plugin_needs_no_permission",
        ),
        "DISCOVER": ("operations/test_discover.py::test_without_a_device_it_tells_of_all",),
        "REBOOT_EQUIPMENT and": (
            "e2e/test_managed.py::test_a_restart_of_the_agent_is_answered_by_the_next_process",
            "operations/test_discover.py::"
            "test_the_catalogue_is_refused_with_the_key_that_would_allow_it",
        ),
        "UPDATE": (
            "update/test_run.py::test_it_is_off_without_the_keys",
            "update/test_settings.py::test_a_file_of_the_reference_agent",
        ),
        "others": ("operations/test_vectors.py::test_recorded_request_gets_recorded_answer",),
        "operations of your": ("e2e/test_plugin.py::test_what_it_adds_works",),
    },
    "What behaves differently": {
        "the connection is": ("wire/test_recovery.py::test_every_end_of_a_connection",),
        "data while there": ("wire/test_delivery.py::test_messages_wait_for_the_connection",),
        "malformed requests": (
            "operations/test_answers_to_bad_requests.py::"
            "test_wrong_request_is_refused_naming_what_is_wrong",
            "operations/test_unreadable_requests.py::"
            "test_every_request_gets_exactly_one_answer_that_can_be_decoded",
            "operations/test_operations.py::test_get_tells_why_a_datastream_could_not_be_read",
            "datastreams/test_reading.py::test_an_unexpected_exception_is_logged_once_per_change",
        ),
        "a parameter that": (
            "operations/test_operations.py::test_an_operation_that_acts_ignores_no_parameter",
        ),
        "an operation whose": (
            "operations/test_routes.py::"
            "test_without_a_route_the_gateway_is_named_and_nothing_is_executed",
            "operations/test_routes.py::test_a_route_hands_down_and_its_answer_comes_up",
        ),
        "a request that": (
            "operations/test_execution.py::"
            "test_a_repeated_request_gets_its_answer_again_and_is_not_run_again",
            "operations/test_vectors.py::test_all_vectors_on_one_agent",
        ),
        "a reading that": ("datastreams/test_reading.py::test_the_time_limit_holds",),
        "CBOR": ("telemetry/test_documents.py::test_recorded_messages",),
    },
}
#: Sections without claims about what the agent does.
WITHOUT_CLAIMS = {"From the Java ODA", "From the Java ODA: key by key", "Moving a device"}

#: The first lines of tables that have one.
_HEADS = {"| ODA | here |", "| key | |", "| operation | |", "| | ODA | here |"}


def claims() -> Iterator[tuple[str, str]]:
    """Every row and every item of the pages: the section, and the text without its marks."""
    section = ""
    for line in PROSE.splitlines():
        if line.startswith("#"):
            code = re.search(r"`([^`]+)`", line)
            section = code[1] if code else line.lstrip("# ")
        elif line.startswith("| ") and line not in _HEADS:
            yield section, line.strip("| ").replace("`", "").removeprefix("es.amplia.oda.")
        elif line.startswith("- "):
            yield section, line[2:].replace("`", "")


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
    }


def proof_of(section: str, text: str) -> tuple[str, ...]:
    found = [tests for begin, tests in PROOFS.get(section, {}).items() if text.startswith(begin)]
    return max(found, key=len, default=())


CLAIMS = list(claims())


@pytest.mark.parametrize(("section", "text"), CLAIMS, ids=[text[:30] for _, text in CLAIMS])
def test_every_claim_names_the_test_that_proves_it(section: str, text: str) -> None:
    """A row or an item without a test could be wrong unnoticed."""
    assert section in WITHOUT_CLAIMS or proof_of(section, text), f"{section}: {text}"


def test_no_proof_is_left_of_a_claim_that_is_gone() -> None:
    """The table follows the page."""
    left = [
        (section, begin)
        for section, rows in PROOFS.items()
        for begin in rows
        if not any(where == section and text.startswith(begin) for where, text in CLAIMS)
    ]
    assert left == []


@pytest.mark.parametrize(
    "name", sorted({test for rows in PROOFS.values() for tests in rows.values() for test in tests})
)
def test_every_proof_exists(name: str) -> None:
    """The file has that test."""
    file, _, test = name.partition("::")
    assert test in names_in(file)


def test_the_page_and_the_command_know_the_same_keys() -> None:
    """What ``oda check --migrate`` says key by key has its row on the page."""
    headings = [line for line in PROSE.splitlines() if line.startswith("### ")]
    for file, keys in DIFFERENCES.items():
        (heading,) = [line for line in headings if f"`{file}`" in line]
        section = heading.split("`")[1]
        rows = [text.partition(" | ")[0] for where, text in CLAIMS if where == section]
        for key in keys:
            assert any(key in row for row in rows), (file, key)
