"""The short form of the campaign, and that it would notice."""

from __future__ import annotations

from pathlib import Path

import cbor2
import msgpack
import pytest

from tests.fuzz.campaign import find_fault, run
from tests.fuzz.live import LiveAgent
from tests.fuzz.memory import LEFT_MIB, MIB, PEAK_MIB, MemoryWatch
from tests.fuzz.mutation import LARGE_BYTES, Frame, make_frame
from tests.fuzz.oracle import Judgement, Verdict, judge

FRAMES = 2500
LARGE = Frame(b"{" + b" " * LARGE_BYTES + b"}", False, None)
REQUEST = {"operation": {"request": {"id": "a", "name": "REFRESH_INFO"}}}
EXTENDED = {"operation": {"request": {"x": msgpack.ExtType(1, b"x")}}}


def test_the_agent_survives_and_answers_once() -> None:
    """Always alive, one answer for each recognisable request, none for anything else, no exception
    in the log, and the memory does not grow with the frames."""
    report = run(seed=2024, numbers=range(FRAMES), measure_every=500)
    assert [str(complaint) for complaint in report.complaints] == []
    assert sum(report.verdicts.values()) == FRAMES
    assert report.verdicts["answer"] > FRAMES // 4
    assert report.verdicts["either"] < FRAMES // 10
    # Every kind of answer has come, so that the campaign is worth something. ERROR_PROCESSING is
    # rare: only SET of what refuses its value gives it.
    assert min(report.results[code] for code in ("SUCCESSFUL", "NOT_SUPPORTED")) > 50
    assert report.results["ERROR_IN_PARAM"] > 50
    assert report.results["ERROR_PROCESSING"] > 20
    assert report.times_clock_set > 0
    early, late = report.memory[1][1], report.memory[-1][1]
    assert late - early < LEFT_MIB * MIB
    assert report.expensive == []
    # The journal keeps every answer until it has ten thousand of them: a few objects for each.
    assert report.objects[-1][1] - report.objects[1][1] < 15 * FRAMES


def test_a_kind_of_frame_that_takes_too_much_is_named() -> None:
    """The campaign would notice: what one frame takes at once is bounded for each kind by itself,
    and what all leave together, by the figures that SECURITY.md names."""
    watch = MemoryWatch()
    for frame, taken_mib in ((LARGE, PEAK_MIB + 40), (LARGE._replace(is_text=True), 1)):
        watch.before(frame)
        assert len(bytearray(b"x") * taken_mib * MIB) > 0
        watch.after(frame)
    (line,) = watch.complaints()
    assert line.startswith("binary, JSON, large: ")
    page = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    assert f"takes at most {PEAK_MIB} MiB" in page
    assert f"at most {LEFT_MIB} MiB in the end" in page


def test_a_frame_can_be_made_again() -> None:
    """The seed and the number say everything, so that a failure can be replayed."""
    assert make_frame(5, 17) == make_frame(5, 17)
    assert len({make_frame(5, number) for number in range(50)}) > 45


@pytest.mark.parametrize(
    "payload",
    [
        b'  {"operation":{"request":{"id":"a","name":"REFRESH_INFO"}}}',
        cbor2.dumps(REQUEST),
        b"\xd9\xd9\xf7" + cbor2.dumps(REQUEST),
        b"\xbf" + cbor2.dumps(REQUEST)[1:] + b"\xff",
        msgpack.packb(REQUEST),
    ],
)
def test_the_oracle_knows_a_request_in_every_format(payload: bytes) -> None:
    """JSON, CBOR of both lengths and with its mark, MessagePack; the binary ones not as text."""
    assert judge(payload, is_text=False) == Judgement(Verdict.ANSWER, "a")
    if payload.lstrip()[:1] != b"{":
        assert judge(payload, is_text=True).verdict is Verdict.SILENCE


@pytest.mark.parametrize(
    ("payload", "verdict"),
    [
        (b"", Verdict.SILENCE),
        (b"{}", Verdict.SILENCE),
        (b'{"operation":{"request":[]}}', Verdict.SILENCE),
        (b'{"operation":{"request":{}}}', Verdict.ANSWER),
        (b'{"operation":{"request":{}}} x', Verdict.SILENCE),
        (b'{"operation":{"request":{"id":NaN}}}', Verdict.ANSWER),
        (b'{"operation":{"request":{"id":nan}}}', Verdict.SILENCE),
        (b'{"operation":{"request":{"id":1e999}}}', Verdict.ANSWER),
        (b'{"operation":{"request":{"id":"\\ud800"}}}', Verdict.ANSWER),
        (b'{"operation":{"request":{"id":"\xff"}}}', Verdict.ANSWER),
        (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", Verdict.EITHER),
        (cbor2.dumps(REQUEST)[:-1], Verdict.SILENCE),
        (cbor2.dumps(REQUEST) + b"\x00", Verdict.SILENCE),
        (cbor2.dumps({1: REQUEST}), Verdict.SILENCE),
        (cbor2.dumps({"operation": {"request": {"id": cbor2.undefined}}}), Verdict.ANSWER),
        (msgpack.packb(REQUEST)[:-1], Verdict.SILENCE),
        (
            msgpack.packb({"operation": {"request": {"x": msgpack.ExtType(1, b"x")}}}),
            Verdict.ANSWER,
        ),
        (b"\xdf\xff\xff\xff\xff", Verdict.SILENCE),
    ],
)
def test_the_oracle_on_what_is_no_request(payload: bytes, verdict: Verdict) -> None:
    """Malformed, truncated, prolonged: nothing is owed; unusual: nobody can say."""
    assert judge(payload, is_text=False).verdict is verdict


def test_a_wrong_number_of_answers_is_a_fault() -> None:
    """The campaign would notice silence, a second answer, an answer to nothing and a wrong id."""
    live = LiveAgent()
    frame = Frame(b'{"operation":{"request":{"id":"a","name":"REFRESH_INFO"}}}', True, None)
    try:
        owed = judge(frame.payload, frame.is_text)
        answers = live.exchange(frame, wants_answer=True)
        assert find_fault(frame, owed, answers, live) == ""
        assert "0 answers instead of 1" in find_fault(frame, owed, [], live)
        assert "2 answers instead of 1" in find_fault(frame, owed, answers * 2, live)
        nothing = Judgement(Verdict.SILENCE)
        assert "1 answers instead of 0" in find_fault(frame, nothing, answers, live)
        other = Judgement(Verdict.ANSWER, "b")
        assert "instead of 'b'" in find_fault(frame, other, answers, live)
    finally:
        live.close()
