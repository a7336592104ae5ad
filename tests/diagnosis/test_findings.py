"""What a check says, and what makes it fail."""

from __future__ import annotations

from oda.diagnosis.findings import Finding, Findings, Result, document, render_finding


def test_only_a_failure_makes_the_check_fail() -> None:
    """A warning, or a step left out, does not."""
    findings = Findings()
    for result in (Result.OK, Result.WARNING, Result.SKIPPED):
        findings.add("a", result, "text")
        assert not findings.has_failed
    findings.add("a", Result.FAILED, "text")
    assert findings.has_failed


def test_each_finding_is_told_as_it_comes() -> None:
    """Somebody who waits sees how far it has come."""
    told: list[Finding] = []
    findings = Findings(told.append)
    findings.add("tcp", Result.OK, "there", address="192.0.2.1")
    assert told == findings.all
    assert document(told[0]) == {
        "check": "tcp",
        "result": "ok",
        "text": "there",
        "address": "192.0.2.1",
    }


def test_a_failure_stands_out_with_its_advice_below() -> None:
    """FAILED in capitals, what to do in a line of its own, further lines aligned."""
    finding = Finding(step="tls", result=Result.FAILED, text="one\ntwo", advice="do this")
    lines = render_finding(finding, "tls").splitlines()
    assert lines[0].split() == ["tls", "FAILED", "one"]
    assert lines[1].strip() == "two"
    assert lines[1].index("two") == lines[0].index("one")
    assert lines[2].strip() == "-> do this"
    assert document(finding)["advice"] == "do this"
