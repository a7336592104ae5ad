"""The dispatcher alone against the oracle: many more frames than a whole agent gets."""

from __future__ import annotations

from oda.model import ContentType
from tests.fuzz.mutation import make_frame
from tests.fuzz.oracle import Verdict, judge
from tests.operations.fakes import Bench, custom_operations

FRAMES = 6000


def is_utf8(payload: bytes) -> bool:
    """Whether it may come in a text frame."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_each_frame_gets_the_answer_that_it_is_owed() -> None:
    """One answer, with its id, for each recognisable request, whatever its members are; none for
    anything else."""
    bench = Bench(*custom_operations())
    owed = 0
    for number in range(FRAMES):
        frame = make_frame(7, number)
        judgement = judge(frame.payload, frame.is_text)
        content_type = bench.codecs.detect(frame.payload)
        if frame.is_text and content_type is not ContentType.JSON:
            content_type = None
        answers = bench.send_bytes(frame.payload, content_type)
        if judgement.verdict is Verdict.EITHER or (frame.is_text and not is_utf8(frame.payload)):
            continue  # a text frame that is no text ends the connection before the dispatcher
        # A repeated request that still runs has none; nothing here runs on.
        assert (answers != [None]) == (judgement.verdict is Verdict.ANSWER), (number, frame)
        if answers != [None]:
            owed += 1
            assert content_type is not None
            response = bench.decoded(answers[0], content_type)["operation"]["response"]
            if judgement.request_id is not None:
                assert response["id"] == judgement.request_id
    assert owed > FRAMES // 4
